package watch

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/connectrpc"
)

// maxPending bounds what a watcher holds for a client that does not come; then the oldest go.
const maxPending = 100_000

// Watcher watches one directory, or all below it.
type Watcher struct {
	root      string
	recursive bool
	kernel    *inotify

	// Owned by the goroutine that reads the kernel's queue.
	directories map[int32]string // watch → path relative to root, "." for root
	told        map[string]bool  // names a look into a new directory has told already
	uploads     map[uint32]bool  // cookie of a finished upload's rename → it replaced a file

	mu      sync.Mutex
	pending []Event
	ready   chan struct{} // holds one token when there may be news
}

// Watch starts watching an existing directory.
func Watch(root string, recursive bool) (*Watcher, error) {
	kernel, err := openInotify()
	if err != nil {
		return nil, tooMany(err)
	}
	w := &Watcher{
		root: root, recursive: recursive, kernel: kernel, directories: map[int32]string{},
		told: map[string]bool{}, uploads: map[uint32]bool{}, ready: make(chan struct{}, 1),
	}
	if err := w.watchTree(); err != nil {
		w.Close()
		return nil, tooMany(err)
	}
	go kernel.each(w.handle, func() { clear(w.told) })
	return w, nil
}

// Close ends the watching.
func (w *Watcher) Close() { _ = w.kernel.file.Close() }

// take gives what has happened since the last call.
func (w *Watcher) take() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.pending
	w.pending = nil
	return events
}

func (w *Watcher) tell(name, kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.pending); n > 0 && w.pending[n-1].Name == name && w.pending[n-1].Type == kind {
		return // as the kernel does with equal events in a row
	}
	if len(w.pending) >= maxPending {
		w.pending = append([]Event(nil), w.pending[maxPending/10:]...)
	}
	w.pending = append(w.pending, Event{Name: name, Type: kind})
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *Watcher) path(name string) string { return filepath.Join(w.root, name) }

func tooMany(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EMFILE) {
		return connectrpc.Errorf(connectrpc.FailedPrecondition,
			"too many directories are watched (%v): remove watchers, or watch a smaller tree", err)
	}
	return err
}

func below(name, directory string) bool {
	return name == directory || directory == "." || strings.HasPrefix(name, directory+"/")
}
