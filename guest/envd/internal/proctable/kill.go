package proctable

import (
	"os"
	"syscall"
	"time"
)

const (
	looks      = 10 // a tree that still grows after so many looks is killed as far as it is known, then looked at again
	killRounds = 50
)

// KillTree ends root and all that belongs to it, and returns when nothing of it is left or after about a second.
// Members are stopped first, so that none forks away between the look and the kill. The caller's own process
// and process 1 are spared.
func KillTree(root int) {
	spare := map[int]bool{os.Getpid(): true, 1: true, 0: true}
	// One call stops a whole swarm, where looking for it takes a while.
	_ = syscall.Kill(-root, syscall.SIGSTOP)
	members := stopTree(root, spare)
	_ = syscall.Kill(-root, syscall.SIGKILL)
	signalAll(members, syscall.SIGKILL)
	for range killRounds {
		left := Tree(Read(), append(members, root), spare)
		if len(left) == 0 {
			return
		}
		signalAll(left, syscall.SIGKILL)
		time.Sleep(20 * time.Millisecond) // the kernel takes a killed process off the table a moment later
	}
}

func stopTree(root int, spare map[int]bool) []int {
	known := []int{root}
	for range looks {
		now := Tree(Read(), known, spare)
		signalAll(now, syscall.SIGSTOP)
		if len(now) <= len(known) {
			return append(now, known...)
		}
		known = append(now, root)
	}
	return known
}

func signalAll(pids []int, signal syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal)
	}
}
