package server

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// restAfter is how long after the last request the daemon tidies up.
	restAfter = 5 * time.Second
	// worthFreeing is how much unused memory makes that worth a collection.
	worthFreeing = 4 << 20
)

// tidyWhenIdle gives memory back some time after the last request ended. The runtime would by itself, but only
// as it works on: an idle daemon keeps what its busiest moment took, and every snapshot holds it.
func tidyWhenIdle(next http.Handler) http.Handler {
	timer := time.AfterFunc(restAfter, freeMemory)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" { // probes come all the time and take nothing
			defer timer.Reset(restAfter)
		}
		next.ServeHTTP(w, r)
	})
}

func freeMemory() {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if memory.Sys-memory.HeapReleased-memory.StackInuse > memory.HeapAlloc/2+worthFreeing {
		debug.FreeOSMemory()
	}
}
