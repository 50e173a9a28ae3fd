package placing

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrIsDirectory: the target is a directory.
var ErrIsDirectory = errors.New("path is a directory")

// FullError: the disk has no room, or no inodes.
type FullError struct {
	Inodes  bool
	Written int64 // bytes that went in before it was full
}

func (e *FullError) Error() string {
	if e.Inodes {
		return "not enough inodes available"
	}
	return fmt.Sprintf("attempted to write %d bytes: not enough disk space available", e.Written)
}

// ReceiveError: the content broke off; the disk is not to blame.
type ReceiveError struct{ Cause error }

func (e *ReceiveError) Error() string { return e.Cause.Error() }

// Unwrap gives the reader's own error.
func (e *ReceiveError) Unwrap() error { return e.Cause }

// DirectoryError: a parent directory could not be made.
type DirectoryError struct{ Cause error }

func (e *DirectoryError) Error() string { return e.Cause.Error() }

// Unwrap gives the cause.
func (e *DirectoryError) Unwrap() error { return e.Cause }

// outOfSpace recognises a full file system in err and finds out what it lacks.
func outOfSpace(directory string, err error, written int64) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	var fs unix.Statfs_t
	noInodes := unix.Statfs(directory, &fs) == nil && fs.Files > 0 && fs.Ffree == 0
	return &FullError{Inodes: noInodes, Written: written}
}
