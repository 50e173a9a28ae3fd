package files

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"syscall"

	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/reply"
)

// writeFailure says why a file could not be written. size is what the client meant to send, -1 when unknown.
func writeFailure(path string, err error, size int64) *reply.Failure {
	if full, ok := errors.AsType[*placing.FullError](err); ok {
		if full.Inodes {
			return reply.Failf(http.StatusInsufficientStorage, "not enough inodes available")
		}
		return reply.Failf(http.StatusInsufficientStorage,
			"attempted to write %d bytes: not enough disk space available", max(size, full.Written))
	}
	if received, ok := errors.AsType[*placing.ReceiveError](err); ok {
		if errors.Is(received, io.ErrUnexpectedEOF) {
			return reply.Failf(http.StatusBadRequest, "the body of '%s' ends too early; nothing was written", path)
		}
		return reply.Failf(http.StatusBadRequest, "error reading the body of '%s': %v; nothing was written", path, received.Cause)
	}
	if directories, ok := errors.AsType[*placing.DirectoryError](err); ok {
		return reply.Failf(http.StatusInternalServerError, "error ensuring directories: %v", directories.Cause)
	}
	switch {
	case errors.Is(err, placing.ErrIsDirectory):
		return reply.Failf(http.StatusBadRequest, "path is a directory: %s", path)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return reply.Failf(http.StatusBadRequest, "error opening file: %v", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return reply.Failf(http.StatusForbidden, "error opening file: %v", err)
	}
	return reply.Failf(http.StatusInternalServerError, "error writing file: %v", err)
}
