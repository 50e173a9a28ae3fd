package directories

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/users"
)

const (
	xattrPrefix = "SCHILY.xattr."
	xattrRecord = xattrPrefix + "user.e2b."
	blockSize   = 64 << 10
	largestFile = 1 << 40
)

// unpacking is an archive on its way in. Everything goes through root, which no name and no link leaves.
type unpacking struct {
	root       *os.Root
	user       users.User
	progress   *Progress
	largest    int64           // size of a file; a sparse one can claim any without sending a byte
	made       map[string]bool // directories known to exist
	settle     []*tar.Header   // directories whose mode and time are set last
	privileged bool            // entries can be given to the user
	parent     *folder         // where the last file went, open for the next one
	crew       *crew
}

func (u *unpacking) entry(header *tar.Header, content io.Reader) error {
	name, err := cleanName(header.Name)
	if err != nil {
		return &archiveError{"entry", err}
	}
	if name == "." || header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := u.parents(path.Dir(name)); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return u.directory(name, header)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return u.file(name, header, content)
	}
	if err := u.crew.wait(); err != nil {
		return err // a link may lead to what is being written
	}
	switch header.Typeflag {
	case tar.TypeSymlink:
		return u.place(name, func() error { return u.root.Symlink(header.Linkname, name) })
	case tar.TypeLink:
		target, err := cleanName(header.Linkname)
		if err != nil {
			return &archiveError{"hard link " + header.Name, err}
		}
		return u.replacing(name, func() error { return u.root.Link(target, name) })
	case tar.TypeFifo:
		return u.place(name, func() error { return u.fifo(name, header) })
	}
	return &archiveError{"entry " + header.Name, errors.New("devices cannot be unpacked")}
}

// parents makes the directories an archive leaves out.
func (u *unpacking) parents(name string) error {
	if u.made[name] {
		return nil
	}
	if err := u.parents(path.Dir(name)); err != nil {
		return err
	}
	return u.makeDirectory(name)
}

// makeDirectory waits for the crew: what is being written may have this name.
func (u *unpacking) makeDirectory(name string) error {
	if err := u.crew.wait(); err != nil {
		return err
	}
	err := u.root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		info, statErr := u.root.Stat(name)
		if statErr != nil {
			return statErr
		}
		if info.IsDir() {
			u.made[name] = true
			return nil
		}
		if err = u.root.Remove(name); err == nil {
			err = u.root.Mkdir(name, 0o755)
		}
	}
	if err != nil {
		return err
	}
	u.made[name] = true
	return u.own(name)
}

func (u *unpacking) directory(name string, header *tar.Header) error {
	if !u.made[name] {
		if err := u.makeDirectory(name); err != nil {
			return err
		}
	}
	u.settle = append(u.settle, header)
	return u.own(name)
}

// settleDirectories comes last: a read-only mode would keep files out, and each file changes the time.
func (u *unpacking) settleDirectories() error {
	for i := len(u.settle) - 1; i >= 0; i-- {
		header := u.settle[i]
		name, err := cleanName(header.Name)
		if err != nil {
			return err
		}
		if err := u.root.Chmod(name, header.FileInfo().Mode().Perm()); err != nil {
			return err
		}
		if err := u.root.Chtimes(name, time.Time{}, header.ModTime); err != nil {
			return err
		}
	}
	return nil
}

// replacing makes an entry, in the place of what has its name.
func (u *unpacking) replacing(name string, make func() error) error {
	err := make()
	if errors.Is(err, fs.ErrExist) {
		if err := u.clear(name); err != nil {
			return err
		}
		err = make()
	}
	return err
}

// clear removes whatever has a name.
func (u *unpacking) clear(name string) error {
	if err := u.root.RemoveAll(name); err != nil {
		return err
	}
	u.closeParent()
	for directory := range u.made {
		if directory == name || strings.HasPrefix(directory, name+"/") {
			delete(u.made, directory)
		}
	}
	return nil
}

// place makes an entry that has an owner of its own.
func (u *unpacking) place(name string, make func() error) error {
	if err := u.replacing(name, make); err != nil {
		return err
	}
	return u.own(name)
}

func (u *unpacking) fifo(name string, header *tar.Header) error {
	parent, err := u.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Mkfifoat(int(parent.Fd()), path.Base(name), uint32(header.FileInfo().Mode().Perm()))
}

