package cgroup

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	killRounds = 200
	killPause  = 10 * time.Millisecond
	limitFile  = "/pids.max"
)

// Group holds a command and all that descends from it.
type Group struct {
	// Root is the command's process.
	Root  int
	tree  *Tree
	dir   string
	ended atomic.Bool
}

// End says that the command itself is gone. The group goes with the last of those it left behind.
func (g *Group) End() {
	g.ended.Store(true)
	g.tree.Sweep()
}

// Members lists the processes, those included that wait to be reaped.
func (g *Group) Members() []int {
	text, err := os.ReadFile(g.dir + "/cgroup.procs")
	if err != nil {
		return nil
	}
	var pids []int
	self := os.Getpid()
	for field := range bytes.FieldsSeq(text) {
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
	_ = write(g.dir+limitFile, "0")
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

func write(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
