package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The guard may still be ending a group when the last of it has died and the group is removed. What it does then must
// not fall on the group whose files got the same numbers.
func TestAGroupThatIsGoneTouchesNobody(t *testing.T) {
	files := t.TempDir()
	file := func(name, text string) int {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	dir := filepath.Join(files, "group")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	procs, limit := file("procs", "4242\n"), file("limit", "900")
	g := &Group{dir: dir, procs: procs, limit: limit}
	if members := g.Members(); len(members) != 1 || members[0] != 4242 {
		t.Fatal(members)
	}
	if !g.remove() {
		t.Fatal("not removed")
	}
	for number, next := range map[int]int{procs: file("next.procs", "4343\n"), limit: file("next.limit", "900")} {
		if next == number {
			continue
		}
		if err := unix.Dup3(next, number, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	if members := g.Members(); len(members) != 0 {
		t.Fatal("another group's", members)
	}
	g.setLimit([]byte("0"))
	if limit, _ := os.ReadFile(filepath.Join(files, "next.limit")); string(limit) != "900" {
		t.Fatal("another group's limit", string(limit))
	}
}
