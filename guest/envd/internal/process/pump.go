package process

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// pumpSize is more than an event holds: a system call is dear in a sandbox.
const pumpSize = 256 << 10

var pumpBuffers = sync.Pool{New: func() any { return new([pumpSize]byte) }}

// pump moves one stream of a process into its journal until the end of file. It holds a buffer only while there is
// something to read: hundreds of silent commands cost a goroutine each and no more.
type pump struct {
	id      streamID
	source  *os.File
	raw     syscall.RawConn
	carries atomic.Bool // it reads, or has read what is not in the journal yet
}

func newPump(id streamID, source *os.File) (*pump, error) {
	raw, err := source.SyscallConn()
	return &pump{id: id, source: source, raw: raw}, err
}

func (p *pump) run(journal *journal) {
	defer p.source.Close()
	for {
		more := false
		err := p.raw.Read(func(fd uintptr) bool {
			buffer := pumpBuffers.Get().(*[pumpSize]byte)
			defer pumpBuffers.Put(buffer)
			p.carries.Store(true)
			defer p.carries.Store(false)
			n, err := readRetry(int(fd), buffer[:])
			if errors.Is(err, syscall.EAGAIN) {
				return false
			}
			if more = err == nil && n > 0; more {
				journal.append(p.id, buffer[:n])
			}
			return true
		})
		if err != nil || !more {
			return // end of file; a terminal says EIO instead
		}
	}
}

// dry says that all that was written before this call is in the journal.
func (p *pump) dry() bool {
	waiting := 0
	_ = p.raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return waiting == 0 && !p.carries.Load() // in this order: what is no longer in the pipe is carried
}

func readRetry(fd int, buffer []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buffer)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
