package placing

import (
	"crypto/rand"
	"path/filepath"
	"strings"
)

// Temporary files say in their name what their renaming means, so that our own watchers can tell an upload
// from a rename: a new file is created, an existing one written.
const (
	temporaryPrefix = ".atoll-upload-"
	newSuffix       = ".new"
	oldSuffix       = ".old"
)

func temporaryName(target string, existed bool) string {
	suffix := newSuffix
	if existed {
		suffix = oldSuffix
	}
	return filepath.Join(filepath.Dir(target), temporaryPrefix+rand.Text()+suffix)
}

// IsTemporary recognises the name of an upload under way.
func IsTemporary(name string) bool { return strings.HasPrefix(name, temporaryPrefix) }

// Replaces says whether the upload of that name writes over an existing file.
func Replaces(name string) bool { return strings.HasSuffix(name, oldSuffix) }
