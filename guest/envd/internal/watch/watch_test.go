package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"atoll.dev/envd/internal/placing"
	"atoll.dev/envd/internal/users"
)

// watched collects events of a directory until they stop coming.
type watched struct {
	t       *testing.T
	dir     string
	watcher *Watcher
}

func watching(t *testing.T, recursive bool, made ...string) *watched {
	t.Helper()
	dir := t.TempDir()
	for _, path := range made {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	watcher, err := Watch(dir, recursive)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Close)
	return &watched{t, dir, watcher}
}

// until gives the events up to the creation of a file made now, as "name type" with the type shortened.
func (w *watched) until() []string {
	w.t.Helper()
	const last = "last"
	w.do(os.WriteFile(filepath.Join(w.dir, last), nil, 0o600))
	var got []string
	deadline := time.After(5 * time.Second)
	for {
		for _, event := range w.watcher.take() {
			if event.Name == last {
				return got
			}
			got = append(got, event.Name+" "+strings.ToLower(strings.TrimPrefix(event.Type, "EVENT_TYPE_")))
		}
		select {
		case <-w.watcher.ready:
		case <-deadline:
			w.t.Fatalf("the last event never came; so far %v", got)
		}
	}
}

func (w *watched) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) expect(want ...string) {
	w.t.Helper()
	if got := w.until(); !slices.Equal(got, want) {
		w.t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestEventsOfAFile(t *testing.T) {
	w := watching(t, false)
	w.do(os.WriteFile(w.path("a"), []byte("x"), 0o600))
	w.do(os.Chmod(w.path("a"), 0o644))
	w.do(os.Rename(w.path("a"), w.path("b")))
	w.do(os.Remove(w.path("b")))
	w.expect("a create", "a write", "a chmod", "a rename", "b create", "b remove")
}

func TestOnlyDirectChildrenWithoutRecursion(t *testing.T) {
	w := watching(t, false, "sub")
	w.do(os.WriteFile(w.path("sub/x"), nil, 0o600))
	w.do(os.Mkdir(w.path("new"), 0o755))
	w.do(os.WriteFile(w.path("new/x"), nil, 0o600))
	w.expect("new create")
}

func TestAnUploadIsAWriteAndNoRename(t *testing.T) {
	w := watching(t, false)
	owner := placing.Options{Owner: users.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
	for range 2 {
		w.do(placing.Write(w.path("a"), strings.NewReader("x"), owner))
	}
	w.do(placing.Write(w.path("b"), strings.NewReader("x"), owner))
	// Equal events in a row are one or several, as the reader happens to come by.
	if got := slices.Compact(w.until()); !slices.Equal(got, []string{"a create", "a write", "b create", "b write"}) {
		t.Errorf("got %v", got)
	}
}

func TestNoEventIsLostInNewDirectories(t *testing.T) {
	w := watching(t, true, "old")
	for i := range 50 {
		w.do(os.MkdirAll(w.path(fmt.Sprintf("old/d%d/e", i)), 0o755))
		w.do(os.WriteFile(w.path(fmt.Sprintf("old/d%d/e/f", i)), []byte("x"), 0o600))
	}
	// The last file of the last directory may still be under way when the marker in the root is seen.
	seen := map[string]int{}
	deadline := time.Now().Add(5 * time.Second)
	for len(seen) < 150 && time.Now().Before(deadline) {
		for _, event := range w.watcher.take() {
			if event.Type == created {
				seen[event.Name]++
			}
		}
		time.Sleep(time.Millisecond)
	}
	for i := range 50 {
		for _, name := range []string{"old/d%d", "old/d%d/e", "old/d%d/e/f"} {
			if n := seen[fmt.Sprintf(name, i)]; n != 1 {
				t.Errorf("%s was created %d times", fmt.Sprintf(name, i), n)
			}
		}
	}
}

func TestAMovedDirectoryIsWatchedUnderItsNewName(t *testing.T) {
	w := watching(t, true, "a/sub", "b")
	w.do(os.Rename(w.path("a"), w.path("b/c")))
	w.until()
	w.do(os.WriteFile(w.path("b/c/sub/f"), []byte("x"), 0o600))
	w.do(os.Remove(w.path("last")))
	got := w.until()
	if !slices.Contains(got, "b/c/sub/f create") || !slices.Contains(got, "b/c/sub/f write") {
		t.Errorf("got %v", got)
	}
}

func TestADirectoryMovedAwayIsSilent(t *testing.T) {
	w := watching(t, true, "a")
	outside := filepath.Join(t.TempDir(), "a")
	w.do(os.Rename(w.path("a"), outside))
	w.until()
	w.do(os.WriteFile(filepath.Join(outside, "f"), nil, 0o600))
	w.do(os.Remove(w.path("last")))
	if got := w.until(); slices.ContainsFunc(got, func(e string) bool { return strings.Contains(e, "f ") }) {
		t.Errorf("got %v", got)
	}
}

func TestParseEventsOfABrokenBatch(t *testing.T) {
	parseEvents(make([]byte, 15), func(kernelEvent) { t.Error("an event out of nothing") })
	batch := make([]byte, 16)
	batch[12] = 200 // claims a name beyond the batch
	parseEvents(batch, func(kernelEvent) { t.Error("an event out of half of one") })
}
