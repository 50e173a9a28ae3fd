package proctable

import (
	"os"
	"slices"
	"testing"
)

func TestParseStat(t *testing.T) {
	for _, row := range []struct {
		name, stat string
		want       Entry
		ok         bool
	}{
		{"plain", "12 (bash) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99", Entry{12, 1, 12, 12, 3, false}, true},
		{"a name with spaces and parentheses", "7 (a) b (c) R 3 4 5 0", Entry{7, 3, 4, 5, 0, false}, true},
		{"a zombie", "7 (x) Z 3 4 5 0", Entry{7, 3, 4, 5, 0, true}, true},
		{"empty", "", Entry{}, false},
		{"cut off", "7 (x) R", Entry{}, false},
		{"no number", "x (x) R 1 2 3", Entry{}, false},
	} {
		if got, ok := parseStat([]byte(row.stat)); ok != row.ok || got != row.want {
			t.Errorf("%s: %+v %v", row.name, got, ok)
		}
	}
}

func TestTree(t *testing.T) {
	entries := []Entry{
		{PID: 1, Group: 1, Session: 1},
		{PID: 10, Parent: 1, Group: 10, Session: 10},  // the command
		{PID: 11, Parent: 10, Group: 10, Session: 10}, // its child
		{PID: 12, Parent: 11, Group: 12, Session: 12}, // a grandchild that changed its session
		{PID: 13, Parent: 1, Group: 10, Session: 10},  // an orphan in the command's session
		{PID: 14, Parent: 1, Group: 12, Session: 12},  // an orphan in the grandchild's
		{PID: 15, Parent: 10, Group: 10, Session: 10, Zombie: true},
		{PID: 20, Parent: 1, Group: 20, Session: 20}, // another command
		{PID: 21, Parent: 20, Group: 20, Session: 20},
	}
	got := Tree(entries, []int{10}, map[int]bool{1: true})
	if want := []int{10, 11, 12, 13, 14}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Tree(entries, []int{1}, map[int]bool{1: true}); got != nil {
		t.Errorf("what is spared has no tree: %v", got)
	}
}

func TestReadFindsThisProcess(t *testing.T) {
	found := slices.ContainsFunc(Read(), func(e Entry) bool { return e.PID == os.Getpid() && e.Parent == os.Getppid() })
	if !found {
		t.Error("not in the table")
	}
	if Resident(os.Getpid()) < 1<<20 || Resident(-1) != 0 {
		t.Errorf("resident %d", Resident(os.Getpid()))
	}
}
