package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// pumpSize is more than an event holds: a system call is dear in a sandbox.
const pumpSize = 256 << 10

var pumpBuffers = sync.Pool{New: func() any { return new([pumpSize]byte) }}

// pump moves a process's output into its journal until the end of file. It holds a buffer only while there is
// something to read: hundreds of silent commands cost a goroutine each and no more.
func (p *Process) pump(id streamID, source *os.File) {
	defer p.pumps.Done()
	defer source.Close()
	raw, err := source.SyscallConn()
	if err != nil {
		return
	}
	for {
		more := false
		err := raw.Read(func(fd uintptr) bool {
			buffer := pumpBuffers.Get().(*[pumpSize]byte)
			defer pumpBuffers.Put(buffer)
			n, err := readRetry(int(fd), buffer[:])
			if errors.Is(err, syscall.EAGAIN) {
				return false
			}
			if more = err == nil && n > 0; more {
				p.journal.append(id, buffer[:n])
			}
			return true
		})
		if err != nil || !more {
			return // end of file; a terminal says EIO instead
		}
	}
}

func readRetry(fd int, buffer []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buffer)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
