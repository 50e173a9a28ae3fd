package server_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEndsOfProcesses(t *testing.T) {
	e := start(t)
	for _, row := range []struct {
		command, stdout, stderr, status, err string
		code                                 int
		exited                               bool
	}{
		{"echo hi", "hi\n", "", "exit status 0", "", 0, true},
		{"echo oops >&2; exit 3", "", "oops\n", "exit status 3", "exit status 3", 3, true},
		{"kill -9 $$", "", "", "signal: killed", "signal: killed", -1, false},
		{`printf '\377\000\360\237'`, "\xff\x00\xf0\x9f", "", "exit status 0", "", 0, true},
		{"cat", "", "", "exit status 0", "", 0, true},
	} {
		o := e.run(row.command, nil)
		if len(o.ends) != 1 || o.failure != "" {
			t.Fatalf("%s: %+v", row.command, o)
		}
		end := o.ends[0].Event.End
		if o.output["stdout"] != row.stdout || o.output["stderr"] != row.stderr || end.ExitCode != row.code ||
			end.Exited != row.exited || end.Status != row.status || end.Error != row.err {
			t.Errorf("%s: %+v %+v", row.command, o.output, end)
		}
	}
}

func TestEnvironmentAndWorkdir(t *testing.T) {
	e := start(t)
	work := t.TempDir()
	e.init(map[string]any{"envVars": map[string]string{"A": "global", "B": "global"}, "defaultWorkdir": work})
	for _, row := range []struct{ process, want string }{
		{`"cmd":"sh","args":["-c","echo $A $B $HOME $USER $LOGNAME"],"envs":{"B":"own"}`, "global own " + e.home + " " + e.name + " " + e.name + "\n"},
		{`"cmd":"pwd"`, work + "\n"},
		{`"cmd":"pwd","cwd":"/"`, "/\n"},
		{`"cmd":"pwd","cwd":"~"`, e.home + "\n"},
		{`"cmd":"/no/such/bash","args":["-c","echo a shell all the same"]`, "a shell all the same\n"},
		{`"cmd":"sh","args":["-c","echo $E2B_SECRET_OF_THE_DAEMON"]`, "\n"},
	} {
		t.Setenv("E2B_SECRET_OF_THE_DAEMON", "x")
		s := e.open("process.Process/Start", `{"process":{`+row.process+`},"stdin":false}`, nil)
		s.started()
		if o := s.finish(); o.output["stdout"] != row.want {
			t.Errorf("%s: %q, want %q", row.process, o.output, row.want)
		}
	}
}

func TestWhatCannotStart(t *testing.T) {
	e := start(t)
	file := e.write("file", "")
	for _, row := range []struct{ body, user, code, message string }{
		{`{"process":{"cmd":"/no/such/program"}}`, "", "invalid_argument", "no such file or directory"},
		{`{"process":{"cmd":"no-such-program"}}`, "", "invalid_argument", "executable file not found in $PATH"},
		{`{"process":{"cmd":"` + file + `"}}`, "", "invalid_argument", "permission denied"},
		{`{"process":{"cmd":"sh","cwd":"/no/such"}}`, "", "invalid_argument", "cwd '/no/such' does not exist"},
		{`{"process":{"cmd":"sh","cwd":"` + file + `"}}`, "", "invalid_argument", "is not a directory"},
		{`{"process":{"cmd":"sh","cwd":"~other/x"}}`, "", "invalid_argument", "cannot expand user-specific home dir"},
		{`{"process":{"cmd":"sh","envs":{"":"x"}}}`, "", "invalid_argument", "name be empty"},
		{`{"process":{"cmd":"sh"}}`, "nobody-here", "unauthenticated", "invalid username: 'nobody-here'"},
		{`{}`, "", "invalid_argument", "no command"},
		{`{`, "", "invalid_argument", "not the JSON"},
	} {
		header := map[string]string{}
		if row.user != "" {
			header["Authorization"] = "Basic bm9ib2R5LWhlcmU6"
		}
		last := e.open("process.Process/Start", row.body, header).next()
		if !last.last || last.Error == nil || last.Error.Code != row.code {
			t.Errorf("%s: %+v", row.body, last)
			continue
		}
		contains(t, last.Error.Message, row.message)
	}
}

func TestTheTimeoutIsTheLifeOfTheProcess(t *testing.T) {
	e := start(t)
	o := e.run("sleep 60 & sleep 60", map[string]string{"Connect-Timeout-Ms": "100"})
	if o.failure != "deadline_exceeded" || len(o.ends) != 0 {
		t.Errorf("%+v", o)
	}
	awaitGone(t, o.pid)
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return
		}
	}
	t.Errorf("process %d lives", pid)
}

