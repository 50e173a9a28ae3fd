package process

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"atoll.dev/envd/internal/cgroup"
	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/identity"
)

const (
	remembered   = 30 * time.Second // how long an ended process can still be connected to
	replayBudget = 8 << 20          // bytes of output kept for ended processes, all together
)

// Manager knows the processes we started, the living and the lately ended.
type Manager struct {
	identity *identity.Store
	groups   *cgroup.Tree
	mu       sync.Mutex
	living   map[int]*Process
	ended    []*Process // oldest first
}

// NewManager makes an empty one.
func NewManager(identity *identity.Store, groups *cgroup.Tree) *Manager {
	return &Manager{identity: identity, groups: groups, living: map[int]*Process{}}
}

// Living lists what runs, by pid.
func (m *Manager) Living() []*Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*Process, 0, len(m.living))
	for _, p := range m.living {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Process) int { return cmp.Compare(a.PID, b.PID) })
	return list
}

// Roots lists the pids of what runs.
func (m *Manager) Roots() []int {
	var roots []int
	for _, p := range m.Living() {
		roots = append(roots, p.PID)
	}
	return roots
}

// Blame lets the end of a process say why it failed.
func (m *Manager) Blame(pid int, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.living[pid]; p != nil {
		p.blame(reason)
	}
}

func (m *Manager) add(p *Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.living[p.PID] = p
	m.ended = slices.DeleteFunc(m.ended, func(old *Process) bool { return old.PID == p.PID })
}

// remove moves an ended process to those remembered.
func (m *Manager) remove(p *Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.living[p.PID] != p {
		return
	}
	delete(m.living, p.PID)
	m.ended = append(m.ended, p)
	m.keepBudget()
	time.AfterFunc(remembered, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ended = slices.DeleteFunc(m.ended, func(old *Process) bool { return old == p })
	})
}

// keepBudget takes the replay from the oldest ended processes when all of them together hold too much.
func (m *Manager) keepBudget() {
	var held int64
	for _, p := range slices.Backward(m.ended) {
		if held += p.journal.held(); held > replayBudget {
			p.journal.forget()
		}
	}
}

// find gives a living process.
func (m *Manager) find(s *Selector) (*Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.lookup(s)
	if p == nil && err == nil {
		err = notFound(s)
	}
	return p, err
}

// findAny gives a living process, or one that ended lately.
func (m *Manager) findAny(s *Selector) (*Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.lookup(s)
	if p != nil || err != nil {
		return p, err
	}
	for _, p := range slices.Backward(m.ended) {
		if s.matches(p) {
			return p, nil
		}
	}
	return nil, notFound(s)
}

func (m *Manager) lookup(s *Selector) (*Process, error) {
	if s == nil || (s.PID == nil) == (s.Tag == nil) {
		return nil, connectrpc.Errorf(connectrpc.InvalidArgument, "name a process by its pid or by its tag")
	}
	for _, p := range m.living {
		if s.matches(p) {
			return p, nil
		}
	}
	return nil, nil
}

func (s *Selector) matches(p *Process) bool {
	if s.PID != nil {
		return int(*s.PID) == p.PID
	}
	return p.Tag != nil && *p.Tag == *s.Tag
}

func notFound(s *Selector) error {
	if s.PID != nil {
		return connectrpc.Errorf(connectrpc.NotFound, "process with pid %d not found", *s.PID)
	}
	return connectrpc.Errorf(connectrpc.NotFound, "process with tag %s not found", *s.Tag)
}
