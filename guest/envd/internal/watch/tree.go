package watch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/placing"
)

// watchTree sets the first watches. Only the root must succeed; below, what vanishes meanwhile is left out.
func (w *Watcher) watchTree() error {
	watch, err := w.kernel.add(w.root, true)
	if err != nil {
		return err
	}
	w.directories[watch] = "."
	if !w.recursive {
		return nil
	}
	return w.eachDirectory(".", func(name string) error {
		_, err := w.watchDirectory(name)
		return err
	})
}

// watchDirectory watches one directory below the root; fresh is false where that was done before.
func (w *Watcher) watchDirectory(name string) (fresh bool, err error) {
	watch, err := w.kernel.add(w.path(name), false)
	if errors.Is(err, unix.ENOSPC) {
		return false, err
	}
	if err != nil {
		return false, nil //nolint:nilerr // gone again, or no longer a directory
	}
	old, known := w.directories[watch]
	w.directories[watch] = name
	return !known || old != name, nil
}

func (w *Watcher) eachDirectory(name string, visit func(string) error) error {
	children, _ := os.ReadDir(w.path(name))
	for _, child := range children {
		if !child.IsDir() {
			continue
		}
		path := filepath.Join(name, child.Name())
		if err := visit(path); err != nil {
			return err
		}
		if err := w.eachDirectory(path, visit); err != nil {
			return err
		}
	}
	return nil
}

// watchNew watches a directory that has just appeared and tells what it holds already: from the moment of the
// watch the kernel tells the rest, and what both tell is told once.
func (w *Watcher) watchNew(name string) {
	if _, err := w.watchDirectory(name); err != nil {
		return
	}
	children, _ := os.ReadDir(w.path(name))
	for _, child := range children {
		if placing.IsTemporary(child.Name()) {
			continue
		}
		path := filepath.Join(name, child.Name())
		if w.told[path] {
			continue
		}
		w.told[path] = true
		w.tell(path, created)
		if child.IsDir() {
			w.watchNew(path)
		} else if hasContent(child) {
			w.tell(path, written)
		}
	}
}

func hasContent(child fs.DirEntry) bool {
	info, err := child.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// watchMissed runs after the kernel's queue overflowed: directories made meanwhile are found and told.
func (w *Watcher) watchMissed() {
	if !w.recursive {
		return
	}
	_ = w.eachDirectory(".", func(name string) error {
		fresh, err := w.watchDirectory(name)
		if fresh {
			w.tell(name, created)
			w.watchNew(name)
		}
		return err
	})
}
