package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Tree is the hierarchy with a group for each command. A nil Tree has no groups.
type Tree struct {
	dir     string
	home    int    // `cgroup.procs` of where the daemon is
	limit   []byte // of tasks in one group
	mu      sync.Mutex
	groups  []*Group // oldest first; those of ended commands too, as long as somebody they left behind lives
	counter int
}

// Mount mounts the hierarchy at dir. No group can have more tasks (processes and threads) than it is told.
func Mount(dir string, tasks int) (*Tree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("none", dir, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "pids"); err != nil {
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	all := filepath.Join(dir, "commands")
	if err := unix.Mkdir(all, 0o755); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: all, Err: err}
	}
	home, err := unix.Open(dir+procsFile, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir + procsFile, Err: err}
	}
	return &Tree{dir: all, home: home, limit: []byte(strconv.Itoa(tasks))}, nil
}

// Spawn starts a process in a new group. Without a hierarchy, or when the kernel refuses, there is none.
func (t *Tree) Spawn(start func() (pid int, err error)) (int, *Group, error) {
	if t == nil {
		pid, err := start()
		return pid, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	group := t.enter()
	pid, err := start()
	if group == nil {
		return pid, nil, err
	}
	_ = moveTo(t.home)
	if err != nil {
		group.remove()
		return 0, nil, err
	}
	group.Root = pid
	t.groups = append(t.groups, group)
	return pid, group, nil
}

func (t *Tree) enter() *Group {
	t.counter++
	group, err := makeGroup(t, filepath.Join(t.dir, strconv.Itoa(t.counter)))
	if err != nil {
		return nil
	}
	group.setLimit(t.limit)
	if moveTo(group.procs) != nil {
		group.remove()
		return nil
	}
	return group
}

// moveTo moves the daemon into the group that this `cgroup.procs` is of.
func moveTo(procs int) error {
	_, err := unix.Pwrite(procs, []byte(strconv.Itoa(os.Getpid())), 0)
	return err
}

// Groups lists the groups that somebody lives in.
func (t *Tree) Groups() []*Group {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
	return slices.Clone(t.groups)
}

// Sweep forgets the groups that nobody lives in any more.
func (t *Tree) Sweep() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep()
}

func (t *Tree) sweep() {
	t.groups = slices.DeleteFunc(t.groups, func(g *Group) bool { return g.ended.Load() && g.remove() })
}
