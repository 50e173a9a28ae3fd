package identity

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const (
	eventsName = "events.e2b.local"
	oursMark   = "# atoll"
)

// writeHosts gives the sandbox's own name and the events service an address in /etc/hosts. Lines of ours
// carry a mark, so that the next identity replaces them.
func (r Root) writeHosts(init *Init) error {
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
	path := filepath.Join(r.Path, "/etc/hosts")
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := r.ownDirectory("/etc"); err != nil {
		return err
	}
	// Written in place: the runtime may have mounted this file, and a mount point cannot be renamed over.
	return os.WriteFile(path, []byte(mergeHosts(string(content), ours)), 0o644)
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
