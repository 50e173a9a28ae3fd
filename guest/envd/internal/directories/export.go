package directories

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"log"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"atoll.dev/envd/internal/metadata"
	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/users"
)

func (s *Service) export(w http.ResponseWriter, r *http.Request, path string, _ users.User) *reply.Failure {
	format := r.URL.Query().Get("format")
	if format == "" {
		format = "tar"
	}
	if format != "tar" && format != "tar.gz" {
		return reply.Failf(http.StatusBadRequest, "format must be tar or tar.gz, not %q", format)
	}
	if failure := checkDirectory(path); failure != nil {
		return failure
	}
	header := w.Header()
	header.Set("Content-Disposition", mime.FormatMediaType("attachment",
		map[string]string{"filename": filepath.Base(filepath.Clean(path)) + "." + format}))
	header.Set("Content-Type", map[string]string{"tar": "application/x-tar", "tar.gz": "application/gzip"}[format])
	if err := s.write(w, path, format); err != nil {
		if r.Context().Err() == nil {
			log.Printf("GET /dirs %s: %v", path, err)
		}
		// The status is sent: only a broken connection can tell the client that the archive is not whole.
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (s *Service) write(w io.Writer, path, format string) error {
	if format == "tar" {
		return s.writeTar(w, path)
	}
	compressed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	return errors.Join(s.writeTar(compressed, path), compressed.Close())
}

// archive is a directory on its way out.
type archive struct {
	out   *tar.Writer
	root  string
	names *users.Names
	links map[[2]uint64]string // device and inode of files with several names → the first one
}

func (s *Service) writeTar(w io.Writer, path string) error {
	// The link itself may be named; what it points to is meant.
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	a := &archive{tar.NewWriter(w), root, s.identity.Accounts().Names(), map[[2]uint64]string{}}
	if err := filepath.WalkDir(root, a.add); err != nil {
		return err
	}
	return a.out.Close()
}

func (a *archive) add(path string, d fs.DirEntry, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it vanished meanwhile
	}
	if err != nil {
		return err
	}
	if path == a.root || d.Type()&fs.ModeSocket != 0 || placing.IsTemporary(d.Name()) {
		return nil
	}
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	header, err := a.header(path, info)
	if err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return a.out.WriteHeader(header)
	}
	return a.addFile(path, header)
}

func (a *archive) header(path string, info fs.FileInfo) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	relative, err := filepath.Rel(a.root, path)
	if err != nil {
		return nil, err
	}
	header.Name = relative
	if info.IsDir() {
		header.Name += "/"
	}
	header.Format = tar.FormatPAX // long names, large files, times below a second
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		header.Uname, header.Gname = a.names.User(stat.Uid), a.names.Group(stat.Gid)
		a.link(header, stat, relative)
	}
	if header.Typeflag == tar.TypeReg {
		for key, value := range metadata.Read(path) {
			if header.PAXRecords == nil {
				header.PAXRecords = map[string]string{}
			}
			header.PAXRecords[xattrRecord+key] = value
		}
	}
	return header, nil
}

// link turns the second name of a file into a hard link to the first.
func (a *archive) link(header *tar.Header, stat *syscall.Stat_t, relative string) {
	if header.Typeflag != tar.TypeReg || stat.Nlink < 2 {
		return
	}
	key := [2]uint64{uint64(stat.Dev), stat.Ino}
	if first, seen := a.links[key]; seen {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		return
	}
	a.links[key] = relative
}

// addFile writes exactly as many bytes as the header says, whatever happens to the file meanwhile.
func (a *archive) addFile(path string, header *tar.Header) error {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := a.out.WriteHeader(header); err != nil {
		return err
	}
	written, err := io.CopyN(a.out, file, header.Size)
	if errors.Is(err, io.EOF) {
		_, err = io.CopyN(a.out, zeros{}, header.Size-written)
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
