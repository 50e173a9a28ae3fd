// Package guard keeps one greedy program from taking the whole sandbox. It watches the sandbox's memory and
// number of tasks while anything but the daemon runs, and ends the largest process, or the largest family of
// processes, before the limit would end everything.
//
// The daemon has no priority of its own to set: the sandbox's kernel (gVisor) ignores niceness and OOM scores.
package guard
