package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	wanted = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_MOVED_FROM |
		unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	batchSize = 32 << 10
)

// kernelEvent is one inotify event.
type kernelEvent struct {
	watch        int32
	mask, cookie uint32
	name         string
}

// inotify is one kernel queue.
type inotify struct {
	file *os.File
	raw  syscall.RawConn
}

var batches = sync.Pool{New: func() any { return new([batchSize]byte) }}

func openInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "inotify")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &inotify{file, raw}, nil
}

// add watches a directory. A link is followed only where the caller named it: at the root.
func (i *inotify) add(path string, follow bool) (watch int32, err error) {
	mask := uint32(wanted)
	if !follow {
		mask |= unix.IN_DONT_FOLLOW
	}
	controlErr := i.raw.Control(func(fd uintptr) {
		var number int
		number, err = unix.InotifyAddWatch(int(fd), path, mask)
		watch = int32(number)
	})
	return watch, errors.Join(err, controlErr)
}

func (i *inotify) remove(watch int32) {
	_ = i.raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(watch)) })
}

// each handles events in order until the queue is closed. dry is called whenever the queue is empty.
func (i *inotify) each(handle func(kernelEvent), dry func()) {
	for {
		open := false
		err := i.raw.Read(func(fd uintptr) bool {
			batch := batches.Get().(*[batchSize]byte)
			defer batches.Put(batch)
			n, err := unix.Read(int(fd), batch[:])
			if errors.Is(err, unix.EAGAIN) {
				dry()
				return false
			}
			if open = errors.Is(err, unix.EINTR) || err == nil && n > 0; open && n > 0 {
				parseEvents(batch[:n], handle)
			}
			return true
		})
		if err != nil || !open {
			return
		}
	}
}

func parseEvents(batch []byte, handle func(kernelEvent)) {
	for len(batch) >= unix.SizeofInotifyEvent {
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(batch[12:]))
		if size > len(batch) {
			return
		}
		handle(kernelEvent{
			watch:  int32(binary.NativeEndian.Uint32(batch)),
			mask:   binary.NativeEndian.Uint32(batch[4:]),
			cookie: binary.NativeEndian.Uint32(batch[8:]),
			name:   string(bytes.TrimRight(batch[unix.SizeofInotifyEvent:size], "\x00")),
		})
		batch = batch[size:]
	}
}
