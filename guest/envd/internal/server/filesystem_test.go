package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type entry struct {
	Name, Type, Path, Size, Permissions, Owner, Group, ModifiedTime, SymlinkTarget string
	Mode                                                                           int
	IsSymlink                                                                      bool
}

func stat(t *testing.T, e *envd, path string) entry {
	t.Helper()
	_, answer := e.call("filesystem.Filesystem/Stat", `{"path":"`+path+`"}`)
	var response struct{ Entry entry }
	if err := json.Unmarshal([]byte(answer), &response); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return response.Entry
}

func TestStat(t *testing.T) {
	e := start(t)
	file := e.write("f", "hello")
	for _, err := range []error{
		os.Symlink("f", filepath.Join(e.home, "link")), os.Symlink("nowhere", filepath.Join(e.home, "broken")),
		os.Mkdir(filepath.Join(e.home, "sticky"), 0o755), os.Chmod(filepath.Join(e.home, "sticky"), 0o777|os.ModeSticky),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := stat(t, e, "f")
	if got.Name != "f" || got.Type != "FILE_TYPE_FILE" || got.Path != file || got.Size != "5" || got.Mode != 0o644 ||
		got.Permissions != "-rw-r--r--" || got.Owner != e.name || got.Group == "" || !strings.HasSuffix(got.ModifiedTime, "Z") {
		t.Errorf("%+v", got)
	}
	if link := stat(t, e, "link"); link.Type != "FILE_TYPE_FILE" || !link.IsSymlink || link.SymlinkTarget != file ||
		link.Mode != 0o644 || !strings.HasPrefix(link.Permissions, "L") || link.Size != "1" {
		t.Errorf("%+v", link)
	}
	if broken := stat(t, e, "broken"); broken.Type != "" || !broken.IsSymlink {
		t.Errorf("%+v", broken)
	}
	if sticky := stat(t, e, "sticky"); sticky.Permissions != "dtrwxrwxrwx" || sticky.Type != "FILE_TYPE_DIRECTORY" {
		t.Errorf("%+v", sticky)
	}
}

func TestFilesystemCalls(t *testing.T) {
	e := start(t)
	e.write("file", "x")
	e.write("tree/b/c/d", "")
	e.write("tree/a", "")
	for _, row := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"Stat", `{"path":"nope"}`, 404, `{"code":"not_found","message":"file not found: `},
		{"Stat", `{"path":"~other"}`, 400, "cannot expand user-specific home dir"},
		{"Stat", `{"path":"file","unknownField":1}`, 200, `"name":"file"`},
		{"MakeDir", `{"path":"new/deep"}`, 200, `"path":"` + e.home + `/new/deep"`},
		{"MakeDir", `{"path":"new/deep"}`, 409, `"already_exists","message":"directory already exists: ` + e.home + `/new/deep"`},
		{"MakeDir", `{"path":"file"}`, 400, `path already exists but it is not a directory: ` + e.home + `/file`},
		{"MakeDir", `{"path":"file/below"}`, 400, `path is a file: ` + e.home + `/file`},
		{"ListDir", `{"path":"nope"}`, 404, "directory not found"},
		{"ListDir", `{"path":"file"}`, 400, "path is not a directory: " + e.home + "/file"},
		{"Move", `{"source":"nope","destination":"x"}`, 404, "source file not found"},
		{"Move", `{"source":"file","destination":"made/for/it"}`, 200, `"path":"` + e.home + `/made/for/it"`},
		{"Remove", `{"path":"made"}`, 200, "{}"},
		{"Remove", `{"path":"made"}`, 200, "{}"},
		{"Remove", `{"path":"/"}`, 400, "cannot be removed"},
		{"Stat", `{"path":"made/for/it"}`, 404, "not_found"},
		{"RemoveWatcher", `{"watcherId":"wx"}`, 404, "watcher with id wx not found"},
		{"GetWatcherEvents", `{"watcher_id":"wx"}`, 404, "watcher with id wx not found"},
		{"CreateWatcher", `{"path":"/no/such"}`, 404, "path /no/such not found"},
		{"CreateWatcher", `{"path":"tree/a"}`, 400, "path " + e.home + "/tree/a not a directory"},
	} {
		status, answer := e.call("filesystem.Filesystem/"+row.method, row.body)
		if status != row.status || !strings.Contains(answer, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.body, status, answer)
		}
	}
	status, answer, _ := e.do("POST", "/filesystem.Filesystem/Stat", `{"path":""}`, map[string]string{
		"Content-Type": "application/json", "Authorization": "Basic bm9ib2R5LWhlcmU6",
	})
	if status != 401 || !strings.Contains(answer, `{"code":"unauthenticated","message":"invalid username: 'nobody-here'"}`) {
		t.Errorf("%d %s", status, answer)
	}
}