func TestKillIsWhole(t *testing.T) {
	e := start(t)
	pids := filepath.Join(e.home, "pids")
	command := fmt.Sprintf("setsid sh -c 'echo $$ >> %s; sleep 60' & (sleep 60 & echo $! >> %s; wait) & echo ready; wait", pids, pids)
	s := e.open("process.Process/Start", shell(command, `"tag":"t"`), nil)
	pid := s.started()
	children := awaitLines(t, pids, 2)
	if status, answer := e.call("process.Process/SendSignal", `{"process":{"tag":"t"},"signal":"SIGNAL_SIGKILL"}`); status != 200 || answer != "{}" {
		t.Fatalf("%d %s", status, answer)
	}
	o := s.finish()
	if len(o.ends) != 1 || o.ends[0].Event.End.Status != "signal: killed" {
		t.Errorf("%+v", o)
	}
	for _, child := range append(children, pid) {
		awaitGone(t, child)
	}
}

func awaitLines(t *testing.T, path string, n int) []int {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		content, _ := os.ReadFile(path)
		var numbers []int
		for line := range strings.Lines(string(content)) {
			if number, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				numbers = append(numbers, number)
			}
		}
		if len(numbers) >= n {
			return numbers
		}
	}
	t.Fatalf("%s never had %d lines", path, n)
	return nil
}

func TestUnaryErrorsOfProcesses(t *testing.T) {
	e := start(t)
	s := e.open("process.Process/Start", shell("sleep 60", `"tag":"silent","stdin":false`), nil)
	s.started()
	terminal := e.open("process.Process/Start", shell("sleep 60", `"tag":"tty","pty":{"size":{"cols":80,"rows":24}}`), nil)
	terminal.started()
	for _, row := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"SendSignal", `{"process":{"pid":999999},"signal":"SIGNAL_SIGKILL"}`, 404, `{"code":"not_found","message":"process with pid 999999 not found"}`},
		{"SendSignal", `{"process":{"tag":"x"},"signal":9}`, 404, "process with tag x not found"},
		{"SendSignal", `{"process":{"tag":"silent"},"signal":"SIGNAL_SIGHUP"}`, 501, "unimplemented"},
		{"SendSignal", `{"process":{"tag":"silent"}}`, 501, "unimplemented"},
		{"SendSignal", `{}`, 400, "invalid_argument"},
		{"SendSignal", `{"process":{"pid":1,"tag":"x"}}`, 400, "invalid_argument"},
		{"SendInput", `{"process":{"tag":"silent"},"input":{"stdin":"YQ=="}}`, 500, "error writing to stdin: stdin not enabled or closed"},
		{"SendInput", `{"process":{"tag":"silent"},"input":{"pty":"YQ=="}}`, 400, "failed_precondition"},
		{"SendInput", `{"process":{"tag":"tty"},"input":{"stdin":"YQ=="}}`, 400, "failed_precondition"},
		{"SendInput", `{"process":{"tag":"tty"},"input":{}}`, 501, "invalid input type"},
		{"SendInput", `{"process":{"pid":999999},"input":{"stdin":""}}`, 404, "not_found"},
		{"CloseStdin", `{"process":{"tag":"tty"}}`, 500, `"code":"unknown"`},
		{"CloseStdin", `{"process":{"tag":"silent"}}`, 200, "{}"},
		{"Update", `{"process":{"tag":"silent"},"pty":{"size":{"cols":1,"rows":1}}}`, 400, "failed_precondition"},
		{"Update", `{"process":{"tag":"tty"},"pty":{"size":{"cols":1,"rows":1}}}`, 200, "{}"},
		{"Update", `{"process":{"tag":"tty"}}`, 200, "{}"},
		{"SendSignal", `{"process":{"tag":"silent"},"signal":"SIGNAL_SIGTERM"}`, 200, "{}"},
		{"SendSignal", `{"process":{"tag":"tty"},"signal":9}`, 200, "{}"},
		{"Nothing", `{}`, 404, ""},
	} {
		status, answer := e.call("process.Process/"+row.method, row.body)
		if status != row.status || !strings.Contains(answer, row.want) {
			t.Errorf("%s %s: %d %s", row.method, row.body, status, answer)
		}
	}
	if end := s.finish().ends[0].Event.End; end.Status != "signal: terminated" {
		t.Errorf("%+v", end)
	}
	terminal.finish()
}

func TestInput(t *testing.T) {
	e := start(t)
	s := e.open("process.Process/Start", shell("cat", ""), nil)
	pid := s.started()
	selector := fmt.Sprintf(`{"process":{"pid":%d}`, pid)
	e.call("process.Process/SendInput", selector+`,"input":{"stdin":"aMOp"}}`)
	body := envelope(`{"start":`+selector+`}}`) + envelope(`{"keepalive":{}}`) + envelope(`{"data":{"input":{"stdin":"YQ=="}}}`)
	status, answer, _ := e.do("POST", "/process.Process/StreamInput", body, map[string]string{"Content-Type": "application/connect+json"})
	if status != 200 || answer != envelope("{}")+"\x02"+envelope("{}")[1:] {
		t.Errorf("StreamInput: %d %q", status, answer)
	}
	if status, answer := e.call("process.Process/List", "{}"); status != 200 || !strings.Contains(answer, fmt.Sprintf(`"pid":%d`, pid)) {
		t.Errorf("List: %d %s", status, answer)
	}
	e.call("process.Process/CloseStdin", selector+"}")
	if o := s.finish(); o.output["stdout"] != "héa" {
		t.Errorf("%+v", o)
	}
	if _, answer := e.call("process.Process/List", "{}"); answer != `{"processes":[]}` {
		t.Errorf("List afterwards: %s", answer)
	}
}

