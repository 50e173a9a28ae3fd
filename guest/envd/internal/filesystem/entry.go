package filesystem

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/metadata"
	"atoll.dev/envd/internal/users"
)

// Entry is EntryInfo.
type Entry struct {
	Name          string            `json:"name"`
	Type          string            `json:"type,omitempty"`
	Path          string            `json:"path"`
	Size          connectrpc.Int64  `json:"size"`
	Mode          uint32            `json:"mode"`
	Permissions   string            `json:"permissions"`
	Owner         string            `json:"owner"`
	Group         string            `json:"group"`
	ModifiedTime  time.Time         `json:"modifiedTime"`
	SymlinkTarget string            `json:"symlinkTarget,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	IsSymlink     bool              `json:"isSymlink,omitempty"`
}

// Entry types of the wire. An entry that is neither a file nor a directory has none.
const (
	typeFile      = "FILE_TYPE_FILE"
	typeDirectory = "FILE_TYPE_DIRECTORY"
)

// Describe makes the entry of a path. A link has its own size and permission text, its target's type and mode.
func Describe(path string, names *users.Names) (*Entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	entry := &Entry{
		Name: filepath.Base(path), Path: path, Type: typeOf(info.Mode()), Size: connectrpc.Int64(info.Size()),
		Mode: uint32(info.Mode().Perm()), Permissions: info.Mode().String(), ModifiedTime: info.ModTime().UTC(),
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		entry.Owner, entry.Group = names.User(owner.Uid), names.Group(owner.Gid)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		entry.followLink(path)
	}
	if entry.Type == typeFile {
		entry.Metadata = metadata.Read(path)
	}
	return entry, nil
}

func (e *Entry) followLink(path string) {
	e.IsSymlink = true
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		// A broken link still says where it points.
		e.SymlinkTarget, _ = os.Readlink(path)
		return
	}
	e.SymlinkTarget = target
	if info, err := os.Stat(target); err == nil {
		e.Type, e.Mode = typeOf(info.Mode()), uint32(info.Mode().Perm())
	}
}

func typeOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return typeFile
	case mode.IsDir():
		return typeDirectory
	}
	return ""
}
