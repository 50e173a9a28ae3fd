package filesystem

import (
	"bufio"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/users"
)

// ListDirRequest lists a directory; depth 0 means 1.
type ListDirRequest struct {
	Path  string            `json:"path"`
	Depth connectrpc.Uint32 `json:"depth"`
}

// listing writes its entries as it finds them: a directory of 100,000 never lies in memory whole.
type listing struct {
	path  string
	first []fs.DirEntry
	depth int
	names *users.Names
}

func (s *Service) listDir(call *connectrpc.Call, request *ListDirRequest) (*listing, error) {
	path, _, err := s.resolve(call, request.Path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, coded(err, "directory not found")
	}
	if !info.IsDir() {
		return nil, connectrpc.Errorf(connectrpc.InvalidArgument, "path is not a directory: %s", path)
	}
	first, err := os.ReadDir(path)
	if err != nil {
		return nil, coded(err, "directory not found")
	}
	return &listing{path, first, max(int(request.Depth), 1), s.identity.Accounts().Names()}, nil
}

// WriteJSON writes the response, depth first in lexical order. Entries that vanish meanwhile are left out.
func (l *listing) WriteJSON(w io.Writer) error {
	out := bufio.NewWriterSize(w, 32<<10)
	_, _ = out.WriteString(`{"entries":[`)
	comma := false
	l.walk(l.path, l.first, l.depth, func(entry *Entry) {
		text, err := json.Marshal(entry)
		if err != nil {
			return
		}
		if comma {
			_ = out.WriteByte(',')
		}
		comma = true
		_, _ = out.Write(text) // a failure sticks to the writer and comes out of Flush
	})
	_, _ = out.WriteString("]}")
	return out.Flush()
}

func (l *listing) walk(directory string, children []fs.DirEntry, depth int, visit func(*Entry)) {
	for _, child := range children {
		if placing.IsTemporary(child.Name()) {
			continue // an upload under way is no file yet
		}
		path := filepath.Join(directory, child.Name())
		entry, err := Describe(path, l.names)
		if err != nil {
			continue
		}
		visit(entry)
		if child.IsDir() && depth > 1 {
			grandchildren, _ := os.ReadDir(path)
			l.walk(path, grandchildren, depth-1, visit)
		}
	}
}
