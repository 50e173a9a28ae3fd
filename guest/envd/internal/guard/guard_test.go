package guard

import (
	"testing"
	"time"
)

func TestLimitsAndLooks(t *testing.T) {
	l := newLimits(1024*mib, NewMost(300))
	if l.reserve != 32*mib || l.tasks != 750 {
		t.Fatalf("%+v", l)
	}
	for _, row := range []struct {
		available uint64
		tasks     int
		want      time.Duration
	}{
		{1000 * mib, 10, longestGap},
		{(32 + 256) * mib, 10, 125 * time.Millisecond},
		{33 * mib, 10, shortestGap},
		{0, 10, shortestGap},
		{1000 * mib, 200, 100 * time.Millisecond},
		{1000 * mib, 299, shortestGap},
		{1000 * mib, 400, crowdedGap},
	} {
		if got := l.nextLook(row.available, row.tasks); got != row.want {
			t.Errorf("%d MiB, %d tasks: %v", row.available/mib, row.tasks, got)
		}
	}
	if small, large := newLimits(128*mib, Most{}), newLimits(64<<30, Most{}); small.reserve != 16*mib || large.reserve != 128*mib {
		t.Error("the reserve is within bounds")
	}
	if got := l.memoryMessage(24 * mib); got != "memory limit exceeded (used 1000 of 1024 MiB)" {
		t.Error(got)
	}
}

func TestPickMemory(t *testing.T) {
	l := newLimits(1000*mib, NewMost(300))
	for _, row := range []struct {
		name   string
		procs  []proc
		victim int
		whole  bool
		ok     bool
	}{
		{"the largest process", []proc{{10, 10, 40 * mib, 1}, {11, 10, 600 * mib, 1}, {20, 20, 200 * mib, 1}}, 11, false, true},
		{"a swarm of small ones", []proc{{10, 10, 30 * mib, 1}, {11, 10, 40 * mib, 1}, {20, 20, 45 * mib, 1}}, 10, true, true},
		{"nobody is worth it", []proc{{10, 10, 10 * mib, 1}, {20, 20, 20 * mib, 1}}, 0, true, false},
		{"nobody is there", nil, 0, true, false},
	} {
		victim, whole, ok := l.pickMemory(row.procs)
		if ok != row.ok || whole != row.whole || ok && victim.pid != row.victim {
			t.Errorf("%s: %+v %v %v", row.name, victim, whole, ok)
		}
	}
}

func TestPickTasks(t *testing.T) {
	l := newLimits(1000*mib, NewMost(100))
	if family, ok := l.pickTasks([]proc{{1, 5, 0, 200}, {2, 5, 0, 50}, {3, 6, 0, 60}}); !ok || family != 5 {
		t.Errorf("%d %v", family, ok)
	}
	if _, ok := l.pickTasks([]proc{{1, 1, 0, 20}, {2, 2, 0, 20}}); ok {
		t.Error("many small ones have no culprit")
	}
}
