package server_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/server"
	"atoll.dev/envd/internal/users"
)

// envd is a daemon under test and a client of it. Its default account is whoever runs the tests, with a
// home of its own.
type envd struct {
	t    *testing.T
	url  string
	home string
	name string
}

func start(t *testing.T) *envd {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	passwd := filepath.Join(t.TempDir(), "passwd")
	line := strings.Join([]string{me.Username, "x", me.Uid, me.Gid, "", home, "/bin/sh"}, ":")
	if err := os.WriteFile(passwd, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := identity.NewStore(users.Database{Passwd: passwd, Group: "/nonexistent"})
	handler := server.Handler(store, server.Options{HostKey: &identity.HostKey{}, Root: identity.Root{Path: t.TempDir()}, Version: "1.2.3"})
	listener := httptest.NewServer(handler)
	t.Cleanup(listener.Close)
	e := &envd{t, listener.URL, home, me.Username}
	e.init(map[string]any{"defaultUser": me.Username})
	return e
}

func (e *envd) init(body map[string]any) {
	e.t.Helper()
	text, _ := json.Marshal(body)
	if status, answer, _ := e.do("POST", "/init", string(text), nil); status != 204 {
		e.t.Fatalf("init: %d %s", status, answer)
	}
}

func (e *envd) do(method, path, body string, header map[string]string) (int, string, http.Header) {
	e.t.Helper()
	request, err := http.NewRequest(method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}).Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(content), response.Header
}

// call makes a unary call: status and answer.
func (e *envd) call(method, body string) (int, string) {
	e.t.Helper()
	status, answer, _ := e.do("POST", "/"+method, body, map[string]string{"Content-Type": "application/json"})
	return status, answer
}

func envelope(payload string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(payload)))) + payload
}

// stream is the client's end of a server stream.
type stream struct {
	t        *testing.T
	response *http.Response
}

func (e *envd) open(method, body string, header map[string]string) *stream {
	e.t.Helper()
	request, err := http.NewRequest("POST", e.url+"/"+method, io.MultiReader(strings.NewReader(envelope(body))))
	if err != nil {
		e.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/connect+json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/connect+json" {
		e.t.Fatalf("%s: %d %s", method, response.StatusCode, response.Header.Get("Content-Type"))
	}
	e.t.Cleanup(func() { response.Body.Close() })
	return &stream{e.t, response}
}

// message is any message of a stream, the last one included.
type message struct {
	last  bool
	Error *struct{ Code, Message string }
	Event struct {
		Start *struct {
			PID    int
			Replay map[string]int64
		}
		Data      map[string]string
		Keepalive *struct{}
		End       *struct {
			ExitCode int
			Exited   bool
			Status   string
			Error    string
		}
	}
	Filesystem *struct {
		Name, Type string
		Entry      *struct{ Path, Size string }
	}
	Start, Keepalive *struct{}
}

func (s *stream) next() message {
	s.t.Helper()
	var header [5]byte
	if _, err := io.ReadFull(s.response.Body, header[:]); err != nil {
		s.t.Fatalf("the stream broke: %v", err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(header[1:]))
	if _, err := io.ReadFull(s.response.Body, payload); err != nil {
		s.t.Fatalf("the stream broke: %v", err)
	}
	var m message
	if err := json.Unmarshal(payload, &m); err != nil {
		s.t.Fatalf("%v: %s", err, payload)
	}
	m.last = header[0] == 2
	return m
}

// outcome is a whole process stream.
type outcome struct {
	pid        int
	output     map[string]string
	keepalives int
	ends       []message
	failure    string // code of the end envelope's error
	message    string
	largest    int
}

func (s *stream) started() int {
	s.t.Helper()
	m := s.next()
	if m.Event.Start == nil || m.Event.Start.PID == 0 {
		s.t.Fatalf("the first message is no start: %+v", m)
	}
	return m.Event.Start.PID
}

func (s *stream) finish() outcome {
	s.t.Helper()
	o := outcome{output: map[string]string{}}
	for {
		m := s.next()
		switch {
		case m.last:
			if m.Error != nil {
				o.failure, o.message = m.Error.Code, m.Error.Message
			}
			return o
		case m.Event.Keepalive != nil:
			o.keepalives++
		case m.Event.End != nil:
			o.ends = append(o.ends, m)
		}
		for name, text := range m.Event.Data {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				s.t.Fatal(err)
			}
			o.largest = max(o.largest, len(data))
			o.output[name] += string(data)
		}
	}
}

// run starts a shell command and waits for its end.
func (e *envd) run(command string, header map[string]string) outcome {
	e.t.Helper()
	s := e.open("process.Process/Start", shell(command, `"stdin":false`), header)
	pid := s.started()
	o := s.finish()
	o.pid = pid
	return o
}

func shell(command, more string) string {
	text, _ := json.Marshal(command)
	if more != "" {
		more = "," + more
	}
	return `{"process":{"cmd":"/bin/sh","args":["-c",` + string(text) + `]}` + more + `}`
}

func (e *envd) write(name, content string) string {
	e.t.Helper()
	path := filepath.Join(e.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		e.t.Fatal(err)
	}
	return path
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}
