package files

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"atoll.dev/envd/internal/reply"
)

func (s *Service) download(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept-Encoding")
	query := r.URL.Query()
	user, failure := User(s.identity, query.Get("username"))
	if failure != nil {
		reply.Error(w, failure)
		return
	}
	path, failure := Resolve(s.identity, query.Get("path"), user)
	if failure != nil {
		reply.Error(w, failure)
		return
	}
	file, info, failure := openForReading(path)
	if failure != nil {
		reply.Error(w, failure)
		return
	}
	defer file.Close()
	coding, ok := chooseEncoding(r.Header.Values("Accept-Encoding"), r.Header.Get("Range") != "")
	if !ok {
		reply.Error(w, reply.Failf(http.StatusNotAcceptable, "no acceptable encoding: this server sends identity or gzip"))
		return
	}
	name := filepath.Base(path)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": name}))
	if coding == gzipCoding {
		sendCompressed(w, file, info, name)
		return
	}
	if info.Size() == 0 {
		sendUnsized(w, file, name)
		return
	}
	http.ServeContent(w, r, name, info.ModTime(), file)
}

// openForReading opens regular files only: a pipe or a device would block, or never end.
func openForReading(path string) (*os.File, fs.FileInfo, *reply.Failure) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, nil, reply.Failf(http.StatusNotFound, "path '%s' does not exist", path)
	case err != nil:
		return nil, nil, reply.Failf(http.StatusInternalServerError, "error opening file '%s': %v", path, err)
	case info.IsDir():
		return nil, nil, reply.Failf(http.StatusBadRequest, "path '%s' is a directory", path)
	case !info.Mode().IsRegular():
		return nil, nil, reply.Failf(http.StatusBadRequest, "path '%s' is not a regular file", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, reply.Failf(http.StatusNotFound, "path '%s' does not exist", path)
	}
	if err != nil {
		return nil, nil, reply.Failf(http.StatusInternalServerError, "error opening file '%s': %v", path, err)
	}
	return file, info, nil
}

func sendCompressed(w http.ResponseWriter, file *os.File, info fs.FileInfo, name string) {
	header := w.Header()
	header.Set("Content-Type", contentType(name, file))
	header.Set("Content-Encoding", "gzip")
	header.Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	out, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if _, err := io.Copy(out, file); err == nil {
		_ = out.Close()
	}
}

// sendUnsized sends what says it is empty: an empty file, or one of /proc that has a content all the same.
func sendUnsized(w http.ResponseWriter, file *os.File, name string) {
	w.Header().Set("Content-Type", contentType(name, file))
	_, _ = io.Copy(w, file)
}

// contentType goes by the name's extension, else by the first bytes, as http.ServeContent does.
func contentType(name string, file *os.File) string {
	if known := mime.TypeByExtension(filepath.Ext(name)); known != "" {
		return known
	}
	var head [512]byte
	n, _ := io.ReadFull(file, head[:])
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "application/octet-stream"
	}
	return http.DetectContentType(head[:n])
}
