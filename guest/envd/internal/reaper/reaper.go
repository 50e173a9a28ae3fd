// Package reaper does what process 1 owes its kernel: every child and every orphan is waited for. Since
// waiting for any child steals the status from whoever waits for one, all processes are spawned here.
package reaper

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Reaper spawns processes and hands each its exit status.
type Reaper struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
	any     bool // as of the last look, there are children, orphans that fell to us included
	born    *sync.Cond
}

// System is the reaper of this process; there can be only one.
var System = sync.OnceValue(start)

func start() *Reaper {
	r := &Reaper{waiting: map[int]chan syscall.WaitStatus{}}
	r.born = sync.NewCond(&r.mu)
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go func() {
		for range died {
			r.reap()
		}
	}()
	return r
}

// Spawn starts a process; its status arrives on the channel once.
func (r *Reaper) Spawn(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	// Held over the fork: a child that dies at once must find its channel here.
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, _, err := syscall.StartProcess(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	done := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = done
	r.any = true
	r.born.Broadcast()
	return pid, done, nil
}

func (r *Reaper) reap() {
	for r.reapOne() {
	}
}

// reapOne holds the lock for one child only: in a storm of dying orphans others want it too.
func (r *Reaper) reapOne() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		r.any = err == nil // ECHILD: none is left
		return false
	}
	if done, ok := r.waiting[pid]; ok {
		delete(r.waiting, pid)
		done <- status
	}
	return true
}

// Any says whether any process but ours lives.
func (r *Reaper) Any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.any
}

// AwaitAny returns as soon as one does.
func (r *Reaper) AwaitAny() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.any {
		r.born.Wait()
	}
}
