package cgroup

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	killRounds = 200
	killPause  = 10 * time.Millisecond
	procsFile  = "/cgroup.procs"
	// membersSize holds all pids of a group: there are fewer than a thousand, see Mount.
	membersSize = 32 << 10
)

// Group holds a command and all that descends from it.
type Group struct {
	// Root is the command's process.
	Root  int
	tree  *Tree
	dir   string
	ended atomic.Bool

	mu    sync.Mutex // whoever uses a file holds it, so that nobody reads another group's under a number used again
	procs int        // its file `cgroup.procs`; -1 when it is not open
	limit int        // its file `pids.max`; the same
}

// makeGroup makes the directory of a group and opens what is needed of it. Among hundreds of runnable processes each
// system call waits its turn, tens of milliseconds: open files make one out of three.
func makeGroup(tree *Tree, dir string) (*Group, error) {
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	g := &Group{tree: tree, dir: dir, procs: -1, limit: -1}
	var err error
	if g.procs, err = unix.Open(dir+procsFile, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		g.limit, err = unix.Open(dir+"/pids.max", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		g.remove()
	}
	return g, err
}

// remove says whether the group is gone: nobody lives in it.
func (g *Group) remove() bool {
	if unix.Rmdir(g.dir) != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = unix.Close(g.procs)
	_ = unix.Close(g.limit)
	g.procs, g.limit = -1, -1
	return true
}

// End says that the command itself is gone. The group goes with the last of those it left behind.
func (g *Group) End() {
	g.ended.Store(true)
	g.tree.Sweep()
}

// Members lists the processes, those included that wait to be reaped.
func (g *Group) Members() []int {
	text := make([]byte, membersSize)
	n := g.readProcs(text)
	var pids []int
	self := os.Getpid()
	for field := range bytes.FieldsSeq(text[:n]) {
		if pid, err := strconv.Atoi(string(field)); err == nil && pid > 1 && pid != self {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Kill ends everybody, and returns when nobody is left or after two seconds. First nobody may fork any more: a
// child born while its process group is killed would live on. A fork bomb is in the process group of its command,
// and one call ends that: in the middle of it each call waits its turn behind hundreds of others.
func (g *Group) Kill() {
	g.setLimit([]byte("0"))
	for range killRounds {
		_ = syscall.Kill(-g.Root, syscall.SIGKILL)
		members := g.Members()
		if len(members) == 0 {
			return
		}
		for _, pid := range members {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(killPause) // the kernel takes a killed process off the list a moment later
	}
}

// readProcs reads the list of pids and says how long it is; a group that is gone has none.
func (g *Group) readProcs(into []byte) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, err := unix.Pread(g.procs, into, 0)
	if err != nil {
		return 0
	}
	return n
}

// setLimit says how many tasks the group may have.
func (g *Group) setLimit(tasks []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, _ = unix.Pwrite(g.limit, tasks, 0)
}
