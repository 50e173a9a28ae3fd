// Package watch is the watching half of filesystem.Filesystem (wire sheet §7.3), on inotify.
//
// A Watcher turns kernel events into the wire's and keeps them in order until someone takes them. In recursive
// ones a new directory is watched first and then looked into, and what is found there is told as created, so
// nothing made before the watch was set is lost, and nothing is told twice.
package watch
