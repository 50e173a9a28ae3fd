// Package metadata keeps a file's metadata (wire sheet §3.3) as extended attributes user.e2b.<key>.
package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	headerPrefix = "X-Metadata-"
	prefix       = "user.e2b."
	maxKey       = 246
	maxTotal     = 4096
)

// FromHeader reads X-Metadata-<key> headers. It returns nil when there are none; every error is the caller's.
func FromHeader(header http.Header) (map[string]string, error) {
	var found map[string]string
	total := 0
	for name, values := range header {
		if len(name) < len(headerPrefix) || !strings.EqualFold(name[:len(headerPrefix)], headerPrefix) {
			continue
		}
		key, value := strings.ToLower(name[len(headerPrefix):]), values[0]
		if err := check(key, value); err != nil {
			return nil, fmt.Errorf("invalid metadata: %w", err)
		}
		if total += len(key) + len(value); total > maxTotal {
			return nil, fmt.Errorf("invalid metadata: more than %d bytes of keys and values", maxTotal)
		}
		if found == nil {
			found = map[string]string{}
		}
		found[key] = value
	}
	return found, nil
}

func check(key, value string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("key %q must have 1 to %d characters", key, maxKey)
	}
	if strings.ContainsFunc(key, func(r rune) bool { return !isToken(r) }) {
		return fmt.Errorf("key %q has characters that are not allowed", key)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return fmt.Errorf("value of %q must be printable ASCII", key)
	}
	return nil
}

func isToken(r rune) bool {
	return r > 0x20 && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// Read gives a file's metadata; nil when it has none or its file system keeps none.
func Read(path string) map[string]string {
	return read(
		func(list []byte) (int, error) { return unix.Listxattr(path, list) },
		func(name string, value []byte) (int, error) { return unix.Getxattr(path, name, value) },
	)
}

func readOpen(fd int) map[string]string {
	return read(
		func(list []byte) (int, error) { return unix.Flistxattr(fd, list) },
		func(name string, value []byte) (int, error) { return unix.Fgetxattr(fd, name, value) },
	)
}

func read(list func([]byte) (int, error), get func(string, []byte) (int, error)) map[string]string {
	size, err := list(nil)
	if err != nil || size == 0 {
		return nil
	}
	names := make([]byte, size)
	if size, err = list(names); err != nil {
		return nil
	}
	var found map[string]string
	for name := range bytes.SplitSeq(names[:size], []byte{0}) {
		key, ours := bytes.CutPrefix(name, []byte(prefix))
		if !ours {
			continue
		}
		value := make([]byte, maxTotal)
		if n, err := get(string(name), value); err == nil {
			if found == nil {
				found = map[string]string{}
			}
			found[string(key)] = string(value[:n])
		}
	}
	return found
}

// Replace makes the file's metadata exactly this set.
func Replace(file *os.File, set map[string]string) error {
	fd := int(file.Fd())
	for _, key := range slices.Sorted(maps.Keys(set)) {
		err := unix.Fsetxattr(fd, prefix+key, []byte(set[key]), 0)
		if errors.Is(err, unix.ENOTSUP) {
			return errors.New("metadata cannot be stored: this file system has no extended attributes; upload without metadata, or to another place")
		}
		if err != nil {
			return fmt.Errorf("storing metadata %q: %w", key, err)
		}
	}
	for key := range readOpen(fd) {
		if _, keep := set[key]; !keep {
			if err := unix.Fremovexattr(fd, prefix+key); err != nil {
				return fmt.Errorf("removing metadata %q: %w", key, err)
			}
		}
	}
	return nil
}
