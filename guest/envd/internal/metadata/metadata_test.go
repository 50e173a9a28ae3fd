package metadata

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFromHeader(t *testing.T) {
	long := strings.Repeat("k", maxKey)
	for _, row := range []struct {
		name   string
		header http.Header
		want   map[string]string
		fails  bool
	}{
		{"none", http.Header{"X-Other": {"1"}}, nil, false},
		{"keys in lower case", http.Header{"X-Metadata-Foo": {"Bar"}}, map[string]string{"foo": "Bar"}, false},
		{"the longest key", http.Header{"X-Metadata-" + long: {""}}, map[string]string{long: ""}, false},
		{"too long a key", http.Header{"X-Metadata-" + long + "k": {""}}, nil, true},
		{"an empty key", http.Header{"X-Metadata-": {"x"}}, nil, true},
		{"a value that is not ASCII", http.Header{"X-Metadata-A": {"ü"}}, nil, true},
		{"a control character", http.Header{"X-Metadata-A": {"\x01"}}, nil, true},
		{"too much", http.Header{"X-Metadata-A": {strings.Repeat("x", maxTotal)}}, nil, true},
	} {
		got, err := FromHeader(row.header)
		if (err != nil) != row.fails || !maps.Equal(got, row.want) {
			t.Errorf("%s: %v %v", row.name, got, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "invalid metadata: ") {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestReplaceIsExact(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if errors.Is(unix.Fsetxattr(int(file.Fd()), "user.test", nil, 0), unix.ENOTSUP) {
		if err := Replace(file, map[string]string{"a": "1"}); err == nil || !strings.Contains(err.Error(), "no extended attributes") {
			t.Errorf("%v", err)
		}
		t.Skip("this file system has no extended attributes")
	}
	for _, set := range []map[string]string{{"a": "1", "b": "2"}, {"b": "3"}, nil} {
		if err := Replace(file, set); err != nil {
			t.Fatal(err)
		}
		if got := Read(file.Name()); !maps.Equal(got, set) {
			t.Errorf("got %v, want %v", got, set)
		}
	}
}