func TestListDir(t *testing.T) {
	e := start(t)
	e.write("tree/b/c/d", "")
	e.write("tree/a", "")
	for _, err := range []error{
		os.Symlink("tree", filepath.Join(e.home, "link")), os.Symlink("b", filepath.Join(e.home, "tree/z")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for body, want := range map[string]string{
		`{"path":"tree"}`:             "tree/a tree/b tree/z",
		`{"path":"tree","depth":0}`:   "tree/a tree/b tree/z",
		`{"path":"tree","depth":2}`:   "tree/a tree/b tree/b/c tree/z",
		`{"path":"tree","depth":"9"}`: "tree/a tree/b tree/b/c tree/b/c/d tree/z",
		`{"path":"link"}`:             "link/a link/b link/z",
		`{"path":"tree/b/c/"}`:        "tree/b/c/d",
	} {
		_, answer := e.call("filesystem.Filesystem/ListDir", body)
		var response struct{ Entries []entry }
		if err := json.Unmarshal([]byte(answer), &response); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, entry := range response.Entries {
			got = append(got, strings.TrimPrefix(entry.Path, e.home+"/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v", body, got)
		}
	}
	if err := os.Mkdir(filepath.Join(e.home, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, answer := e.call("filesystem.Filesystem/ListDir", `{"path":"empty"}`); answer != `{"entries":[]}` {
		t.Error(answer)
	}
}

func TestPolledWatcher(t *testing.T) {
	e := start(t)
	_, answer := e.call("filesystem.Filesystem/CreateWatcher", `{"path":"~","includeEntry":true}`)
	var created struct{ WatcherID string }
	if err := json.Unmarshal([]byte(answer), &created); err != nil || len(created.WatcherID) != 21 || created.WatcherID[0] != 'w' {
		t.Fatalf("%v %s", err, answer)
	}
	e.write("a", "x")
	selector := `{"watcherId":"` + created.WatcherID + `"}`
	all := ""
	for i := 0; i < 1000 && !strings.Contains(all, "EVENT_TYPE_WRITE"); i++ {
		_, answer := e.call("filesystem.Filesystem/GetWatcherEvents", selector)
		all += answer
	}
	contains(t, all, `"name":"a","type":"EVENT_TYPE_CREATE"`, `"name":"a","type":"EVENT_TYPE_WRITE"`, `"path":"`+e.home+`/a"`)
	if _, answer := e.call("filesystem.Filesystem/GetWatcherEvents", selector); answer != `{"events":[]}` {
		t.Errorf("events are told once: %s", answer)
	}
	if status, _ := e.call("filesystem.Filesystem/RemoveWatcher", selector); status != 200 {
		t.Error(status)
	}
	if status, _ := e.call("filesystem.Filesystem/RemoveWatcher", selector); status != 404 {
		t.Error(status)
	}
}

func TestWatchDir(t *testing.T) {
	e := start(t)
	s := e.open("filesystem.Filesystem/WatchDir", `{"path":"","recursive":true}`, map[string]string{
		"Keepalive-Ping-Interval": "1", "Connect-Timeout-Ms": "1500",
	})
	if first := s.next(); first.Start == nil {
		t.Fatalf("%+v", first)
	}
	e.write("dir/file", "x")
	var names []string
	keepalive := false
	for {
		m := s.next()
		if m.last {
			if m.Error == nil || m.Error.Code != "deadline_exceeded" {
				t.Errorf("%+v", m.Error)
			}
			break
		}
		keepalive = keepalive || m.Keepalive != nil
		if m.Filesystem != nil && m.Filesystem.Type == "EVENT_TYPE_CREATE" {
			names = append(names, m.Filesystem.Name)
		}
	}
	if strings.Join(names, " ") != "dir dir/file" || !keepalive {
		t.Errorf("%v, keep-alive %v", names, keepalive)
	}
	if last := e.open("filesystem.Filesystem/WatchDir", `{"path":"/no/such"}`, nil).next(); last.Error == nil || last.Error.Code != "not_found" {
		t.Errorf("%+v", last)
	}
}

func TestMetricsAndEnvs(t *testing.T) {
	e := start(t)
	e.init(map[string]any{"envVars": map[string]string{"K": "v"}})
	_, answer, _ := e.do("GET", "/metrics", "", nil)
	var sample map[string]float64
	if err := json.Unmarshal([]byte(answer), &sample); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ts", "cpu_count", "mem_total_mib", "mem_used_mib", "mem_total", "mem_used", "disk_total"} {
		if sample[name] <= 0 {
			t.Errorf("%s is %v", name, sample[name])
		}
	}
	for _, name := range []string{"cpu_used_pct", "mem_cache", "disk_used"} {
		if _, there := sample[name]; !there {
			t.Errorf("%s is missing", name)
		}
	}
	if _, answer, _ := e.do("GET", "/envs", "", nil); answer != `{"K":"v"}` {
		t.Error(answer)
	}
	if status, answer, _ := e.do("GET", "/events?since=0", "", nil); status != 200 || answer != `{"events":[]}` {
		t.Errorf("%d %s", status, answer)
	}
}

func TestTunnelReachesLoopback(t *testing.T) {
	e := start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		text, _ := io.ReadAll(conn)
		_, _ = fmt.Fprintf(conn, "got %s", text)
	}()
	client, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	_, _ = fmt.Fprintf(client, "GET /tunnel?port=%d HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: atoll-tunnel\r\n\r\nping", port)
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(client)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 101 ") || !strings.HasSuffix(string(answer), "\r\n\r\ngot ping") {
		t.Errorf("%q", answer)
	}
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "atoll-tunnel"}
	for query, want := range map[string]int{"port=0": 400, "port=x": 400, "port=1": http.StatusBadGateway} {
		if status, _, _ := e.do("GET", "/tunnel?"+query, "", upgrade); status != want {
			t.Errorf("%s: %d", query, status)
		}
	}
	if status, _, _ := e.do("GET", "/tunnel?port=80", "", nil); status != http.StatusUpgradeRequired {
		t.Error(status)
	}
}
