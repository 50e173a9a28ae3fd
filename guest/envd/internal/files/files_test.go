package files

import (
	"strings"
	"testing"

	"atoll.dev/envd/internal/identity"
	"atoll.dev/envd/internal/users"
)

func TestChooseEncoding(t *testing.T) {
	for _, row := range []struct {
		header string
		ranged bool
		want   coding
		ok     bool
	}{
		{"", false, identityCoding, true},
		{"identity", false, identityCoding, true},
		{"gzip", false, gzipCoding, true},
		{"GZIP", false, gzipCoding, true},
		{"gzip", true, identityCoding, true},
		{"gzip, deflate, br", false, identityCoding, true},
		{"gzip;q=0.5, identity;q=0.1", false, gzipCoding, true},
		{"gzip, identity;q=0", false, gzipCoding, true},
		{"gzip;q=0", false, identityCoding, true},
		{"br", false, identityCoding, true},
		{"*", false, identityCoding, true},
		{"*;q=0", false, identityCoding, false},
		{"br, identity;q=0", false, identityCoding, false},
		{"gzip, identity;q=0", true, identityCoding, false},
	} {
		var headers []string
		if row.header != "" {
			headers = []string{row.header}
		}
		if got, ok := chooseEncoding(headers, row.ranged); got != row.want || ok != row.ok {
			t.Errorf("%q ranged %v: %v %v", row.header, row.ranged, got, ok)
		}
	}
}

func TestDisposition(t *testing.T) {
	for _, row := range []struct{ header, name, filename string }{
		{`form-data; name="file"; filename="a.txt"`, "file", "a.txt"},
		{`form-data; name="file"; filename="/abs/b c.txt"`, "file", "/abs/b c.txt"},
		{`form-data; name="file"; filename="q%22.txt"`, "file", `q".txt`},
		{`form-data; name="file"; filename="q\".txt"`, "file", `q".txt`},
		{`form-data; name="file"; filename="ünï.txt"`, "file", "ünï.txt"},
		{`form-data; name="file"; filename*=UTF-8''%C3%BC.txt`, "file", "ü.txt"},
		{`form-data; name="other"`, "other", ""},
		{`attachment; name="file"`, "", ""},
		{`nonsense;;`, "", ""},
	} {
		if name, filename := disposition(row.header); name != row.name || filename != row.filename {
			t.Errorf("%s: %q %q", row.header, name, filename)
		}
	}
}

// FuzzMultipart looks for panics, and for files that say they were written twice.
func FuzzMultipart(f *testing.F) {
	f.Add("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello\r\n--b--\r\n")
	f.Add("--b\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''%2e%2e\r\n\r\n\r\n--b")
	f.Add("--b--")
	store := identity.NewStore(users.System)
	f.Fuzz(func(t *testing.T, body string) {
		target := t.TempDir() + "/target"
		b := &batch{service: New(store), path: target}
		failure := b.multipart(strings.NewReader(body), "b")
		if len(b.written) > 1 {
			t.Fatalf("%d files at one path", len(b.written))
		}
		if failure != nil && failure.Status >= 500 {
			t.Fatalf("a bad form is not our fault: %v", failure)
		}
	})
}
