package guard

import (
	"testing"
	"time"

	"atoll.dev/envd/internal/proctable"
)

func TestLimitsAndLooks(t *testing.T) {
	l := newLimits(1024*mib, NewMost(300))
	if l.reserve != 32*mib || l.tasks != 900 {
		t.Fatalf("%+v", l)
	}
	for _, row := range []struct {
		available uint64
		want      time.Duration
	}{
		{1000 * mib, longestGap},
		{(32 + 256) * mib, 125 * time.Millisecond},
		{33 * mib, shortestGap},
		{0, shortestGap},
	} {
		if got := l.nextLook(row.available); got != row.want {
			t.Errorf("%d MiB: %v", row.available/mib, got)
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

func TestSwarm(t *testing.T) {
	bomb, other := proctable.Entry{Group: 7, Session: 6}, proctable.Entry{Group: 8, Session: 8}
	dying := proctable.Entry{Group: 7, Session: 6, Zombie: true}
	for _, row := range []struct {
		name    string
		sample  []proctable.Entry
		leader  int
		ok      bool
		settled bool
	}{
		{"most are of one group", []proctable.Entry{bomb, other, bomb, bomb}, 7, true, true},
		{"a mixture", []proctable.Entry{bomb, other, bomb, other}, 0, false, true},
		{"what is dying has been judged", []proctable.Entry{dying, dying, dying, other}, 0, false, false},
		{"nothing", nil, 0, false, false},
	} {
		leader, _, ok := swarm(row.sample)
		if ok != row.ok || leader != row.leader || settled(row.sample) != row.settled {
			t.Errorf("%s: %d %v %v", row.name, leader, ok, settled(row.sample))
		}
	}
}
