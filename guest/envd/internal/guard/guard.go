package guard

import (
	"fmt"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/cgroup"
	"atoll.dev/envd/internal/events"
	"atoll.dev/envd/internal/metrics"
	"atoll.dev/envd/internal/proctable"
)

// Commands is what the guard must know of the processes we started.
type Commands interface {
	// Roots lists their pids.
	Roots() []int
	// Blame lets the end of the command with this pid say why it failed.
	Blame(pid int, reason string)
}

// Children tells whether anything but the daemon runs.
type Children interface {
	// AwaitAny returns as soon as there is a child.
	AwaitAny()
	// Any says whether there is one.
	Any() bool
}

// Guard watches. It sleeps without a timer as long as only the daemon runs.
type Guard struct {
	commands Commands
	children Children
	groups   *cgroup.Tree
	log      *events.Log
	limits   limits
	exact    bool // sysinfo's free memory is all that is available
	warned   time.Time
}

// New makes a guard over all memory the sandbox sees.
func New(commands Commands, children Children, groups *cgroup.Tree, log *events.Log, most Most) *Guard {
	memory := metrics.ReadMemory()
	return &Guard{
		commands: commands, children: children, groups: groups, log: log, limits: newLimits(memory.Total, most),
		exact: memory.Free == memory.Available, // only a kernel without a cache to reclaim says so: gVisor
	}
}

// Run watches for good.
func (g *Guard) Run() {
	// A thread of its own: among hundreds of busy processes every hand-over to another thread takes its time.
	runtime.LockOSThread()
	for {
		g.children.AwaitAny()
		for g.children.Any() {
			pause(g.look())
		}
	}
}

// active is our gVisor's clock that advances while anything runs (gvisor/patches/0011): memory fills and processes
// are born at no other time, and an idle sandbox is not woken.
const active = 0x61746f6c

// pause sleeps in one system call, where a timer takes several and another thread.
func pause(gap time.Duration) {
	rest := unix.NsecToTimespec(int64(gap))
	if unix.ClockNanosleep(active, 0, &rest, nil) == unix.EINVAL { // another kernel
		_ = unix.Nanosleep(&rest, nil)
	}
}

// look acts if it must, and says when to look again.
func (g *Guard) look() time.Duration {
	var system unix.Sysinfo_t
	if unix.Sysinfo(&system) != nil {
		return longestGap
	}
	g.checkCount(int(system.Procs))
	available := g.available(&system)
	if available >= g.limits.reserve {
		return g.limits.nextLook(available, int(system.Procs))
	}
	g.endLargest(available)
	return shortestGap
}

// available is the memory left. gVisor's meminfo lags behind what programs touch, as it must scan for it;
// its sysinfo is exact and costs nothing. Elsewhere sysinfo knows nothing of caches, and meminfo is exact.
func (g *Guard) available(system *unix.Sysinfo_t) uint64 {
	if g.exact {
		// A sandbox restored from a snapshot may have another size than the one it was taken in.
		g.limits = newLimits(system.Totalram*uint64(system.Unit), g.limits.Most)
		return system.Freeram * uint64(system.Unit)
	}
	return metrics.ReadMemory().Available
}

func (g *Guard) endLargest(available uint64) {
	families := g.families()
	victim, whole, ok := g.limits.pickMemory(survey(families))
	message := g.limits.memoryMessage(available)
	if !ok {
		g.warn(message + "; no process is large enough to help: files in memory fill it, remove some")
		return
	}
	command := commandOf(victim.pid)
	g.commands.Blame(victim.family, message)
	// Before it ends: whoever waits for the process asks at once why it ended.
	g.log.Add(events.Event{Type: events.MemoryLimit, Message: message, PID: victim.pid, Command: command})
	if whole || victim.pid == victim.family {
		find(families, victim.family).kill()
	} else {
		_ = syscall.Kill(victim.pid, syscall.SIGKILL)
		awaitGone(victim.pid)
	}
	g.awaitRoom()
}

// awaitRoom gives the kernel a moment more: gVisor takes memory apart after its process has gone.
func (g *Guard) awaitRoom() {
	var system unix.Sysinfo_t
	for range 20 {
		if unix.Sysinfo(&system) != nil || g.available(&system) >= g.limits.reserve {
			return
		}
		time.Sleep(shortestGap)
	}
}

// checkCount acts when there are too many processes, or threads.
func (g *Guard) checkCount(tasks int) {
	if tasks <= g.limits.processes {
		return
	}
	largest, processes := g.count()
	switch {
	case processes > g.limits.processes:
		g.endFamily(largest, fmt.Sprintf("process limit exceeded (%d of %d processes)", processes, g.limits.processes))
	case tasks > g.limits.tasks:
		families := g.families()
		if root, ok := g.limits.pickTasks(survey(families)); ok {
			g.endFamily(find(families, root), fmt.Sprintf("process limit exceeded (%d of %d threads)", tasks, g.limits.tasks))
		}
	}
}

// count reads once for each group, not for each process.
func (g *Guard) count() (largest family, processes int) {
	most := 0
	entries := proctable.Lazy()
	for _, f := range g.families() {
		n := len(f.members(entries))
		processes += n
		if n > most {
			largest, most = f, n
		}
	}
	return largest, processes
}

func (g *Guard) endFamily(f family, message string) {
	command := commandOf(f.root)
	g.commands.Blame(f.root, message)
	f.kill()
	g.log.Add(events.Event{Type: events.ProcessLimit, Message: message, PID: f.root, Command: command})
}

// warn says once a minute that memory is full and nothing can be done about it.
func (g *Guard) warn(message string) {
	if time.Since(g.warned) < time.Minute {
		return
	}
	g.warned = time.Now()
	g.log.Add(events.Event{Type: events.MemoryExhausted, Message: message})
}

// awaitGone gives the kernel a second to take the victim's memory back, so that no second one is ended for it.
func awaitGone(pid int) {
	for range 100 {
		if proctable.Resident(pid) == 0 {
			return
		}
		time.Sleep(shortestGap)
	}
}
