package directories

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// folder is an open directory that files go into, closed by the last one who holds it.
type folder struct {
	file    *os.File
	name    string
	holders atomic.Int32
}

func (f *folder) hold() { f.holders.Add(1) }

func (f *folder) release() {
	if f.holders.Add(-1) == 0 {
		_ = f.file.Close()
	}
}

// create makes a file that is not there yet, with the mode it shall have, as far as umask lets it. It gives a bare
// descriptor: os.File makes more system calls.
func (f *folder) create(name string, mode fs.FileMode) (fd int, err error) {
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	for {
		fd, err = unix.Openat(int(f.file.Fd()), path.Base(name), flags, uint32(mode))
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
