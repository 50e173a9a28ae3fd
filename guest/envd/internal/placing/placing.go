// Package placing puts a file's content in its place whole or not at all: it is written beside the target and
// renamed over it. Parents are made as the wire sheet says (§3.2).
package placing

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"atoll.dev/envd/internal/metadata"
	"atoll.dev/envd/internal/paths"
	"atoll.dev/envd/internal/users"
)

// Options of one write.
type Options struct {
	Owner users.User
	// Metadata replaces the file's whole set.
	Metadata map[string]string
}

// Write puts content at target, an absolute path. An existing file keeps its mode and gets the owner.
func Write(target string, content io.Reader, options Options) error {
	target, existing, err := settle(target)
	if err != nil {
		return err
	}
	if existing != nil && !replaceable(existing) {
		return writeInPlace(target, content, options)
	}
	if err := paths.EnsureDirectory(filepath.Dir(target), options.Owner); err != nil {
		return &DirectoryError{err}
	}
	mode := fs.FileMode(0o644)
	if existing != nil {
		mode = existing.Mode()
	}
	return writeBeside(target, mode, existing != nil, content, options)
}

// settle follows links, so that writing to a link replaces what it points to and not the link.
func settle(target string) (string, fs.FileInfo, error) {
	for range 40 {
		info, err := os.Lstat(target)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			if len(target) > 1 && target[len(target)-1] == '/' {
				return target, nil, ErrIsDirectory
			}
			return target, nil, nil
		}
		if err != nil {
			return target, nil, err
		}
		if info.IsDir() {
			return target, nil, ErrIsDirectory
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return target, info, nil
		}
		link, err := os.Readlink(target)
		if err != nil {
			return target, nil, err
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(target), link)
		}
		target = link
	}
	return target, nil, &fs.PathError{Op: "open", Path: target, Err: syscall.ELOOP}
}

// replaceable: a device is no file to replace, and another name of the same file must see the new content too.
func replaceable(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && (!ok || stat.Nlink < 2)
}

func writeBeside(target string, mode fs.FileMode, existed bool, content io.Reader, options Options) error {
	file, err := os.OpenFile(temporaryName(target, existed), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return outOfSpace(filepath.Dir(target), err, 0)
	}
	written, err := copyContent(file, content)
	if err == nil {
		err = finish(file, mode, options)
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), target)
	}
	if err != nil {
		// Before the space is counted: the half-written file is what fills the disk.
		failure := outOfSpace(filepath.Dir(target), err, written)
		_ = os.Remove(file.Name())
		return failure
	}
	return nil
}

func writeInPlace(target string, content io.Reader, options Options) error {
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_TRUNC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	written, err := copyContent(file, content)
	if info, statErr := file.Stat(); err == nil && statErr == nil && info.Mode().IsRegular() {
		err = finish(file, info.Mode(), options)
	}
	return outOfSpace(filepath.Dir(target), errors.Join(err, file.Close()), written)
}

// bufferSize: a system call is dear in a sandbox.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// copyContent tells apart who failed: the sender or the disk.
func copyContent(file *os.File, content io.Reader) (int64, error) {
	source := &watched{reader: content}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	// The file is hidden behind a plain writer: its own way to copy takes a small buffer.
	written, err := io.CopyBuffer(struct{ io.Writer }{file}, source, buffer[:])
	if err != nil && source.err != nil {
		return written, &ReceiveError{source.err}
	}
	return written, err
}

type watched struct {
	reader io.Reader
	err    error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		w.err = err
	}
	return n, err
}

func finish(file *os.File, mode fs.FileMode, options Options) error {
	if err := metadata.Replace(file, options.Metadata); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := file.Chown(int(options.Owner.UID), int(options.Owner.GID)); err != nil {
			return fmt.Errorf("setting the owner: %w", err)
		}
	}
	return file.Chmod(mode.Perm() | mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
}
