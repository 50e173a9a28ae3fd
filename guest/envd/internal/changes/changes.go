// Package changes answers GET /changes: what was changed in the file system since the sandbox started, or
// since a mark an earlier answer gave. It compares change times, which nobody can set back. A removal shows
// as a change of the directory it was in.
package changes

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"atoll.dev/envd/internal/files"
	"atoll.dev/envd/internal/filesystem"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/reply"
)

// grain: a kernel's file times lag behind its clock by up to a tick. A mark reaches back over it, so that a
// change may be told twice but never missed.
const grain = 10 * time.Millisecond

// virtual are directories whose files are no files.
var virtual = map[string]bool{"/proc": true, "/sys": true, "/dev": true, "/.atoll": true}

// Service serves the route.
type Service struct{ identity *identity.Store }

// New makes the service.
func New(identity *identity.Store) *Service { return &Service{identity} }

// ServeHTTP answers {"since": ms, "changes": [EntryInfo…], "mark": "ms"}; ?path= limits it to a directory.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	since, root, failure := s.read(r)
	if failure != nil {
		reply.Error(w, failure)
		return
	}
	mark := time.Now().Add(-grain)
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	_, _ = out.WriteString(`{"since":` + strconv.FormatInt(since.UnixMilli(), 10) + `,"changes":[`)
	err := s.each(r, root, since, entryWriter(out))
	if err != nil {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
	_, _ = out.WriteString(`],"mark":"` + strconv.FormatInt(mark.UnixMilli(), 10) + `"}`)
	_ = out.Flush()
}

func entryWriter(out *bufio.Writer) func(*filesystem.Entry) {
	first := true
	return func(entry *filesystem.Entry) {
		text, err := json.Marshal(entry)
		if err != nil {
			return
		}
		if !first {
			_ = out.WriteByte(',')
		}
		first = false
		_, _ = out.Write(text)
	}
}

func (s *Service) read(r *http.Request) (since time.Time, root string, failure *reply.Failure) {
	query := r.URL.Query()
	since = s.identity.Started()
	if text := query.Get("since"); text != "" && text != "start" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return since, "", reply.Failf(http.StatusBadRequest, "since must be start, a mark, or milliseconds since 1970, not %q", text)
		}
		since = time.UnixMilli(ms)
	}
	if !query.Has("path") {
		return since, "/", nil
	}
	user, failure := files.User(s.identity, query.Get("username"))
	if failure != nil {
		return since, "", failure
	}
	root, failure = files.Resolve(s.identity, query.Get("path"), user)
	if failure != nil {
		return since, "", failure
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return since, "", reply.Failf(http.StatusNotFound, "directory '%s' does not exist", root)
	}
	return since, root, nil
}

// each visits what changed at or after since, depth first.
func (s *Service) each(r *http.Request, root string, since time.Time, visit func(*filesystem.Entry)) error {
	names := s.identity.Accounts().Names()
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		if err != nil || placing.IsTemporary(d.Name()) {
			return nil //nolint:nilerr // gone meanwhile, or not for us
		}
		if virtual[path] {
			return fs.SkipDir
		}
		if changedSince(d, since) {
			if entry, err := filesystem.Describe(path, names); err == nil {
				visit(entry)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func changedSince(d fs.DirEntry, since time.Time) bool {
	info, err := d.Info()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && !time.Unix(stat.Ctim.Unix()).Before(since)
}
