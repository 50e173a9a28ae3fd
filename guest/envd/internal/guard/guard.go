package guard

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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
	log      *events.Log
	limits   limits
	warned   time.Time
}

// New makes a guard over all memory the sandbox sees and at most maxTasks tasks (threads count).
func New(commands Commands, children Children, log *events.Log, maxTasks int) *Guard {
	return &Guard{commands: commands, children: children, log: log, limits: newLimits(metrics.ReadMemory().Total, maxTasks)}
}

// Run watches for good.
func (g *Guard) Run() {
	for {
		g.children.AwaitAny()
		for g.children.Any() {
			time.Sleep(g.look())
		}
	}
}

// look acts if it must, and says when to look again.
func (g *Guard) look() time.Duration {
	var system unix.Sysinfo_t
	if unix.Sysinfo(&system) == nil && int(system.Procs) > g.limits.tasks {
		g.endSwarm(int(system.Procs))
	}
	available := metrics.ReadMemory().Available
	if available >= g.limits.reserve {
		return g.limits.nextLook(available)
	}
	g.endLargest(available)
	return shortestGap
}

func (g *Guard) endLargest(available uint64) {
	victim, whole, ok := g.limits.pickMemory(survey(g.commands.Roots()))
	message := g.limits.memoryMessage(available)
	if !ok {
		g.warn(message + "; no process is large enough to help: files in memory fill it, remove some")
		return
	}
	command := commandOf(victim.pid)
	g.commands.Blame(victim.family, message)
	if whole || victim.pid == victim.family {
		proctable.KillTree(victim.family)
	} else {
		_ = syscall.Kill(victim.pid, syscall.SIGKILL)
		awaitGone(victim.pid)
	}
	g.log.Add(events.Event{Type: events.MemoryLimit, Message: message, PID: victim.pid, Command: command})
}

func (g *Guard) endSwarm(tasks int) {
	family, ok := g.limits.pickTasks(survey(g.commands.Roots()))
	if !ok {
		return
	}
	message := fmt.Sprintf("process limit exceeded (%d of %d processes and threads)", tasks, g.limits.tasks)
	command := commandOf(family)
	g.commands.Blame(family, message)
	proctable.KillTree(family)
	g.log.Add(events.Event{Type: events.ProcessLimit, Message: message, PID: family, Command: command})
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
		if residentSize(pid) == 0 {
			return
		}
		time.Sleep(shortestGap)
	}
}