func (u *unpacking) own(name string) error {
	if !u.privileged {
		return nil
	}
	return u.root.Lchown(name, int(u.user.UID), int(u.user.GID))
}

func (u *unpacking) file(name string, header *tar.Header, content io.Reader) error {
	if header.Size > u.largest {
		return &archiveError{"entry " + header.Name, fmt.Errorf("a file of %d bytes is too large", header.Size)}
	}
	if u.made[name] {
		if err := errors.Join(u.crew.wait(), u.clear(name)); err != nil {
			return err
		}
	}
	if err := u.openParent(path.Dir(name)); err != nil {
		return err
	}
	if header.Size <= smallFile {
		return u.smallFile(name, header, content)
	}
	if err := u.crew.wait(); err != nil {
		return err
	}
	return u.write(name, u.parent, header, func(fd int) error { return u.fill(fd, header, content) })
}

func (u *unpacking) smallFile(name string, header *tar.Header, content io.Reader) error {
	room, err := u.crew.room(name, header.Size)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(content, room); err != nil {
		return &archiveError{"reading " + header.Name, io.ErrUnexpectedEOF}
	}
	u.progress.Bytes += header.Size
	u.crew.take(smallJob{header, name, u.parent})
	return nil
}

// writeSmall is the crew's work.
func (u *unpacking) writeSmall(job smallJob, content []byte) error {
	return u.write(job.name, job.in, job.header, func(fd int) error { return writeAt(fd, content, 0) })
}

// write makes a file, or leaves none. It is called by several at once.
func (u *unpacking) write(name string, in *folder, header *tar.Header, fill func(fd int) error) error {
	mode := header.FileInfo().Mode().Perm()
	fd, err := in.create(name, mode)
	if errors.Is(err, fs.ErrExist) {
		// No directory that is known to exist: what else was here is nobody's.
		if err = u.root.RemoveAll(name); err == nil {
			fd, err = in.create(name, mode)
		}
	}
	if err != nil {
		return err
	}
	if err = fill(fd); err == nil {
		err = u.finish(fd, header, mode)
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		_ = u.root.Remove(name)
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(header.ModTime.UnixNano())}
	return unix.UtimesNanoAt(int(in.file.Fd()), path.Base(name), times, unix.AT_SYMLINK_NOFOLLOW)
}

// openParent goes by root, so the directory is inside. What removes it closes it.
func (u *unpacking) openParent(name string) error {
	if u.parent != nil && u.parent.name == name {
		return nil
	}
	u.closeParent()
	file, err := u.root.Open(name)
	if err != nil {
		return err
	}
	u.parent = &folder{file: file, name: name}
	u.parent.hold()
	return nil
}

func (u *unpacking) closeParent() {
	if u.parent != nil {
		u.parent.release()
		u.parent = nil
	}
}

// finish sets what belongs to the file. Set-user-id bits are dropped: the owner is not the archive's.
func (u *unpacking) finish(fd int, header *tar.Header, mode fs.FileMode) error {
	if u.privileged {
		if err := unix.Fchown(fd, int(u.user.UID), int(u.user.GID)); err != nil {
			return err
		}
	}
	for record, value := range header.PAXRecords {
		if key, ok := strings.CutPrefix(record, xattrPrefix); ok && strings.HasPrefix(key, "user.") {
			// A file system without attributes loses them; the contents are what an archive is for.
			_ = unix.Fsetxattr(fd, key, []byte(value), 0)
		}
	}
	if mode&^umask == mode {
		return nil
	}
	return unix.Fchmod(fd, uint32(mode))
}

// umask is the daemon's (main.go): what it takes from the mode of what is created.
const umask = 0o022

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}
var zeroBlock [blockSize]byte

// fill writes the content and leaves holes where it is zero for long.
func (u *unpacking) fill(fd int, header *tar.Header, content io.Reader) error {
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	hole := false
	for at := int64(0); at < header.Size; {
		n, err := io.ReadFull(content, block[:min(blockSize, header.Size-at)])
		if err != nil {
			return &archiveError{"reading " + header.Name, io.ErrUnexpectedEOF}
		}
		// Only whole blocks become holes: a small file of zeros is not worth one.
		if hole = n == blockSize && bytes.Equal(block[:n], zeroBlock[:n]); !hole {
			if err := writeAt(fd, block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		u.progress.Bytes += int64(n)
	}
	if hole {
		return unix.Ftruncate(fd, header.Size)
	}
	return nil
}

func writeAt(fd int, data []byte, at int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}
