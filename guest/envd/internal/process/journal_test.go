package process

import (
	"bytes"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// readAll takes what a reader can get now, by stream.
func readAll(r *reader) (map[streamID]string, *End) {
	got := map[streamID]string{}
	for {
		taken, end := r.take(func(id streamID, data []byte) { got[id] += string(data) })
		if !taken {
			return got, end
		}
	}
}

func TestAReaderSeesAllInOrder(t *testing.T) {
	j := newJournal()
	r := j.read(nil)
	var order []string
	for i := range 10 {
		j.append(streamID(i%2), fmt.Appendf(nil, "%d", i))
	}
	j.append(stdout, []byte("x"))
	j.append(stdout, []byte("y"))
	j.finish(End{Status: "done"})
	for {
		taken, end := r.take(func(id streamID, data []byte) {
			order = append(order, fmt.Sprint(streamNames[id], string(data)))
		})
		if !taken {
			if end == nil || end.Status != "done" {
				t.Fatalf("end %v", end)
			}
			break
		}
	}
	want := "[stdout0 stderr1 stdout2 stderr3 stdout4 stderr5 stdout6 stderr7 stdout8 stderr9 stdoutxy]"
	if fmt.Sprint(order) != want {
		t.Fatalf("got %v", order)
	}
}

func TestReplay(t *testing.T) {
	j := newJournal()
	big := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KiB
	var all []byte
	for range 20 { // 1.25 MiB
		for piece := range slices.Chunk(big, chunkSize) {
			j.append(stdout, piece)
		}
		all = append(all, big...)
	}
	j.append(stderr, []byte("oops"))
	for _, row := range []struct {
		header, stdout, stderr string
		lost                   bool
	}{
		{header: "none"},
		{header: ""},
		{header: "all", stdout: string(all), stderr: "oops", lost: true},
		{header: fmt.Sprintf("stdout=%d", len(all)-3), stdout: string(all[len(all)-3:])},
		{header: fmt.Sprintf("stdout=%d, stderr=1", len(all)), stderr: "ops"},
		{header: "stdout=99999999"},
	} {
		from, err := parseReplay(row.header)
		if err != nil {
			t.Fatal(err)
		}
		r := j.read(from)
		start := r.positions()["stdout"]
		got, _ := readAll(r)
		r.close()
		if row.lost {
			if int64(len(all))-start < retained || start == 0 {
				t.Errorf("%s: starts at %d", row.header, start)
			}
			row.stdout = row.stdout[start:]
		}
		if got[stdout] != row.stdout || got[stderr] != row.stderr {
			t.Errorf("%s: %d bytes of stdout, stderr %q", row.header, len(got[stdout]), got[stderr])
		}
	}
	for _, header := range []string{"some", "stdout", "stdout=-1", "stdin=0", "stdout=x"} {
		if _, err := parseReplay(header); err == nil {
			t.Errorf("%q was taken", header)
		}
	}
}

func TestASlowReaderHoldsTheProcessBack(t *testing.T) {
	j := newJournal()
	slow := j.read(nil)
	appended := make(chan int, 1000)
	go func() {
		for i := range 40 {
			j.append(stdout, make([]byte, chunkSize))
			appended <- i
		}
		close(appended)
	}()
	deadline := time.After(5 * time.Second)
	for held := false; !held; {
		select {
		case <-deadline:
			t.Fatal("never held back")
		case <-time.After(time.Millisecond):
			_, held = j.progress()
		}
	}
	if done := len(appended); done > window/chunkSize+1 {
		t.Fatalf("%d chunks went by a reader that read none", done)
	}
	slow.close()
	for range appended { //nolint:revive // the rest flows without it
	}
}

func TestForgetLeavesTheOffsets(t *testing.T) {
	j := newJournal()
	j.append(stdout, []byte("abc"))
	j.forget()
	if j.held() != 0 {
		t.Error("still held")
	}
	r := j.read(replay{stdout: 0})
	if got, _ := readAll(r); got[stdout] != "" || r.positions()["stdout"] != 3 {
		t.Errorf("got %v from %v", got, r.positions())
	}
}

func TestEndOf(t *testing.T) {
	for _, row := range []struct {
		status syscall.WaitStatus
		want   End
	}{
		{0, End{0, true, "exit status 0", ""}},
		{3 << 8, End{3, true, "exit status 3", "exit status 3"}},
		{9, End{-1, false, "signal: killed", "signal: killed"}},
		{15, End{-1, false, "signal: terminated", "signal: terminated"}},
		{11 | 0x80, End{-1, false, "signal: segmentation fault (core dumped)", "signal: segmentation fault (core dumped)"}},
	} {
		if got := endOf(row.status); got != row.want {
			t.Errorf("%#x: %+v", int(row.status), got)
		}
	}
}

func TestFrame(t *testing.T) {
	f := frames.Get().(*frame)
	defer f.release()
	f.add(stderr, []byte("\xff\x00a"))
	f.add(stdout, nil)
	const want = "\x00\x00\x00\x00\x24" + `{"event":{"data":{"stderr":"/wBh"}}}` + "\x00\x00\x00\x00\x20" + `{"event":{"data":{"stdout":""}}}`
	if string(f.text) != want {
		t.Errorf("got %q", f.text)
	}
}
