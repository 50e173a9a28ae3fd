// Package proctable reads the kernel's process table from /proc and answers who belongs to whom.
package proctable

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Entry is one process.
type Entry struct {
	PID, Parent, Group, Session int
	Threads                     int // zero where the kernel does not say
	Zombie                      bool
}

// Read lists all processes. A process that ends meanwhile is left out.
func Read() []Entry { return readEach(pids()) }

// Lazy reads the table when it is first asked for.
func Lazy() func() []Entry { return sync.OnceValue(Read) }

func readEach(names []string) []Entry {
	buffer := make([]byte, 1024)
	entries := make([]Entry, 0, len(names))
	for _, name := range names {
		if entry, ok := parseStat(readSmall("/proc/"+name+"/stat", buffer)); ok {
			entries = append(entries, entry)
		}
	}
	return entries
}

func pids() []string {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return slices.DeleteFunc(names, func(name string) bool { return name[0] < '0' || name[0] > '9' })
}

// readSmall takes three system calls where os.ReadFile takes six: it matters in a swarm of processes.
func readSmall(path string, buffer []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buffer)
	if err != nil || n < 0 {
		return nil
	}
	return buffer[:n]
}

// Resident is how many bytes of memory a process holds; zero when it is gone. Shared pages count.
func Resident(pid int) uint64 {
	// statm: size resident shared …, in pages.
	fields := bytes.Fields(readSmall("/proc/"+strconv.Itoa(pid)+"/statm", make([]byte, 256)))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize())
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
