package process

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const pipeSize = 1 << 20

// ends are both sides of a process's standard streams.
type ends struct {
	child  [3]uintptr
	opened []int // the child's descriptors, each once
	stdin  *os.File
	pty    *os.File
	pumps  []*pump
}

func openEnds(p *plan) (*ends, error) {
	e := &ends{}
	err := e.open(p)
	if err != nil {
		e.closeChild()
		e.closeParent()
		return nil, err
	}
	return e, nil
}

func (e *ends) open(p *plan) error {
	if p.pty != nil {
		return e.openTerminal(p)
	}
	if err := e.openStdin(p.stdin); err != nil {
		return err
	}
	for id, fd := range map[streamID]int{stdout: 1, stderr: 2} {
		read, write, err := pipe()
		if err != nil {
			return err
		}
		e.give(fd, write)
		if id == stdout {
			// Fewer turns between a flood and us; refused where the account has no more room for pipes.
			_, _ = unix.FcntlInt(uintptr(read), unix.F_SETPIPE_SZ, pipeSize)
		}
		if err := e.pumpFrom(read, id); err != nil {
			return err
		}
	}
	return nil
}

func (e *ends) openStdin(open bool) error {
	if !open {
		if null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			e.give(0, null)
			return nil
		}
		// An image without /dev/null: an empty pipe reads the same.
	}
	read, write, err := pipe()
	if err != nil {
		return err
	}
	e.give(0, read)
	if !open {
		return unix.Close(write)
	}
	e.stdin, err = ours(write, "stdin")
	return err
}

func (e *ends) openTerminal(p *plan) error {
	master, slave, err := openPTY(p.pty, int(p.user.UID))
	if err != nil {
		return fmt.Errorf("opening a terminal: %w", err)
	}
	e.opened = append(e.opened, slave)
	e.child = [3]uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
	// Reading and writing are closed by different hands.
	reading, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(master)
		return err
	}
	if e.pty, err = ours(master, "pty"); err != nil {
		_ = unix.Close(reading)
		return err
	}
	return e.pumpFrom(reading, terminal)
}

// pumpFrom takes over one of our descriptors, that a stream comes from.
func (e *ends) pumpFrom(fd int, id streamID) error {
	source, err := ours(fd, streamNames[id])
	if err != nil {
		return err
	}
	pump, err := newPump(id, source)
	if err != nil {
		_ = source.Close()
		return err
	}
	e.pumps = append(e.pumps, pump)
	return nil
}

func (e *ends) give(fd, child int) {
	e.child[fd] = uintptr(child)
	e.opened = append(e.opened, child)
}

func (e *ends) closeChild() {
	for _, fd := range e.opened {
		_ = syscall.Close(fd)
	}
}

func (e *ends) closeParent() {
	for _, pump := range e.pumps {
		_ = pump.source.Close()
	}
	for _, file := range []*os.File{e.stdin, e.pty} {
		if file != nil {
			_ = file.Close()
		}
	}
}

func pipe() (read, write int, err error) {
	var fds [2]int
	err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
	return fds[0], fds[1], err
}

// ours makes a descriptor non-blocking, so that waiting on it takes a goroutine and no thread.
func ours(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
