// Package server puts the daemon together: which route is whose, who may call it, and how it listens.
package server

import (
	"log"
	"net/http"

	"atoll.dev/envd/internal/access"
	"atoll.dev/envd/internal/cgroup"
	"atoll.dev/envd/internal/changes"
	"atoll.dev/envd/internal/directories"
	"atoll.dev/envd/internal/events"
	"atoll.dev/envd/internal/files"
	"atoll.dev/envd/internal/filesystem"
	"atoll.dev/envd/internal/guard"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/metrics"
	"atoll.dev/envd/internal/process"
	"atoll.dev/envd/internal/reaper"
	"atoll.dev/envd/internal/reply"
	"atoll.dev/envd/internal/tunnel"
	"atoll.dev/envd/internal/watch"
)

// Options of the daemon.
type Options struct {
	HostKey *identity.HostKey
	Root    identity.Root
	Version string
	// EventsFile is where services inside find events; empty for none.
	EventsFile string
	// MaxProcesses may run inside; 0 leaves the sandbox unguarded.
	MaxProcesses int
}

// Handler builds every service and the one handler in front of them, and starts the guard.
func Handler(store *identity.Store, options Options) http.Handler {
	open, guarded := http.NewServeMux(), http.NewServeMux()

	open.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	})
	open.Handle("POST /init", store.Handler(options.HostKey, options.Root, options.Version))

	guarded.HandleFunc("GET /envs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		reply.JSON(w, store.Envs())
	})
	guarded.Handle("GET /metrics", metrics.NewMeter())
	files.New(store).Register(open, guarded)
	filesystem.New(store).Register(guarded)
	watch.New(store).Register(guarded)
	directories.New(store).Register(open)
	guarded.Handle("GET /changes", changes.New(store))
	guarded.HandleFunc("GET /tunnel", tunnel.Serve)

	most := guard.NewMost(options.MaxProcesses)
	groups := mountGroups(options, most)
	commands := process.NewManager(store, groups)
	commands.Register(guarded)
	happened := events.NewLog(options.EventsFile)
	guarded.Handle("GET /events", happened)
	if options.MaxProcesses > 0 {
		go guard.New(commands, reaper.System(), groups, happened, most).Run()
	}

	open.Handle("/", access.Require(store, guarded))
	return tidyWhenIdle(allowOrigins(open))
}

// mountGroups: only process 1 may take a hierarchy of the kernel's for itself.
func mountGroups(options Options, most guard.Most) *cgroup.Tree {
	if !options.Root.Machine || options.MaxProcesses <= 0 {
		return nil
	}
	groups, err := cgroup.Mount(options.Root.Path+"run/atoll/cgroup", most.Backstop())
	if err != nil {
		log.Printf("commands have no control groups: %v", err)
		return nil
	}
	return groups
}
