package process

import (
	"os"
	"testing"
	"time"
)

// Among hundreds of runnable processes a pump may get its turn long after the command has ended.
func TestALatePumpLosesNothing(t *testing.T) {
	reading, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Close() // as a server left behind would hold it
	late, err := newPump(stdout, reading)
	if err != nil {
		t.Fatal(err)
	}
	process := &Process{journal: newJournal(), pumps: []*pump{late}}
	r := process.journal.read(nil)
	if _, err := writing.WriteString("alive"); err != nil {
		t.Fatal(err)
	}
	process.pumping.Add(1)
	time.AfterFunc(quiet+quiet/2, func() { process.startPumps(); process.pumping.Done() })
	process.waitDrained()
	if got, _ := readAll(r); got[stdout] != "alive" {
		t.Fatalf("%q", got[stdout])
	}
}
