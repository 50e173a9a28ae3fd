package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Root is where the files for programs inside are written: "/" in a sandbox, a directory in tests.
type Root struct {
	Path string
	// Machine says that host name, clock and entropy are ours to set: the daemon is process 1.
	Machine bool
}

func (r Root) apply(init *Init) []error {
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	if r.Machine {
		note(applyMachine(init))
	}
	note(r.writeNames(init))
	note(r.trust(init.CABundle))
	if init.Hostname != "" {
		note(r.replace("/etc/hostname", []byte(init.Hostname+"\n")))
	}
	note(r.writeHosts(init))
	// Last: other services take its change as the sign that everything above is in place.
	if init.SandboxID != "" {
		note(r.replace("/run/e2b/.E2B_SANDBOX_ID", []byte(init.SandboxID)))
	}
	return problems
}

func (r Root) writeNames(init *Init) error {
	if init.SandboxID == "" {
		return nil
	}
	files := map[string]string{
		"/run/e2b/.E2B_SANDBOX":     "true",
		"/run/e2b/.E2B_TEMPLATE_ID": init.TemplateID,
		"/run/e2b/.E2B_TEAM_ID":     init.TeamID,
		"/.e2b": fmt.Sprintf("ENV_ID=%s\nTEMPLATE_ID=%s\nBUILD_ID=%s\n",
			init.TemplateID, init.TemplateID, init.BuildID),
	}
	var failed error
	for path, content := range files {
		failed = errors.Join(failed, r.replace(path, []byte(content)))
	}
	return failed
}

// replace puts a file of ours at path whatever is there now. It never writes through a link a user may have
// left: each directory on the way must be a real one, and the file is renamed into place.
func (r Root) replace(path string, content []byte) error {
	target := filepath.Join(r.Path, path)
	if err := r.ownDirectory(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(target), ".atoll-")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = renameOver(file.Name(), target)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func renameOver(from, to string) error {
	if info, err := os.Lstat(to); err == nil && info.IsDir() {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return os.Rename(from, to)
}

// ownDirectory makes path a real directory, below r.Path, replacing anything else that has its name.
func (r Root) ownDirectory(path string) error {
	if path == "/" {
		return nil
	}
	if err := r.ownDirectory(filepath.Dir(path)); err != nil {
		return err
	}
	full := filepath.Join(r.Path, path)
	info, err := os.Lstat(full)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		if err := os.Remove(full); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Mkdir(full, 0o755)
}
