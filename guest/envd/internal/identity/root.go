package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/users"
)

// environmentFile holds the global variables as a JSON object. It is of the sandbox whose E2B_SANDBOX_ID is in it.
const environmentFile = "/run/e2b/.atoll_environment"

// Root is where the files for programs inside are written: "/" in a sandbox, a directory in tests.
type Root struct {
	Path string
	// Machine says that host name, clock and entropy are ours to set: the daemon is process 1.
	Machine bool
	// Later does what the host need not wait for; nil does it at once.
	Later func(func())
}

// scribe writes the files of one root. Each create of a sandbox waits for it, and a system call inside costs
// tens of microseconds: what it wrote before it does not write again, whatever became of it since.
type scribe struct {
	Root
	mu      sync.Mutex
	written map[string]string
	// real are the directories seen to be none of a user's links, by this apply.
	real map[string]bool
}

func newScribe(root Root) *scribe {
	return &scribe{Root: root, written: map[string]string{}}
}

func (s *scribe) apply(init *Init) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.real = map[string]bool{"/": true}
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	if s.Machine {
		note(applyMachine(init))
	}
	note(s.writeNames(init))
	note(s.trust(init.CABundle))
	if init.Hostname != "" {
		note(s.keep("/etc/hostname", init.Hostname+"\n"))
	}
	note(s.writeHosts(init))
	// Last: other services take its change as the sign that everything above is in place.
	if init.SandboxID != "" {
		note(s.replace("/run/e2b/.E2B_SANDBOX_ID", []byte(init.SandboxID)))
	}
	return problems
}

func (s *scribe) writeNames(init *Init) error {
	if init.SandboxID == "" {
		return nil
	}
	return errors.Join(
		s.keep("/run/e2b/.E2B_SANDBOX", "true"),
		s.keep("/run/e2b/.E2B_TEMPLATE_ID", init.TemplateID),
		s.keep("/run/e2b/.E2B_TEAM_ID", init.TeamID),
		s.keep("/.e2b", fmt.Sprintf("ENV_ID=%s\nTEMPLATE_ID=%s\nBUILD_ID=%s\n",
			init.TemplateID, init.TemplateID, init.BuildID)),
	)
}

// writeEnvironment spares a service of the default account the call of GET /envs. Nobody else (a nil owner is the
// daemon) may read it: the variables are in the environment of that account's commands only.
func (s *scribe) writeEnvironment(envs map[string]string, owner *users.User) error {
	content, err := json.Marshal(envs)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.real = map[string]bool{"/": true}
	return s.keepFile(environmentFile, string(content), file{mode: 0o600, owner: owner})
}

// keep replaces a file for everybody unless it is what was written last.
func (s *scribe) keep(path, content string) error {
	return s.keepFile(path, content, file{mode: 0o644})
}

func (s *scribe) keepFile(path, content string, kind file) error {
	if known, ok := s.written[path]; ok && known == content {
		return nil
	}
	err := s.replaceFile(path, []byte(content), kind)
	if err == nil {
		s.written[path] = content
	}
	return err
}

// file says who may do what with a file; a nil owner is the daemon.
type file struct {
	mode  uint32
	owner *users.User
}

func (s *scribe) replace(path string, content []byte) error {
	return s.replaceFile(path, content, file{mode: 0o644})
}

// replaceFile puts a file of ours at path whatever is there now. It never writes through a link a user may have
// left: each directory on the way must be a real one, and the file is renamed into place.
func (s *scribe) replaceFile(path string, content []byte, kind file) error {
	target := filepath.Join(s.Path, path)
	if err := s.ownDirectory(filepath.Dir(path)); err != nil {
		return err
	}
	made := filepath.Join(filepath.Dir(target), fmt.Sprintf(".atoll-%x", rand.Uint64()))
	err := writeNew(made, content, kind)
	if err == nil {
		err = renameOver(made, target)
	}
	if err != nil {
		_ = os.Remove(made)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// writeNew makes a file that nobody made before, by the fewest system calls.
func writeNew(path string, content []byte, kind file) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, kind.mode)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, content)
	if kind.owner != nil {
		err = errors.Join(err, unix.Fchown(fd, int(kind.owner.UID), int(kind.owner.GID)))
	}
	return errors.Join(err, unix.Close(fd))
}

// renameOver removes a directory that is in the way.
func renameOver(from, to string) error {
	err := unix.Rename(from, to)
	if err == nil {
		return nil
	}
	if info, failed := os.Lstat(to); failed != nil || !info.IsDir() {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return unix.Rename(from, to)
}

// ownDirectory makes path a real directory, below the root, replacing anything else that has its name.
func (s *scribe) ownDirectory(path string) error {
	if s.real[path] {
		return nil
	}
	if err := s.ownDirectory(filepath.Dir(path)); err != nil {
		return err
	}
	full := filepath.Join(s.Path, path)
	info, err := os.Lstat(full)
	if err == nil && info.IsDir() {
		s.real[path] = true
		return nil
	}
	if err == nil {
		if err := os.Remove(full); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(full, 0o755); err != nil {
		return err
	}
	s.real[path] = true
	return nil
}
