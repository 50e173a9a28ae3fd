// Package paths holds the path rules every route shares (wire sheet §4), and making directories by them.
package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"atoll.dev/envd/internal/users"
)

// Resolve gives the absolute path a client means: empty → workdir or home, ~ → home, relative → under home.
// An absolute path stays as it is.
func Resolve(path string, user users.User, workdir string) (string, error) {
	switch {
	case strings.ContainsRune(path, 0):
		return "", errors.New("a path cannot contain a NUL byte")
	case path == "" && workdir != "":
		return Resolve(workdir, user, "")
	case path == "" || path == "~":
		return user.Home, nil
	case strings.HasPrefix(path, "~/"):
		return filepath.Join(user.Home, path[2:]), nil
	case strings.HasPrefix(path, "~"):
		return "", errors.New("cannot expand user-specific home dir")
	case strings.HasPrefix(path, "/"):
		return path, nil
	}
	return filepath.Join(user.Home, path), nil
}

// EnsureDirectory makes path and its missing parents, mode 0755, owned by user. It fails when one of them is
// a file.
func EnsureDirectory(path string, user users.User) error {
	info, err := os.Stat(path)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("path is a file: %s", path)
		}
		return nil
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrNotExist) {
		if parent := filepath.Dir(path); parent != path {
			if err := EnsureDirectory(parent, user); err != nil {
				return err
			}
		}
		return makeOwned(path, user)
	}
	return err
}

func makeOwned(path string, user users.User) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Lchown(path, int(user.UID), int(user.GID))
}
