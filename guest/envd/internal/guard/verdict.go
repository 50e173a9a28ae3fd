package guard

import (
	"fmt"
	"time"
)

const mib = 1 << 20

// limits say when to act. Sizes in bytes.
type limits struct {
	memory  uint64 // all there is
	reserve uint64 // what must stay free
	Most
}

// Most is how many may run. A process costs the host about four of the sandbox's pids, a thread one or two, and
// running out of those ends the sandbox.
type Most struct {
	processes, tasks int
}

// NewMost takes the number of processes; two and a half times as many threads are allowed.
func NewMost(processes int) Most { return Most{processes, 5 * processes / 2} }

// Backstop is how many threads the kernel lets one command have. It lies above what the guard ends a command for,
// and below what would end the sandbox while the guard waits for its turn.
func (m Most) Backstop() int { return 6 * m.tasks / 5 }

const (
	// fastest is more memory per second than a sandbox's programs can touch.
	fastest     = 2 << 30
	shortestGap = 10 * time.Millisecond
	longestGap  = 250 * time.Millisecond
	// forks is more processes per second than can be born.
	forks = 1000
	// crowdedGap lies between looks while there are many threads and not too many processes.
	crowdedGap = 100 * time.Millisecond
)

// newLimits reserves 1/32 of the memory, within 16 and 128 MiB.
func newLimits(memory uint64, most Most) limits {
	return limits{memory: memory, reserve: min(max(memory/32, 16*mib), 128*mib), Most: most}
}

// nextLook is soon enough to act before the reserve is used up.
func (l limits) nextLook(available uint64, tasks int) time.Duration {
	if available <= l.reserve {
		return shortestGap
	}
	gap := time.Duration((available - l.reserve) * uint64(time.Second) / fastest)
	births := crowdedGap
	if tasks < l.processes {
		births = time.Duration(l.processes-tasks) * time.Second / forks
	}
	return min(max(min(gap, births), shortestGap), longestGap)
}

func (l limits) memoryMessage(available uint64) string {
	return fmt.Sprintf("memory limit exceeded (used %d of %d MiB)", (l.memory-available)/mib, l.memory/mib)
}

// proc is a process as the guard sees it.
type proc struct {
	pid    int
	family int // the command it belongs to; its session where it belongs to none
	rss    uint64
	tasks  int
}

// pickMemory chooses what to end for memory: the largest process if ending it helps, else the largest family
// (a swarm of small ones). whole says that the family is meant. ok is false when programs hold too little
// for it to help: then files in memory fill it.
func (l limits) pickMemory(procs []proc) (victim proc, whole, ok bool) {
	worth := max(l.memory/20, 8*mib)
	families := map[int]proc{}
	for _, p := range procs {
		if p.rss > victim.rss {
			victim = p
		}
		families[p.family] = proc{p.family, p.family, families[p.family].rss + p.rss, 0}
	}
	if victim.rss >= worth {
		return victim, false, true
	}
	var largest proc
	for _, family := range families {
		if family.rss > largest.rss {
			largest = family
		}
	}
	return largest, true, largest.rss >= worth
}

// pickTasks chooses the family with the most tasks, if it has a good part of them.
func (l limits) pickTasks(procs []proc) (family int, ok bool) {
	tasks := map[int]int{}
	most := 0
	for _, p := range procs {
		tasks[p.family] += p.tasks
		if tasks[p.family] > most {
			family, most = p.family, tasks[p.family]
		}
	}
	return family, most >= l.tasks/4
}
