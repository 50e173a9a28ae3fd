package directories

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"syscall"
	"time"

	"atoll.dev/envd/internal/access"
	"atoll.dev/envd/internal/files"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/users"
)

// Service serves /dirs.
type Service struct {
	identity *identity.Store
}

// New makes the service.
func New(identity *identity.Store) *Service { return &Service{identity} }

// Register adds the routes; they check their callers themselves.
func (s *Service) Register(open *http.ServeMux) {
	open.HandleFunc("GET /dirs", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, access.Read, s.export) })
	open.HandleFunc("POST /dirs", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, access.Write, s.unpack) })
}

type handler func(w http.ResponseWriter, r *http.Request, path string, user users.User) *reply.Failure

func (s *Service) serve(w http.ResponseWriter, r *http.Request, operation access.Operation, handle handler) {
	failure := access.CheckSigned(s.identity, r, operation, time.Now())
	if failure == nil {
		failure = s.resolved(w, r, handle)
	}
	if failure != nil {
		reply.Error(w, failure)
	}
}

func (s *Service) resolved(w http.ResponseWriter, r *http.Request, handle handler) *reply.Failure {
	query := r.URL.Query()
	user, failure := files.User(s.identity, query.Get("username"))
	if failure != nil {
		return failure
	}
	path, failure := files.Resolve(s.identity, query.Get("path"), user)
	if failure != nil {
		return failure
	}
	return handle(w, r, path, user)
}

func checkDirectory(path string) *reply.Failure {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return reply.Failf(http.StatusNotFound, "path '%s' does not exist", path)
	case err != nil:
		return reply.Failf(http.StatusInternalServerError, "error opening '%s': %v", path, err)
	case !info.IsDir():
		return reply.Failf(http.StatusBadRequest, "path '%s' is not a directory; use /files", path)
	}
	return nil
}
