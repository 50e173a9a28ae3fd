package process

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"atoll.dev/envd/internal/cgroup"
	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/proctable"
)

// Process is one command or terminal we started.
type Process struct {
	PID    int
	Tag    *string
	config Config
	group  *cgroup.Group // nil where there are none

	journal *journal
	pumps   []*pump
	pumping sync.WaitGroup

	writeMu sync.Mutex // one input at a time
	inputMu sync.Mutex
	stdin   *os.File // nil when closed or never open
	pty     *os.File // the terminal's master

	ended    chan struct{} // closed once the process itself is gone, and off the list of the living
	overtime atomic.Bool   // its Connect-Timeout-Ms ran out
	verdict  atomic.Pointer[verdict]
}

// verdict is why something else than the user ended part of a process.
type verdict struct {
	at     time.Time
	reason string
}

// verdictLife: a command that fails within it after a verdict failed because of it. A shell that outlives it
// has recovered.
const verdictLife = 5 * time.Second

// blame lets the process's end say why it failed.
func (p *Process) blame(reason string) { p.verdict.Store(&verdict{time.Now(), reason}) }

func (p *Process) info() Info {
	return Info{Config: p.config, PID: uint32(p.PID), Tag: p.Tag}
}

// signal sends SIGTERM to the process's group; SIGKILL ends all that belongs to it.
func (p *Process) signal(number syscall.Signal) error {
	if number == syscall.SIGKILL {
		p.kill()
		return nil
	}
	if err := syscall.Kill(-p.PID, number); err != nil {
		return connectrpc.Errorf(connectrpc.Internal, "error sending signal: %v", err)
	}
	return nil
}

// kill ends all that belongs to the process. Afterwards it is among the living no more.
func (p *Process) kill() {
	if p.group == nil {
		proctable.KillTree(p.PID)
	} else {
		p.group.Kill()
	}
	select {
	case <-p.ended:
	case <-time.After(toldWithin):
	}
}

// toldWithin is how long after its end a process is waited for to be taken off the list, at most.
const toldWithin = 2 * time.Second

// expire kills the process at the end of its time.
func (p *Process) expire() {
	select {
	case <-p.ended:
	default:
		p.overtime.Store(true)
		p.kill()
	}
}

// quiet is how long the output of a command that has ended may stay silent while something it left behind
// (`server &`) holds it open. Then the end is told; what is left behind lives on.
const quiet = 500 * time.Millisecond

// watch waits for the end, lets the output run dry, and records both.
func (p *Process) watch(done <-chan syscall.WaitStatus, gone func()) {
	status := <-done
	died := time.Now()
	gone()
	close(p.ended)
	if p.group != nil {
		p.group.End()
	}
	p.closeInput()
	p.waitDrained()
	end := endOf(status)
	if v := p.verdict.Load(); v != nil && end.Error != "" && died.Sub(v.at) < verdictLife {
		end.Error = v.reason
	}
	p.journal.finish(end)
	if p.pty != nil {
		_ = p.pty.Close()
	}
}

func (p *Process) waitDrained() {
	drained := make(chan struct{})
	go func() { p.pumping.Wait(); close(drained) }()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	before, _ := p.journal.progress()
	for {
		select {
		case <-drained:
			return
		case <-timer.C:
			total, held := p.journal.progress()
			if total == before && !held && p.dry() {
				return
			}
			before = total
			timer.Reset(quiet)
		}
	}
}

func (p *Process) startPumps() {
	for _, pump := range p.pumps {
		p.pumping.Go(func() { pump.run(p.journal) })
	}
}

func (p *Process) dry() bool {
	for _, pump := range p.pumps {
		if !pump.dry() {
			return false
		}
	}
	return true
}

func (p *Process) closeInput() {
	p.inputMu.Lock()
	defer p.inputMu.Unlock()
	if p.stdin != nil {
		_ = p.stdin.Close()
		p.stdin = nil
	}
}
