// Package proctable reads the kernel's process table from /proc and answers who belongs to whom.
package proctable

import (
	"bytes"
	"os"
	"strconv"
)

// Entry is one process.
type Entry struct {
	PID, Parent, Group, Session int
	Threads                     int // zero where the kernel does not say
	Zombie                      bool
}

// Read lists all processes. A process that ends meanwhile is left out.
func Read() []Entry {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	entries := make([]Entry, 0, len(names))
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		if entry, ok := parseStat(stat); ok {
			entries = append(entries, entry)
		}
	}
	return entries
}

// threadsField is num_threads, the 20th of proc(5), counted from the state.
const threadsField = 17

// parseStat reads "pid (comm) state ppid pgrp session …"; comm may hold spaces and parentheses.
func parseStat(stat []byte) (Entry, bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 1 || end < open {
		return Entry{}, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 4 {
		return Entry{}, false
	}
	entry := Entry{Zombie: fields[0][0] == 'Z' || fields[0][0] == 'X'}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(stat[:open])))
	if err != nil {
		return Entry{}, false
	}
	entry.PID = pid
	entry.Parent, _ = strconv.Atoi(string(fields[1]))
	entry.Group, _ = strconv.Atoi(string(fields[2]))
	entry.Session, _ = strconv.Atoi(string(fields[3]))
	if len(fields) > threadsField {
		entry.Threads, _ = strconv.Atoi(string(fields[threadsField]))
	}
	return entry, true
}
