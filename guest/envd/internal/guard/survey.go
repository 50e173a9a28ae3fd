package guard

import (
	"os"
	"strconv"
	"strings"

	"atoll.dev/envd/internal/proctable"
)

// survey lists every process but ours, with the command it belongs to.
func survey(families []family) []proc {
	entries := proctable.Read()
	self := os.Getpid()
	spare := map[int]bool{self: true, 0: true, 1: true}
	roots := map[int]int{}
	for _, f := range families {
		for _, pid := range f.members(func() []proctable.Entry { return entries }) {
			roots[pid] = f.root
		}
	}
	var procs []proc
	for _, e := range entries {
		if spare[e.PID] || e.Zombie {
			continue
		}
		of, known := roots[e.PID]
		if !known {
			if !descends(entries, e, self) {
				continue // not of this sandbox (when the daemon is not process 1)
			}
			of = e.Session
		}
		procs = append(procs, proc{pid: e.PID, family: of, rss: proctable.Resident(e.PID), tasks: max(e.Threads, 1)})
	}
	return procs
}

// descends says whether an orphan is ours to judge.
func descends(entries []proctable.Entry, e proctable.Entry, ancestor int) bool {
	if ancestor == 1 {
		return true
	}
	parents := map[int]int{}
	for _, entry := range entries {
		parents[entry.PID] = entry.Parent
	}
	for pid, hops := e.PID, 0; pid > 1 && hops < len(entries); pid, hops = parents[pid], hops+1 {
		if pid == ancestor {
			return true
		}
	}
	return false
}

func commandOf(pid int) string {
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.TrimSpace(string(name))
}
