package directories

import (
	"fmt"
	"path"
	"strings"
)

// cleanName gives an entry's place below the target directory, "." for the directory itself. A leading slash
// is dropped, as tar does; a way up is refused, though it may lead back in.
func cleanName(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("the name %q contains a NUL byte", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("the name %q leads out of the directory", name)
		}
	}
	return path.Clean("./" + strings.TrimLeft(name, "/")), nil
}
