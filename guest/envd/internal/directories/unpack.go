package directories

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"atoll.dev/envd/internal/paths"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/users"
)

// Progress of an unpacking: bytes of the request received, bytes of files written, entries made.
type Progress struct {
	Path     string `json:"path"`
	Received int64  `json:"received"`
	Bytes    int64  `json:"bytes"`
	Entries  int64  `json:"entries"`
	Done     bool   `json:"done"`
}

// progressGap is the least time between two progress lines.
const progressGap = 100 * time.Millisecond

// linesType: who accepts it gets a line of progress now and then, the last one with "done", or an error line.
const linesType = "application/x-ndjson"

func (s *Service) unpack(w http.ResponseWriter, r *http.Request, path string, user users.User) *reply.Failure {
	if err := paths.EnsureDirectory(path, user); err != nil {
		return unpackFailure(err, &Progress{Path: path})
	}
	report := func(Progress) {}
	lines := strings.Contains(r.Header.Get("Accept"), linesType)
	if lines {
		report = reportLines(w)
	}
	progress, err := unpackInto(path, user, r.Body, largestFile, report)
	var failure *reply.Failure
	if err != nil {
		failure = unpackFailure(err, progress)
		_, _ = io.Copy(io.Discard, r.Body) // clients read the answer only after sending everything
	}
	if !lines {
		if failure == nil {
			reply.JSON(w, progress)
		}
		return failure
	}
	if failure != nil {
		_ = json.NewEncoder(w).Encode(map[string]any{"code": failure.Status, "message": failure.Message})
		return nil
	}
	_ = json.NewEncoder(w).Encode(progress)
	return nil
}

func reportLines(w http.ResponseWriter) func(Progress) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // else the first line would swallow the rest of the request
	w.Header().Set("Content-Type", linesType)
	var last time.Time
	return func(p Progress) {
		if time.Since(last) >= progressGap {
			last = time.Now()
			_ = json.NewEncoder(w).Encode(p)
			_ = control.Flush()
		}
	}
}

// unpackInto unpacks a tar, compressed with gzip or not, into an existing directory.
func unpackInto(path string, user users.User, body io.Reader, largest int64, report func(Progress)) (*Progress, error) {
	progress := &Progress{Path: path}
	root, err := os.OpenRoot(path)
	if err != nil {
		return progress, err
	}
	defer root.Close()
	content, err := plain(&counted{body, &progress.Received})
	if err != nil {
		return progress, err
	}
	u := &unpacking{
		root: root, user: user, progress: progress, largest: largest,
		made: map[string]bool{".": true}, privileged: os.Geteuid() == 0,
	}
	defer u.closeParent()
	u.crew = newCrew(u.writeSmall)
	err = u.entries(tar.NewReader(content), report)
	if failed := u.crew.dismiss(); failed != nil {
		err = failed
	}
	if err == nil {
		progress.Done = true
		err = u.settleDirectories()
	}
	return progress, err
}

func (u *unpacking) entries(archive *tar.Reader, report func(Progress)) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &archiveError{"reading the archive", err}
		}
		if err := u.entry(header, archive); err != nil {
			return err
		}
		u.progress.Entries++
		report(*u.progress)
	}
}

// plain looks at the first bytes, so that no header has to say whether the archive is compressed.
func plain(body io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(body, 64<<10)
	magic, _ := buffered.Peek(2)
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return buffered, nil
	}
	content, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, &archiveError{"reading the archive", err}
	}
	return content, nil
}

type counted struct {
	reader io.Reader
	count  *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	*c.count += int64(n)
	return n, err
}

// archiveError is a fault of the archive or of its sender.
type archiveError struct {
	what  string
	cause error
}

func (e *archiveError) Error() string { return e.what + ": " + e.cause.Error() }
func (e *archiveError) Unwrap() error { return e.cause }

func unpackFailure(err error, p *Progress) *reply.Failure {
	done := func(status int, format string, args ...any) *reply.Failure {
		return reply.Failf(status, format+" (%d entries were unpacked before)", append(args, p.Entries)...)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return done(http.StatusInsufficientStorage, "attempted to write %d bytes: not enough disk space available", p.Bytes)
	case strings.HasPrefix(err.Error(), "path is a file"):
		return reply.Failf(http.StatusBadRequest, "%v", err)
	}
	if fault, ok := errors.AsType[*archiveError](err); ok {
		return done(http.StatusBadRequest, "%v", fault)
	}
	if strings.Contains(err.Error(), "path escapes from parent") {
		return done(http.StatusBadRequest, "an entry leads out of the directory: %v", err)
	}
	return done(http.StatusInternalServerError, "unpacking: %v", err)
}
