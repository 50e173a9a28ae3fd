package filesystem

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/paths"
	"atoll.dev/envd/internal/users"
)

// Service answers for the file system of this sandbox.
type Service struct {
	identity *identity.Store
}

// New makes the service.
func New(identity *identity.Store) *Service { return &Service{identity: identity} }

// Register adds the service's methods to a mux.
func (s *Service) Register(mux *http.ServeMux) {
	for name, handler := range map[string]http.Handler{
		"Stat":    connectrpc.Unary(s.stat),
		"ListDir": connectrpc.Unary(s.listDir),
		"MakeDir": connectrpc.Unary(s.makeDir),
		"Move":    connectrpc.Unary(s.move),
		"Remove":  connectrpc.Unary(s.remove),
	} {
		mux.Handle("/filesystem.Filesystem/"+name, handler)
	}
}

// resolve applies the user and path rules of the sheet's §4 to one path of a call.
func (s *Service) resolve(call *connectrpc.Call, path string) (string, users.User, error) {
	return ResolveCall(s.identity, call, path)
}

// ResolveCall gives the absolute path and the account a call means, or a coded error.
func ResolveCall(store *identity.Store, call *connectrpc.Call, path string) (string, users.User, error) {
	user, err := store.User(call.User)
	if err != nil {
		return "", user, connectrpc.Errorf(connectrpc.Unauthenticated, "%v", err)
	}
	resolved, err := paths.Resolve(path, user, store.Workdir())
	if err != nil {
		return "", user, connectrpc.Errorf(connectrpc.InvalidArgument, "%v", err)
	}
	return resolved, user, nil
}

func (s *Service) stat(call *connectrpc.Call, request *PathRequest) (*EntryResponse, error) {
	path, _, err := s.resolve(call, request.Path)
	if err != nil {
		return nil, err
	}
	return s.entry(path)
}

func (s *Service) entry(path string) (*EntryResponse, error) {
	entry, err := Describe(path, s.identity.Accounts().Names())
	if err != nil {
		return nil, coded(err, "file not found")
	}
	return &EntryResponse{entry}, nil
}

func (s *Service) makeDir(call *connectrpc.Call, request *PathRequest) (*EntryResponse, error) {
	path, user, err := s.resolve(call, request.Path)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil {
		if info.IsDir() {
			return nil, connectrpc.Errorf(connectrpc.AlreadyExists, "directory already exists: %s", path)
		}
		return nil, connectrpc.Errorf(connectrpc.InvalidArgument, "path already exists but it is not a directory: %s", path)
	}
	if err := paths.EnsureDirectory(path, user); err != nil {
		return nil, coded(err, "file not found")
	}
	return s.entry(path)
}

func (s *Service) move(call *connectrpc.Call, request *MoveRequest) (*EntryResponse, error) {
	source, user, err := s.resolve(call, request.Source)
	if err != nil {
		return nil, err
	}
	destination, _, err := s.resolve(call, request.Destination)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(source); err != nil {
		return nil, coded(err, "source file not found")
	}
	if err := paths.EnsureDirectory(filepath.Dir(destination), user); err != nil {
		return nil, coded(err, "source file not found")
	}
	if err := rename(source, destination); err != nil {
		return nil, coded(err, "source file not found")
	}
	return s.entry(destination)
}

func (s *Service) remove(call *connectrpc.Call, request *PathRequest) (Empty, error) {
	path, _, err := s.resolve(call, request.Path)
	if err != nil {
		return Empty{}, err
	}
	if filepath.Clean(path) == "/" {
		return Empty{}, connectrpc.Errorf(connectrpc.InvalidArgument, "the root directory cannot be removed")
	}
	// A trailing slash would follow a link: remove the link itself.
	if err := os.RemoveAll(strings.TrimRight(path, "/")); err != nil {
		return Empty{}, coded(err, "file not found")
	}
	return Empty{}, nil
}

// coded gives an operating system error its wire code. missing is how this method says "not found".
func coded(err error, missing string) error {
	code := connectrpc.Internal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return connectrpc.Errorf(connectrpc.NotFound, "%s: %v", missing, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENAMETOOLONG),
		errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.ELOOP),
		errors.Is(err, fs.ErrExist), strings.HasPrefix(err.Error(), "path is a file"):
		code = connectrpc.InvalidArgument
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = connectrpc.PermissionDenied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code = connectrpc.Internal // resource_exhausted would read as "rate limit" in the clients
	}
	return connectrpc.Errorf(code, "%v", err)
}
