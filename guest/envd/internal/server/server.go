// Package server puts the daemon together: which route is whose, who may call it, and how it listens.
package server

import (
	"net/http"

	"atoll.dev/envd/internal/access"
	"atoll.dev/envd/internal/files"
	"atoll.dev/envd/internal/filesystem"
	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/metrics"
	"atoll.dev/envd/internal/process"
	"atoll.dev/envd/internal/reply"
)

// Options of the daemon.
type Options struct {
	HostKey *identity.HostKey
	Root    identity.Root
	Version string
}

// Handler builds every service and the one handler in front of them.
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
	process.NewManager(store).Register(guarded)

	open.Handle("/", access.Require(store, guarded))
	return allowOrigins(open)
}
