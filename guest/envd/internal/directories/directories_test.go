package directories

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/users"
)

var me = users.User{Name: "me", UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}

func TestCleanName(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "./a/b/": "a/b", "/etc/x": "etc/x", "//a": "a", ".": ".", "": ".", "/": ".", "a/./b": "a/b", "a..b": "a..b",
	} {
		if got, err := cleanName(name); err != nil || got != want {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
	for _, name := range []string{"..", "../a", "a/../b", "a/..", "/../a", "a\x00"} {
		if got, err := cleanName(name); err == nil {
			t.Errorf("%q was taken as %q", name, got)
		}
	}
}

type item struct {
	name, link, content string
	kind                byte
	mode                int64
}

func archiveOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var buffer bytes.Buffer
	out := tar.NewWriter(&buffer)
	for _, i := range items {
		header := &tar.Header{Name: i.name, Linkname: i.link, Typeflag: i.kind, Mode: i.mode, Size: int64(len(i.content)), ModTime: time.Unix(1000, 0)}
		if err := out.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(i.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func unpackBytes(into string, archive []byte) (*Progress, error) {
	return unpackInto(into, me, bytes.NewReader(archive), 1<<20, func(Progress) {})
}

func TestUnpackMakesEveryKind(t *testing.T) {
	dir := t.TempDir()
	zeros := strings.Repeat("\x00", 3*blockSize)
	progress, err := unpackBytes(dir, archiveOf(t,
		item{name: "ro/", kind: tar.TypeDir, mode: 0o555},
		item{name: "ro/file", kind: tar.TypeReg, mode: 0o640, content: "hello"},
		item{name: "deep/without/parents", kind: tar.TypeReg, mode: 0o4755, content: "x"},
		item{name: "link", kind: tar.TypeSymlink, link: "/etc/passwd"},
		item{name: "hard", kind: tar.TypeLink, link: "ro/file"},
		item{name: "fifo", kind: tar.TypeFifo, mode: 0o600},
		item{name: "sparse", kind: tar.TypeReg, mode: 0o600, content: "a" + zeros},
	))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "ro"), 0o755)
	if progress.Entries != 7 || progress.Bytes != int64(7+len(zeros)) || !progress.Done {
		t.Errorf("%+v", progress)
	}
	for name, mode := range map[string]fs.FileMode{
		"ro": fs.ModeDir | 0o555, "ro/file": 0o640, "deep/without": fs.ModeDir | 0o755, "deep/without/parents": 0o755,
		"link": fs.ModeSymlink | 0o777, "fifo": fs.ModeNamedPipe | 0o600,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if content, _ := os.ReadFile(filepath.Join(dir, "hard")); string(content) != "hello" {
		t.Errorf("hard link %q", content)
	}
	if content, _ := os.ReadFile(filepath.Join(dir, "sparse")); string(content) != "a"+zeros {
		t.Errorf("sparse file of %d bytes", len(content))
	}
	if info, _ := os.Stat(filepath.Join(dir, "ro")); info.ModTime().Unix() != 1000 {
		t.Errorf("directory time %v", info.ModTime())
	}
}

func TestUnpackReplaces(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "victim")
	for _, err := range []error{
		os.WriteFile(elsewhere, []byte("mine"), 0o600), os.Symlink(elsewhere, filepath.Join(dir, "a")),
		os.WriteFile(filepath.Join(dir, "b"), nil, 0o600), os.MkdirAll(filepath.Join(dir, "c/d"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := unpackBytes(dir, archiveOf(t,
		item{name: "a", kind: tar.TypeReg, mode: 0o644, content: "new"},
		item{name: "b/", kind: tar.TypeDir, mode: 0o755},
		item{name: "c", kind: tar.TypeReg, mode: 0o644, content: "c"},
	))
	if err != nil {
		t.Fatal(err)
	}
	if content, _ := os.ReadFile(elsewhere); string(content) != "mine" {
		t.Error("written through a link")
	}
	if info, _ := os.Lstat(filepath.Join(dir, "a")); !info.Mode().IsRegular() {
		t.Error("the link stayed")
	}
}

func TestSmallFilesSideBySideAreInOrder(t *testing.T) {
	dir := t.TempDir()
	var items []item
	for n := range 3000 {
		name := fmt.Sprintf("d%d/f%d", n%7, n/10) // each comes several times
		items = append(items, item{name: name, kind: tar.TypeReg, mode: 0o600, content: fmt.Sprint(n)})
		if n%500 == 499 {
			items = append(items, item{name: "same" + fmt.Sprint(n), kind: tar.TypeLink, link: name},
				item{name: name + "x", kind: tar.TypeReg, content: "a file"},
				item{name: name + "x/below", kind: tar.TypeReg, content: "and now a directory"})
		}
	}
	progress, err := unpackBytes(dir, archiveOf(t, items...))
	if err != nil || progress.Entries != int64(len(items)) {
		t.Fatalf("%+v %v", progress, err)
	}
	want := map[string]string{}
	for _, i := range items {
		want[i.name] = i.content
		if i.kind == tar.TypeLink {
			want[i.name] = want[i.link]
		}
	}
	for _, i := range items {
		content, err := os.ReadFile(filepath.Join(dir, i.name))
		if string(content) != want[i.name] && i.content != "a file" {
			t.Errorf("%s: %q, not %q: %v", i.name, content, want[i.name], err)
		}
	}
}

func TestNothingEscapes(t *testing.T) {
	for name, items := range map[string][]item{
		"a way up":                 {{name: "../out", kind: tar.TypeReg, content: "x"}},
		"a way up in the middle":   {{name: "a/../../out", kind: tar.TypeReg, content: "x"}},
		"through a link":           {{name: "l", kind: tar.TypeSymlink, link: ".."}, {name: "l/out", kind: tar.TypeReg, content: "x"}},
		"through an absolute link": {{name: "l", kind: tar.TypeSymlink, link: "/tmp"}, {name: "l/atoll-escaped", kind: tar.TypeReg, content: "x"}},
		"a hard link to outside":   {{name: "h", kind: tar.TypeLink, link: "../secret"}},
		"a file too large":         {{name: "f", kind: tar.TypeReg, content: strings.Repeat("x", 1<<20+1)}},
		"a device":                 {{name: "d", kind: tar.TypeChar}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "in")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(base, "secret"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			progress, err := unpackBytes(dir, archiveOf(t, items...))
			if err == nil {
				t.Fatal("it was unpacked")
			}
			if failure := unpackFailure(err, progress); failure.Status != 400 {
				t.Errorf("answered %d %s", failure.Status, failure.Message)
			}
			if left, _ := os.ReadDir(base); len(left) != 2 {
				t.Errorf("left outside: %v", left)
			}
		})
	}
}

func TestABrokenArchiveLeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	whole := archiveOf(t, item{name: "a", kind: tar.TypeReg, mode: 0o600, content: strings.Repeat("x", 5000)})
	progress, err := unpackBytes(dir, whole[:2000])
	if err == nil || unpackFailure(err, progress).Status != 400 {
		t.Fatalf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if failure := unpackFailure(syscall.ENOSPC, progress); failure.Status != 507 {
		t.Errorf("full disk: %d", failure.Status)
	}
}

func TestWhatGoesOutComesInAgain(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	long := strings.Repeat("n", 255)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(from, "a/b"), 0o755), os.WriteFile(filepath.Join(from, "a/b/c"), []byte("data"), 0o600),
		os.WriteFile(filepath.Join(from, long), []byte("long"), 0o644), os.WriteFile(filepath.Join(from, "\xff\xfe"), nil, 0o644),
		os.Symlink("a/b/c", filepath.Join(from, "link")), os.Link(filepath.Join(from, "a/b/c"), filepath.Join(from, "again")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"tar", "tar.gz"} {
		var buffer bytes.Buffer
		if err := New(identity.NewStore(users.System)).write(&buffer, from, format); err != nil {
			t.Fatal(err)
		}
		if progress, err := unpackBytes(to, buffer.Bytes()); err != nil || progress.Entries != 7 {
			t.Fatalf("%s: %+v %v", format, progress, err)
		}
	}
	first, _ := os.Stat(filepath.Join(to, "a/b/c"))
	again, _ := os.Stat(filepath.Join(to, "again"))
	if !os.SameFile(first, again) || first.Mode() != 0o600 {
		t.Error("the hard link or the mode was lost")
	}
	if target, _ := os.Readlink(filepath.Join(to, "link")); target != "a/b/c" {
		t.Errorf("link to %q", target)
	}
	for _, name := range []string{long, "\xff\xfe"} {
		if _, err := os.Lstat(filepath.Join(to, name)); err != nil {
			t.Error(err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, item{name: "a/b", kind: tar.TypeReg, mode: 0o644, content: "x"}, item{name: "l", kind: tar.TypeSymlink, link: "../.."}, item{name: "l/x", kind: tar.TypeReg, content: "y"}))
	f.Add(archiveOf(f, item{name: "d/", kind: tar.TypeDir, mode: 0o755}, item{name: "h", kind: tar.TypeLink, link: "d"}))
	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	_, _ = writer.Write(archiveOf(f, item{name: "z", kind: tar.TypeReg, content: "z"}))
	_ = writer.Close()
	f.Add(compressed.Bytes())
	f.Fuzz(func(t *testing.T, archive []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = unpackBytes(dir, archive)
		if left, _ := os.ReadDir(base); len(left) != 1 {
			t.Fatalf("left outside: %v", left)
		}
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o755) // or the directory cannot be removed
			}
			return nil
		})
	})
}