func TestTerminal(t *testing.T) {
	e := start(t)
	s := e.open("process.Process/Start", `{"process":{"cmd":"/bin/sh","args":["-i"],"envs":{"PS1":""}},"pty":{"size":{"cols":81,"rows":25}}}`, nil)
	pid := s.started()
	e.call("process.Process/Update", fmt.Sprintf(`{"process":{"pid":%d},"pty":{"size":{"cols":101,"rows":31}}}`, pid))
	e.call("process.Process/SendInput", fmt.Sprintf(`{"process":{"pid":%d},"input":{"pty":"c3R0eSBzaXplOyB0dHk7IGV4aXQgNwo="}}`, pid)) // stty size; tty; exit 7
	o := s.finish()
	contains(t, o.output["pty"], "31 101", "/dev/pts/")
	if len(o.ends) != 1 || o.ends[0].Event.End.ExitCode != 7 || o.output["stdout"] != "" {
		t.Errorf("%+v", o)
	}
}

func TestADroppedClientNeverKills(t *testing.T) {
	e := start(t)
	s := e.open("process.Process/Start", shell("sleep 0.3; echo done > $HOME/done; echo out", `"tag":"t"`), nil)
	s.started()
	s.response.Body.Close()
	joined := e.open("process.Process/Connect", `{"process":{"tag":"t"}}`, nil)
	joined.started()
	if o := joined.finish(); len(o.ends) != 1 || o.output["stdout"] != "out\n" {
		t.Errorf("%+v", o)
	}
	if _, err := os.Stat(filepath.Join(e.home, "done")); err != nil {
		t.Error(err)
	}
}

func TestALateConnectGetsStartAndEnd(t *testing.T) {
	e := start(t)
	first := e.run("echo hello; echo oops >&2; exit 4", nil)
	selector := fmt.Sprintf(`{"process":{"pid":%d}}`, first.pid)
	for replay, want := range map[string]string{"": "", "none": "", "all": "hello\n", "stdout=2": "llo\n"} {
		s := e.open("process.Process/Connect", selector, map[string]string{"Atoll-Replay": replay})
		m := s.next()
		if (m.Event.Start.Replay != nil) != (want != "") {
			t.Errorf("%q: %+v", replay, m.Event.Start)
		}
		if o := s.finish(); len(o.ends) != 1 || o.ends[0].Event.End.ExitCode != 4 || o.output["stdout"] != want {
			t.Errorf("%q: %+v", replay, o)
		}
	}
	for body, code := range map[string]string{`{"process":{"pid":999999}}`: "not_found", `{}`: "invalid_argument"} {
		if last := e.open("process.Process/Connect", body, nil).next(); last.Error == nil || last.Error.Code != code {
			t.Errorf("%s: %+v", body, last)
		}
	}
}

func TestConnectTimeoutEndsTheStreamAlone(t *testing.T) {
	e := start(t)
	s := e.open("process.Process/Start", shell("sleep 60", `"tag":"t"`), nil)
	pid := s.started()
	joined := e.open("process.Process/Connect", `{"process":{"tag":"t"}}`, map[string]string{"Connect-Timeout-Ms": "50"})
	joined.started()
	if o := joined.finish(); o.failure != "deadline_exceeded" {
		t.Errorf("%+v", o)
	}
	if syscall.Kill(pid, 0) != nil {
		t.Error("the process was killed")
	}
	e.call("process.Process/SendSignal", `{"process":{"tag":"t"},"signal":9}`)
	s.finish()
}

func TestKeepalives(t *testing.T) {
	e := start(t)
	o := e.run("sleep 1.3", map[string]string{"Keepalive-Ping-Interval": "1"})
	if o.keepalives != 1 {
		t.Errorf("%d keep-alives", o.keepalives)
	}
}

func TestAFloodArrivesWhole(t *testing.T) {
	e := start(t)
	o := e.run("head -c 5000000 /dev/zero", nil)
	if len(o.output["stdout"]) != 5000000 || o.largest > 32<<10 {
		t.Errorf("%d bytes, largest event %d", len(o.output["stdout"]), o.largest)
	}
}

func TestWhatACommandLeavesBehindDoesNotHoldItsEnd(t *testing.T) {
	e := start(t)
	began := time.Now()
	o := e.run("sleep 30 & echo $!", nil)
	if time.Since(began) > 5*time.Second || len(o.ends) != 1 {
		t.Errorf("ended after %v: %+v", time.Since(began), o)
	}
	left, _ := strconv.Atoi(strings.TrimSpace(o.output["stdout"]))
	if syscall.Kill(left, syscall.SIGKILL) != nil {
		t.Error("it should live on")
	}
}

func TestAStreamRefusesAnotherCodec(t *testing.T) {
	e := start(t)
	response, err := http.Post(e.url+"/process.Process/Start", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, _ = io.Copy(io.Discard, response.Body); response.StatusCode != 415 {
		t.Errorf("%d", response.StatusCode)
	}
}
