package paths

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"atoll.dev/envd/internal/users"
)

var someone = users.User{Name: "user", UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Home: "/home/user"}

func TestResolve(t *testing.T) {
	for _, row := range []struct{ path, workdir, want, err string }{
		{"", "", "/home/user", ""},
		{"", "/work", "/work", ""},
		{"", "~/w", "/home/user/w", ""},
		{"", "w", "/home/user/w", ""},
		{"~", "/work", "/home/user", ""},
		{"~/x", "/work", "/home/user/x", ""},
		{"x/y", "/work", "/home/user/x/y", ""},
		{"./x", "", "/home/user/x", ""},
		{"../x", "", "/home/x", ""},
		{"/a/../b", "", "/a/../b", ""},
		{"/tmp/", "", "/tmp/", ""},
		{"~root/x", "", "", "cannot expand user-specific home dir"},
		{"a\x00b", "", "", "NUL"},
	} {
		got, err := Resolve(row.path, someone, row.workdir)
		if row.err != "" {
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%q: got %v", row.path, err)
			}
		} else if err != nil || got != row.want {
			t.Errorf("%q: got %q %v, want %q", row.path, got, err, row.want)
		}
	}
}

func TestEnsureDirectory(t *testing.T) {
	base := t.TempDir()
	deep := filepath.Join(base, "a/b/c")
	if err := EnsureDirectory(deep, someone); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("%v %v", info, err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + "/below/deeper"} {
		if err := EnsureDirectory(path, someone); err == nil || err.Error() != "path is a file: "+file {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"", "~", "~/..", "a/../../b", "/x", "~y", "\x00"} {
		f.Add(seed, "/w")
	}
	f.Fuzz(func(t *testing.T, path, workdir string) {
		got, err := Resolve(path, someone, workdir)
		if err == nil && !strings.HasPrefix(got, "/") {
			t.Fatalf("Resolve(%q, %q) = %q is not absolute", path, workdir, got)
		}
	})
}
