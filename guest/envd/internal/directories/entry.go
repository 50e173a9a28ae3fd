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
	root     *os.Root
	user     users.User
	progress *Progress
	largest  int64           // size of a file; a sparse one can claim any without sending a byte
	made     map[string]bool // directories known to exist
	settle   []*tar.Header   // directories whose mode and time are set last
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

func (u *unpacking) makeDirectory(name string) error {
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
	if err := u.makeDirectory(name); err != nil {
		return err
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
		if err := u.root.RemoveAll(name); err != nil {
			return err
		}
		for directory := range u.made {
			if directory == name || strings.HasPrefix(directory, name+"/") {
				delete(u.made, directory)
			}
		}
		err = make()
	}
	return err
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
	if os.Geteuid() != 0 {
		return nil
	}
	return u.root.Lchown(name, int(u.user.UID), int(u.user.GID))
}

func (u *unpacking) file(name string, header *tar.Header, content io.Reader) error {
	if header.Size > u.largest {
		return &archiveError{"entry " + header.Name, fmt.Errorf("a file of %d bytes is too large", header.Size)}
	}
	var file *os.File
	err := u.replacing(name, func() (err error) {
		file, err = u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	if err = u.fill(file, header, content); err == nil {
		err = u.finish(file, header)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		_ = u.root.Remove(name)
		return err
	}
	return u.root.Chtimes(name, time.Time{}, header.ModTime)
}

// finish sets what belongs to the file. Set-user-id bits are dropped: the owner is not the archive's.
func (u *unpacking) finish(file *os.File, header *tar.Header) error {
	if os.Geteuid() == 0 {
		if err := file.Chown(int(u.user.UID), int(u.user.GID)); err != nil {
			return err
		}
	}
	for record, value := range header.PAXRecords {
		if key, ok := strings.CutPrefix(record, xattrPrefix); ok && strings.HasPrefix(key, "user.") {
			// A file system without attributes loses them; the contents are what an archive is for.
			_ = unix.Fsetxattr(int(file.Fd()), key, []byte(value), 0)
		}
	}
	return file.Chmod(header.FileInfo().Mode().Perm())
}

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}
var zeroBlock [blockSize]byte

// fill writes the content and leaves holes where it is zero for long.
func (u *unpacking) fill(file *os.File, header *tar.Header, content io.Reader) error {
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	hole := false
	for {
		n, err := io.ReadFull(content, block[:])
		if n > 0 {
			// Only whole blocks become holes: a small file of zeros is not worth one.
			if hole = n == blockSize && bytes.Equal(block[:n], zeroBlock[:n]); hole {
				_, writeErr := file.Seek(int64(n), io.SeekCurrent)
				if writeErr != nil {
					return writeErr
				}
			} else if _, writeErr := file.Write(block[:n]); writeErr != nil {
				return writeErr
			}
			u.progress.Bytes += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n > 0 && n < blockSize && u.whole(file, header) {
			break
		}
		if err != nil {
			return &archiveError{"reading " + header.Name, err}
		}
	}
	if hole {
		return file.Truncate(header.Size)
	}
	return nil
}

// whole tells the short last block of a file from an archive that breaks off: both end a full read early.
func (u *unpacking) whole(file *os.File, header *tar.Header) bool {
	at, err := file.Seek(0, io.SeekCurrent)
	return err == nil && at == header.Size
}
