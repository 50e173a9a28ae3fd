package watch

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/placing"
)

// handle turns one kernel event into the wire's.
func (w *Watcher) handle(event kernelEvent) {
	if event.mask&unix.IN_Q_OVERFLOW != 0 {
		w.watchMissed()
		return
	}
	directory, known := w.directories[event.watch]
	if !known {
		return
	}
	if event.name == "" {
		w.handleSelf(event, directory)
		return
	}
	name := filepath.Join(directory, event.name)
	if placing.IsTemporary(event.name) {
		if event.mask&unix.IN_MOVED_FROM != 0 {
			w.uploads[event.cookie] = placing.Replaces(event.name)
		}
		return
	}
	if replaced, upload := w.uploads[event.cookie]; upload && event.mask&unix.IN_MOVED_TO != 0 {
		delete(w.uploads, event.cookie)
		if !replaced && !w.told[name] {
			w.tell(name, created)
		}
		delete(w.told, name)
		w.tell(name, written)
		return
	}
	w.tellAll(name, event.mask)
}

// handleSelf: what happens to a directory below the root is told by its parent's watch already.
func (w *Watcher) handleSelf(event kernelEvent, directory string) {
	switch {
	case event.mask&unix.IN_IGNORED != 0:
		delete(w.directories, event.watch)
	case directory != ".":
	case event.mask&unix.IN_DELETE_SELF != 0:
		w.tell(".", removed)
	case event.mask&unix.IN_MOVE_SELF != 0:
		w.tell(".", renamed)
	}
}

func (w *Watcher) tellAll(name string, mask uint32) {
	isDirectory := mask&unix.IN_ISDIR != 0
	if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
		if w.told[name] {
			delete(w.told, name)
		} else {
			w.tell(name, created)
		}
		if isDirectory && w.recursive {
			w.watchNew(name)
		}
	}
	if mask&unix.IN_MOVED_FROM != 0 {
		w.tell(name, renamed)
	}
	if mask&unix.IN_ATTRIB != 0 {
		w.tell(name, chmod)
	}
	if mask&unix.IN_MODIFY != 0 {
		w.tell(name, written)
	}
	if mask&unix.IN_DELETE != 0 {
		w.tell(name, removed)
	}
	if mask&(unix.IN_MOVED_FROM|unix.IN_DELETE) != 0 {
		delete(w.told, name)
		if isDirectory {
			w.forget(name, mask&unix.IN_MOVED_FROM != 0)
		}
	}
}

// forget drops a directory that is gone. One that moved away is alive elsewhere and must stop telling.
func (w *Watcher) forget(name string, moved bool) {
	for watch, directory := range w.directories {
		if below(directory, name) {
			delete(w.directories, watch)
			if moved {
				w.kernel.remove(watch)
			}
		}
	}
	for told := range w.told {
		if below(told, name) {
			delete(w.told, told)
		}
	}
}
