package identity

import (
	"crypto/subtle"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"atoll.dev/envd/internal/users"
)

// Store is the sandbox's identity as of the last init. Safe for concurrent use.
type Store struct {
	accounts users.Database
	mu       sync.RWMutex
	token    string
	envs     map[string]string
	user     string
	workdir  string
	started  time.Time
}

// NewStore starts with no token, no variables and root as the default account.
func NewStore(accounts users.Database) *Store {
	return &Store{accounts: accounts, envs: map[string]string{}, started: time.Now()}
}

// HasToken says whether callers must show a token.
func (s *Store) HasToken() bool {
	return s.Token() != ""
}

// Token is the access token, empty when everything is open.
func (s *Store) Token() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.token
}

// IsToken compares in constant time.
func (s *Store) IsToken(given string) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(s.Token())) == 1
}

// Envs is a copy of the global variables.
func (s *Store) Envs() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.envs)
}

// Workdir is the default work directory, empty when the account's home serves.
func (s *Store) Workdir() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.workdir
}

// Started is when this sandbox came to life: its first init, or the daemon's start.
func (s *Store) Started() time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.started
}

// UnknownUserError names an account that does not exist.
type UnknownUserError struct {
	Name    string
	Default bool // nobody asked for it by name: the default account itself is missing
	Cause   error
}

func (e *UnknownUserError) Error() string {
	if e.Default {
		return fmt.Sprintf("invalid default user: '%s'", e.Name)
	}
	return fmt.Sprintf("invalid username: '%s'", e.Name)
}

// Unwrap gives the look-up's own error.
func (e *UnknownUserError) Unwrap() error { return e.Cause }

// User is the account a caller asked for, or the default one when name is empty.
func (s *Store) User(name string) (users.User, error) {
	fallback := name == ""
	if fallback {
		s.mu.RLock()
		name = s.user
		s.mu.RUnlock()
	}
	if name == "" {
		name = "root"
	}
	user, err := s.accounts.Lookup(name)
	if err != nil {
		return users.User{}, &UnknownUserError{Name: name, Default: fallback, Cause: err}
	}
	return user, nil
}

// owner is who reads files for the default account's services, nil where that is the daemon itself or nobody.
func (s *Store) owner() *users.User {
	user, err := s.User("")
	if err != nil || int(user.UID) == os.Geteuid() {
		return nil
	}
	return &user
}

// Accounts is where names and numbers are looked up.
func (s *Store) Accounts() users.Database { return s.accounts }
