// Command envd is the daemon inside every sandbox: process 1, and the host's and the clients' hand in there.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/events"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/reaper"
	"atoll.dev/envd/internal/server"
	"atoll.dev/envd/internal/users"
)

// version is the wire version reported to clients, which gate features by it.
const version = "0.6.13"

func main() {
	port := flag.Int("port", 49983, "TCP port to listen on")
	hostKey := flag.String("host-key", hostKeyVariable(), "base64 of the host's Ed25519 public key, else in "+hostKeyName+"; without it host-only routes are open (tests)")
	maxProcesses := flag.Int("max-processes", 300, "processes that may run inside (and three times as many threads); the host's pids limit must be ten times as high")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	log.SetFlags(log.LstdFlags | log.LUTC)
	log.SetPrefix("envd: ")
	if err := run(*port, *hostKey, *maxProcesses); err != nil {
		log.Fatal(err)
	}
}

// hostKeyName is the variable that the host's key comes in: the arguments of process 1 are part of a snapshot's
// shape, and the same on every host.
const hostKeyName = "ATOLL_HOST_KEY"

// hostKeyVariable takes it out of the environment, which commands inherit.
func hostKeyVariable() string {
	defer os.Unsetenv(hostKeyName)
	return os.Getenv(hostKeyName)
}

func run(port int, encodedKey string, maxProcesses int) error {
	key, err := identity.ParseHostKey(encodedKey)
	if err != nil {
		return err
	}
	// Small heap, small snapshot: the daemon is mostly idle, and its memory is in every sandbox.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)
	syscall.Umask(0o022)
	limitAccounts(maxProcesses)
	reaper.System()
	// Orphans come to us even where we are not process 1.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	store := identity.NewStore(users.System)
	return server.Serve(port, server.Handler(store, server.Options{
		HostKey: key,
		Root:    identity.Root{Path: "/", Machine: os.Getpid() == 1, Later: identity.AfterAnswer},
		Version: version, EventsFile: events.File, MaxProcesses: maxProcesses,
	}))
}

// limitAccounts bounds how many threads any account but root may have, for all that is started here. The kernel
// holds to it exactly, where the guard needs a moment to look: it keeps a fork bomb below what ends the sandbox.
func limitAccounts(maxProcesses int) {
	if os.Getpid() != 1 {
		return
	}
	most := uint64(2 * maxProcesses)
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		log.Printf("accounts have no limit of processes: %v", err)
	}
}
