package files

import (
	"errors"
	"net/http"
	"time"

	"atoll.dev/envd/internal/access"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/paths"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/users"
)

// Service serves file contents.
type Service struct {
	identity *identity.Store
}

// New makes the service.
func New(identity *identity.Store) *Service { return &Service{identity} }

// Register adds the routes. GET and POST /files check their callers themselves: a signature may stand for the
// token. Compose has no signature, so its mux is the one behind the token.
func (s *Service) Register(open, guarded *http.ServeMux) {
	open.Handle("GET /files", s.signed(access.Read, s.download))
	open.Handle("POST /files", s.signed(access.Write, s.upload))
	guarded.Handle("POST /files/compose", http.HandlerFunc(s.compose))
}

func (s *Service) signed(operation access.Operation, serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failure := access.CheckSigned(s.identity, r, operation, time.Now()); failure != nil {
			reply.Error(w, failure)
			return
		}
		serve(w, r)
	})
}

// User looks up the account a request's username means.
func User(store *identity.Store, name string) (users.User, *reply.Failure) {
	user, err := store.User(name)
	if err == nil {
		return user, nil
	}
	if unknown, ok := errors.AsType[*identity.UnknownUserError](err); ok {
		return user, reply.Failf(http.StatusUnauthorized, "error looking up user '%s': %v", unknown.Name, unknown.Cause)
	}
	return user, reply.Failf(http.StatusUnauthorized, "error looking up user '%s': %v", name, err)
}

// Resolve applies the path rules.
func Resolve(store *identity.Store, path string, user users.User) (string, *reply.Failure) {
	resolved, err := paths.Resolve(path, user, store.Workdir())
	if err != nil {
		return "", reply.Failf(http.StatusBadRequest, "error expanding and resolving path '%s': %v", path, err)
	}
	return resolved, nil
}
