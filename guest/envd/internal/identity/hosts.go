package identity

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	hostsFile  = "/etc/hosts"
	eventsName = "events.e2b.local"
	oursMark   = "# atoll"
)

// writeHosts gives the sandbox's own name and the events service an address in /etc/hosts. Lines of ours
// carry a mark, so that the next identity replaces them.
func (s *scribe) writeHosts(init *Init) error {
	ours := map[string]string{}
	if init.Hostname != "" {
		ours[init.Hostname] = "127.0.1.1"
	}
	if address, err := url.Parse(init.Events); err == nil && address.Hostname() != "" {
		ours[eventsName] = address.Hostname()
	}
	if len(ours) == 0 {
		return nil
	}
	wanted := fmt.Sprint(ours)
	if s.written[hostsFile] == wanted {
		return nil
	}
	if err := s.ownDirectory(filepath.Dir(hostsFile)); err != nil {
		return err
	}
	if err := rewrite(filepath.Join(s.Path, hostsFile), ours); err != nil {
		return fmt.Errorf("writing %s: %w", hostsFile, err)
	}
	s.written[hostsFile] = wanted
	return nil
}

// rewrite changes the file in place: the runtime may have mounted it, and a mount point cannot be renamed over.
func rewrite(path string, ours map[string]string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }()
	before, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	after := []byte(mergeHosts(string(before), ours))
	if _, err := file.WriteAt(after, 0); err != nil || len(after) >= len(before) {
		return err
	}
	return file.Truncate(int64(len(after)))
}

func mergeHosts(content string, ours map[string]string) string {
	var lines []string
	for line := range strings.Lines(content) {
		if !strings.Contains(line, oursMark) {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, "127.0.0.1 localhost", "::1 localhost")
	}
	for name, address := range ours {
		lines = append(lines, address+" "+name+" "+oursMark)
	}
	return strings.Join(lines, "\n") + "\n"
}
