package placing

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"atoll.dev/envd/internal/users"
)

var me = Options{Owner: users.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := Write(path, strings.NewReader(content), me); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestANewFileAndItsDirectories(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/b/c.txt")
	write(t, path, "hello")
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 || read(t, path) != "hello" {
		t.Errorf("%v %v", info, err)
	}
}

func TestAnExistingFileKeepsItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	write(t, path, "a long content")
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, path, "short")
	if info, _ := os.Stat(path); info.Mode() != 0o750 || read(t, path) != "short" {
		t.Errorf("%v", info.Mode())
	}
}

func TestALinkIsWrittenThrough(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o755), os.Symlink("real/file", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "link"), "x")
	if info, _ := os.Lstat(filepath.Join(dir, "link")); info.Mode()&os.ModeSymlink == 0 || read(t, filepath.Join(dir, "real/file")) != "x" {
		t.Error("the link was replaced")
	}
}

func TestAnotherNameOfTheFileSeesTheContent(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "old")
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a"), "new")
	if read(t, filepath.Join(dir, "b")) != "new" {
		t.Error("the names have parted")
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	_, directory := errors.AsType[*DirectoryError](Write(filepath.Join(dir, "file/below"), strings.NewReader(""), me))
	for name, ok := range map[string]bool{
		"a directory":             errors.Is(Write(dir, strings.NewReader(""), me), ErrIsDirectory),
		"a name with a slash":     errors.Is(Write(dir+"/new/", strings.NewReader(""), me), ErrIsDirectory),
		"below a file":            directory,
		"a loop of links":         errors.Is(Write(filepath.Join(dir, "loop"), strings.NewReader(""), me), syscall.ELOOP),
		"a name that is too long": errors.Is(Write(filepath.Join(dir, strings.Repeat("x", 256)), strings.NewReader(""), me), syscall.ENAMETOOLONG),
	} {
		if !ok {
			t.Errorf("%s was taken, or failed otherwise", name)
		}
	}
}

func TestABrokenUploadLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "old"), "whole")
	for _, name := range []string{"old", "new"} {
		err := Write(filepath.Join(dir, name), io.MultiReader(strings.NewReader("half"), broken{}), me)
		if _, ok := errors.AsType[*ReceiveError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, dir); len(got) != 1 || read(t, filepath.Join(dir, "old")) != "whole" {
		t.Errorf("left: %v", got)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAFullDisk(t *testing.T) {
	if err := outOfSpace(t.TempDir(), syscall.EIO, 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	full, ok := errors.AsType[*FullError](outOfSpace(t.TempDir(), syscall.ENOSPC, 7))
	if !ok || full.Error() != "attempted to write 7 bytes: not enough disk space available" {
		t.Errorf("%v", full)
	}
}

func TestTemporaryNames(t *testing.T) {
	for _, existed := range []bool{true, false} {
		name := filepath.Base(temporaryName("/d/x", existed))
		if !IsTemporary(name) || Replaces(name) != existed || len(name) > 255 {
			t.Errorf("%s", name)
		}
	}
}
