package server_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"atoll.dev/envd/internal/access"
)

func TestDownloads(t *testing.T) {
	e := start(t)
	file := e.write("dir/a b.txt", "hello")
	e.write("empty", "")
	if err := syscall.Mkfifo(filepath.Join(e.home, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, query string
		header      map[string]string
		status      int
		want        string
	}{
		{"relative to home", "path=dir/a+b.txt", nil, 200, "hello"},
		{"absolute", "path=" + url.QueryEscape(file), nil, 200, "hello"},
		{"by a user", "path=~/dir/a+b.txt&username=" + e.name, nil, 200, "hello"},
		{"a range", "path=dir/a+b.txt", map[string]string{"Range": "bytes=1-2"}, 206, "el"},
		{"a range with gzip", "path=dir/a+b.txt", map[string]string{"Range": "bytes=1-2", "Accept-Encoding": "gzip"}, 206, "el"},
		{"an empty file", "path=empty", nil, 200, ""},
		{"missing", "path=nope", nil, 404, `{"code":404,"message":"path '` + e.home + `/nope' does not exist"}`},
		{"below a file", "path=empty/x", nil, 404, "does not exist"},
		{"a directory", "path=dir", nil, 400, `path '` + e.home + `/dir' is a directory`},
		{"home by default", "", nil, 400, "is a directory"},
		{"a pipe", "path=fifo", nil, 400, "is not a regular file"},
		{"unknown user", "path=x&username=nobody-here", nil, 401, "error looking up user 'nobody-here': user: unknown user nobody-here"},
		{"another's home", "path=~other/x", nil, 400, "error expanding and resolving path"},
		{"no encoding left", "path=dir/a+b.txt", map[string]string{"Accept-Encoding": "br, *;q=0"}, 406, "no acceptable encoding"},
	} {
		status, body, header := e.do("GET", "/files?"+row.query, "", row.header)
		if status != row.status || !strings.Contains(body, row.want) {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
		if status == 200 && header.Get("Content-Disposition") == "" {
			t.Errorf("%s: no disposition", row.name)
		}
	}
}

func TestDownloadHeaders(t *testing.T) {
	e := start(t)
	e.write("ä b.html", "<p>x")
	_, _, header := e.do("GET", "/files?path=%C3%A4+b.html", "", nil)
	if got := header.Get("Content-Disposition"); got != "inline; filename*=utf-8''%C3%A4%20b.html" {
		t.Error(got)
	}
	if !strings.HasPrefix(header.Get("Content-Type"), "text/html") || header.Get("Last-Modified") == "" || header.Get("Content-Length") != "4" {
		t.Errorf("%v", header)
	}
	status, _, _ := e.do("GET", "/files?path=%C3%A4+b.html", "", map[string]string{"If-Modified-Since": header.Get("Last-Modified")})
	if status != 304 {
		t.Errorf("conditional request: %d", status)
	}
	status, body, header := e.do("GET", "/files?path=%C3%A4+b.html", "", map[string]string{"Accept-Encoding": "gzip"})
	reader, err := gzip.NewReader(strings.NewReader(body))
	if err != nil || status != 200 || header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%d %v %v", status, header, err)
	}
	if plain, _ := io.ReadAll(reader); string(plain) != "<p>x" {
		t.Errorf("%q", plain)
	}
}

func form(parts ...string) (string, map[string]string) {
	var body strings.Builder
	for i := 0; i < len(parts); i += 3 {
		body.WriteString("--B\r\nContent-Disposition: form-data; name=\"" + parts[i] + "\"; filename=\"" + parts[i+1] + "\"\r\n\r\n" + parts[i+2] + "\r\n")
	}
	return body.String() + "--B--\r\n", map[string]string{"Content-Type": "multipart/form-data; boundary=B"}
}

func TestMultipartUploads(t *testing.T) {
	e := start(t)
	e.write("file", "")
	for _, row := range []struct {
		name, query string
		parts       []string
		status      int
		want        string
		files       map[string]string
	}{
		{"one", "?path=a/b.txt", []string{"file", "ignored", "hi"}, 200, `[{"path":"` + e.home + `/a/b.txt","name":"b.txt","type":"file"}]`, map[string]string{"a/b.txt": "hi"}},
		{"many by name", "", []string{"file", "c d.txt", "1", "other", "x", "2", "file", e.home + "/e/f", "3"}, 200, `"name":"f"`, map[string]string{"c d.txt": "1", "e/f": "3"}},
		{"none", "?path=x", nil, 200, "[]", nil},
		{"two for one path", "?path=two", []string{"file", "a", "1", "file", "b", "2"}, 400, "cannot upload multiple files to the same path", nil},
		{"no name at all", "", []string{"file", "", "1"}, 400, "no filename", nil},
		{"a directory", "?path=a", []string{"file", "a", "1"}, 400, "path is a directory: " + e.home + "/a", nil},
		{"below a file", "?path=file/x/y", []string{"file", "a", "1"}, 500, "error ensuring directories: path is a file: " + e.home + "/file", nil},
		{"unknown user", "?path=x&username=nobody-here", []string{"file", "a", "1"}, 401, "error looking up user", nil},
	} {
		body, header := form(row.parts...)
		status, answer, _ := e.do("POST", "/files"+row.query, body, header)
		if status != row.status || !strings.Contains(answer, row.want) {
			t.Errorf("%s: %d %s", row.name, status, answer)
		}
		for name, content := range row.files {
			if got, err := os.ReadFile(filepath.Join(e.home, name)); err != nil || string(got) != content {
				t.Errorf("%s: %s: %q %v", row.name, name, got, err)
			}
		}
	}
}

func zipped(content string) string {
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	_, _ = writer.Write([]byte(content))
	_ = writer.Close()
	return buffer.String()
}

func TestRawUploads(t *testing.T) {
	e := start(t)
	octets := "application/octet-stream"
	for _, row := range []struct {
		name, query, body, kind, encoding string
		status                            int
		want                              string
	}{
		{"raw", "?path=raw", "\x00\xff", octets, "", 200, `"type":"file"`},
		{"empty", "?path=empty", "", octets, "", 200, `"name":"empty"`},
		{"gzip", "?path=zip", zipped("unzipped"), octets, "gzip", 200, `"name":"zip"`},
		{"no path", "", "x", octets, "", 400, "path query parameter is required for raw body upload"},
		{"another type", "?path=x", "x", "text/plain", "", 400, "unsupported content type: text/plain"},
		{"no type", "?path=x", "x", "", "", 400, "unsupported content type: "},
		{"no gzip", "?path=x", "xxxxxxxxxxxx", octets, "gzip", 400, "gzip"},
		{"gzip that breaks off", "?path=half", zipped(strings.Repeat("x", 100))[:20], octets, "gzip", 400, "ends too early"},
		{"another encoding", "?path=x", "x", octets, "br", 400, "unsupported content encoding"},
	} {
		status, answer, _ := e.do("POST", "/files"+row.query, row.body, map[string]string{"Content-Type": row.kind, "Content-Encoding": row.encoding})
		if status != row.status || !strings.Contains(answer, row.want) {
			t.Errorf("%s: %d %s", row.name, status, answer)
		}
	}
	for name, want := range map[string]string{"raw": "\x00\xff", "empty": "", "zip": "unzipped"} {
		if got, err := os.ReadFile(filepath.Join(e.home, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(e.home, "half")); err == nil {
		t.Error("half a file was left")
	}
}

func TestMetadataOfUploads(t *testing.T) {
	e := start(t)
	header := map[string]string{"Content-Type": "application/octet-stream", "X-Metadata-Author": "me"}
	status, answer, _ := e.do("POST", "/files?path=m", "x", header)
	if status == 500 && strings.Contains(answer, "no extended attributes") {
		t.Skip(answer)
	}
	if status != 200 || !strings.Contains(answer, `"metadata":{"author":"me"}`) {
		t.Fatalf("%d %s", status, answer)
	}
	_, stat := e.call("filesystem.Filesystem/Stat", `{"path":"m"}`)
	contains(t, stat, `"metadata":{"author":"me"}`)
	e.do("POST", "/files?path=m", "y", map[string]string{"Content-Type": "application/octet-stream"})
	if _, stat := e.call("filesystem.Filesystem/Stat", `{"path":"m"}`); strings.Contains(stat, "metadata") {
		t.Error("an upload replaces the whole set")
	}
	header["X-Metadata-Author"] = "ü"
	if status, answer, _ := e.do("POST", "/files?path=m", "x", header); status != 400 || !strings.Contains(answer, "invalid metadata: ") {
		t.Errorf("%d %s", status, answer)
	}
}

func TestCompose(t *testing.T) {
	e := start(t)
	e.write("p1", "one ")
	e.write("p2", "two")
	if err := os.Mkdir(filepath.Join(e.home, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"source_paths":[],"destination":"d"}`, 400, "source_paths is empty"},
		{`{"source_paths":["p1"]}`, 400, "destination is required"},
		{`{"source_paths":["p1"],"destination":"p1"}`, 400, "same path"},
		{`{"source_paths":["p1","nope"],"destination":"d"}`, 404, "source file not found: " + e.home + "/nope"},
		{`{"source_paths":["dir"],"destination":"d"}`, 400, "not a regular file"},
		{`{"source_paths":["p1"],"destination":"d","username":"nobody-here"}`, 401, "error looking up user"},
		{`[`, 400, "not what compose expects"},
		{`{"source_paths":["p1","p2"],"destination":"sub/d"}`, 200, `{"path":"` + e.home + `/sub/d","name":"d","type":"file"}`},
		{`{"source_paths":["p1"],"destination":"d"}`, 404, "source file not found"},
	} {
		status, answer, _ := e.do("POST", "/files/compose", row.body, nil)
		if status != row.status || !strings.Contains(answer, row.want) {
			t.Errorf("%s: %d %s", row.body, status, answer)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(e.home, "sub/d")); string(got) != "one two" {
		t.Errorf("%q", got)
	}
}

func TestTokensAndSignatures(t *testing.T) {
	e := start(t)
	e.write("x.txt", "hello")
	e.init(map[string]any{"accessToken": "tok"})
	signed := func(path string, op access.Operation, expiration string) string {
		query := url.Values{"path": {path}, "signature": {access.Signature(path, op, "", "tok", expiration)}}
		if expiration != "" {
			query.Set("signature_expiration", expiration)
		}
		return query.Encode()
	}
	later := strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)
	token := map[string]string{"X-Access-Token": "tok"}
	raw := map[string]string{"Content-Type": "application/octet-stream"}
	for _, row := range []struct {
		method, path string
		header       map[string]string
		status       int
	}{
		{"GET", "/health", nil, 204},
		{"GET", "/metrics", nil, 401},
		{"GET", "/metrics", token, 200},
		{"GET", "/envs", map[string]string{"X-Access-Token": "no"}, 401},
		{"GET", "/envs", token, 200},
		{"GET", "/events", nil, 401},
		{"GET", "/changes", nil, 401},
		{"POST", "/process.Process/List", nil, 401},
		{"POST", "/files/compose", nil, 401},
		{"GET", "/files?path=x.txt", nil, 401},
		{"GET", "/files?path=x.txt", token, 200},
		{"GET", "/files?" + signed("x.txt", access.Read, ""), nil, 200},
		{"GET", "/files?" + signed("x.txt", access.Read, later), nil, 200},
		{"GET", "/files?" + signed("x.txt", access.Read, "1"), nil, 401},
		{"GET", "/files?" + signed("x.txt", access.Write, ""), nil, 401},
		{"POST", "/files?" + signed("y.txt", access.Write, ""), raw, 200},
		{"GET", "/dirs?" + signed("", access.Read, ""), nil, 200},
		{"GET", "/dirs?path=x", nil, 401},
		{"POST", "/dirs?path=x", nil, 401},
		{"GET", "/nothing", nil, 401},
		{"GET", "/nothing", token, 404},
	} {
		if status, answer, _ := e.do(row.method, row.path, "", row.header); status != row.status {
			t.Errorf("%s %s: %d %s", row.method, row.path, status, answer)
		}
	}
}

func TestDirectoriesOverHTTP(t *testing.T) {
	e := start(t)
	e.write("src/a/b.txt", "hello")
	status, archive, header := e.do("GET", "/dirs?path=src&format=tar.gz", "", nil)
	if status != 200 || header.Get("Content-Type") != "application/gzip" || header.Get("Content-Disposition") != "attachment; filename=src.tar.gz" {
		t.Fatalf("%d %v", status, header)
	}
	status, answer, _ := e.do("POST", "/dirs?path=dst/deep", archive, nil)
	if status != 200 || !strings.Contains(answer, `"bytes":5,"entries":2,"done":true`) {
		t.Fatalf("%d %s", status, answer)
	}
	if got, _ := os.ReadFile(filepath.Join(e.home, "dst/deep/a/b.txt")); string(got) != "hello" {
		t.Errorf("%q", got)
	}
	status, answer, _ = e.do("POST", "/dirs?path=lines", archive, map[string]string{"Accept": "application/x-ndjson"})
	lines := strings.Split(strings.TrimSpace(answer), "\n")
	if status != 200 || !strings.Contains(lines[len(lines)-1], `"done":true`) {
		t.Errorf("%d %q", status, answer)
	}
	for _, row := range []struct {
		method, query, body string
		status              int
	}{
		{"GET", "path=nope", "", 404}, {"GET", "path=src/a/b.txt", "", 400}, {"GET", "path=src&format=zip", "", 400},
		{"POST", "path=src/a/b.txt", archive, 400}, {"POST", "path=bad", "this is no archive" + strings.Repeat("x", 600), 400},
		{"POST", "path=x&username=nobody-here", "", 401},
	} {
		if status, answer, _ := e.do(row.method, "/dirs?"+row.query, row.body, nil); status != row.status {
			t.Errorf("%s %s: %d %s", row.method, row.query, status, answer)
		}
	}
}

func TestChanges(t *testing.T) {
	e := start(t)
	e.write("d/before", "x")
	mark := strconv.FormatInt(time.Now().Add(50*time.Millisecond).UnixMilli(), 10)
	time.Sleep(100 * time.Millisecond) // file times must differ
	e.write("d/after", "x")
	status, answer, _ := e.do("GET", "/changes?path=d&since="+mark, "", nil)
	if status != 200 || !strings.Contains(answer, `/d/after"`) || strings.Contains(answer, `/d/before"`) || !strings.Contains(answer, `"mark":"`) {
		t.Errorf("%d %s", status, answer)
	}
	if _, answer, _ := e.do("GET", "/changes?path=d", "", nil); !strings.Contains(answer, `/d/before"`) {
		t.Errorf("since the start: %s", answer)
	}
	for query, want := range map[string]int{"since=x": 400, "path=nope": 404} {
		if status, _, _ := e.do("GET", "/changes?"+query, "", nil); status != want {
			t.Errorf("%s: %d", query, status)
		}
	}
}

func TestCrossOrigin(t *testing.T) {
	e := start(t)
	e.init(map[string]any{"accessToken": "tok"})
	status, _, header := e.do(http.MethodOptions, "/files", "", map[string]string{
		"Origin": "https://example.org", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-access-token",
	})
	if status != 204 || header.Get("Access-Control-Allow-Origin") != "*" || header.Get("Access-Control-Max-Age") != "7200" ||
		header.Get("Access-Control-Allow-Methods") != "HEAD, GET, POST, PUT, PATCH, DELETE" || header.Get("Access-Control-Allow-Headers") != "x-access-token" {
		t.Errorf("%d %v", status, header)
	}
	if _, _, header := e.do("GET", "/health", "", map[string]string{"Origin": "https://example.org"}); header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%v", header)
	}
}
