package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"atoll.dev/envd/internal/users"
)

func signedRequest(key ed25519.PrivateKey, method, path string, at int64, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	signature := ed25519.Sign(key, SigningBytes(method, path, at, []byte(body)))
	r.Header.Set(SignatureHeader, fmt.Sprintf("%d:%s", at, base64.StdEncoding.EncodeToString(signature)))
	return r
}

func TestHostKey(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseHostKey(base64.StdEncoding.EncodeToString(public))
	if err != nil {
		t.Fatal(err)
	}
	first := signedRequest(private, "POST", "/init", 1000, "{}")
	for _, row := range []struct {
		name    string
		request *http.Request
		body    string
		ok      bool
	}{
		{"no signature", httptest.NewRequest("POST", "/init", nil), "", false},
		{"another key", signedRequest(stranger, "POST", "/init", 1000, "{}"), "{}", false},
		{"another body", first, "{ }", false},
		{"signed", first, "{}", true},
		{"the same again", first, "{}", false},
		{"an older one", signedRequest(private, "POST", "/init", 999, "{}"), "{}", false},
		{"a newer one", signedRequest(private, "POST", "/init", 1001, ""), "", true},
		{"for another path", func() *http.Request {
			r := signedRequest(private, "POST", "/freeze", 2000, "")
			r.URL.Path = "/init"
			return r
		}(), "", false},
	} {
		if err := key.Verify(row.request, []byte(row.body)); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestTheHostMayHandOverToAnother(t *testing.T) {
	first, firstPrivate, _ := ed25519.GenerateKey(nil)
	second, secondPrivate, _ := ed25519.GenerateKey(nil)
	key, err := ParseHostKey(base64.StdEncoding.EncodeToString(first))
	if err != nil {
		t.Fatal(err)
	}
	handler := NewStore(users.System).Handler(key, Root{Path: t.TempDir()}, "1.2.3")
	body := fmt.Sprintf(`{"hostKey":%q}`, base64.StdEncoding.EncodeToString(second))
	for _, row := range []struct {
		name string
		by   ed25519.PrivateKey
		body string
		want int
	}{
		{"no stranger may", secondPrivate, body, http.StatusUnauthorized},
		{"no key", firstPrivate, `{"hostKey":"YQ=="}`, http.StatusBadRequest},
		{"the first host", firstPrivate, body, http.StatusNoContent},
		{"is obeyed no longer", firstPrivate, "{}", http.StatusUnauthorized},
		{"the second is", secondPrivate, "{}", http.StatusNoContent},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, signedRequest(row.by, "POST", "/init", int64(1000+len(row.name)), row.body))
		if w.Code != row.want {
			t.Errorf("%s: %d %s", row.name, w.Code, w.Body)
		}
	}
}

func TestHostKeyMustBeAKey(t *testing.T) {
	for _, encoded := range []string{"!", "YQ=="} {
		if _, err := ParseHostKey(encoded); err == nil {
			t.Errorf("%q was taken", encoded)
		}
	}
}

func post(t *testing.T, handler http.Handler, body string) int {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/init", strings.NewReader(body)))
	if w.Code == 204 && w.Header().Get("X-Envd-Version") != "1.2.3" {
		t.Error("no version header")
	}
	return w.Code
}

func newStore(t *testing.T) (*Store, http.Handler, string) {
	t.Helper()
	store, root := NewStore(users.System), t.TempDir()
	return store, store.Handler(&HostKey{}, Root{Path: root}, "1.2.3"), root
}

func TestInitKeepsWhatIsAbsent(t *testing.T) {
	store, handler, _ := newStore(t)
	if code := post(t, handler, `{"envVars":{"A":"1","B":"2"},"accessToken":"tok","defaultUser":"root","defaultWorkdir":"/w"}`); code != 204 {
		t.Fatal(code)
	}
	if code := post(t, handler, `{"envVars":{"B":"3"}}`); code != 204 {
		t.Fatal(code)
	}
	envs := store.Envs()
	if envs["A"] != "1" || envs["B"] != "3" || store.Token() != "tok" || store.Workdir() != "/w" {
		t.Fatalf("%v %q %q", envs, store.Token(), store.Workdir())
	}
	if post(t, handler, `{"accessToken":""}`); store.HasToken() {
		t.Error("an empty token clears it")
	}
	if post(t, handler, ``) != 204 || post(t, handler, `[`) != 400 {
		t.Error("an empty body is fine, a broken one is not")
	}
}

func TestInitWritesTheFilesOfTheSandbox(t *testing.T) {
	store, handler, root := newStore(t)
	post(t, handler, `{"sandboxID":"iabc","templateID":"t1","buildID":"b1","teamID":"m1","hostname":"box","events":"http://192.0.2.1"}`)
	for path, want := range map[string]string{
		"/run/e2b/.E2B_SANDBOX": "true", "/run/e2b/.E2B_SANDBOX_ID": "iabc", "/run/e2b/.E2B_TEMPLATE_ID": "t1",
		"/run/e2b/.E2B_TEAM_ID": "m1", "/.e2b": "ENV_ID=t1\nTEMPLATE_ID=t1\nBUILD_ID=b1\n", "/etc/hostname": "box\n",
	} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
	for name, want := range map[string]string{
		"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "iabc", "E2B_TEMPLATE_ID": "t1", "E2B_TEAM_ID": "m1",
		"E2B_EVENTS_ADDRESS": "http://192.0.2.1",
	} {
		if got := store.Envs()[name]; got != want {
			t.Errorf("%s=%q", name, got)
		}
	}
	hosts, _ := os.ReadFile(filepath.Join(root, "/etc/hosts"))
	if !strings.Contains(string(hosts), "192.0.2.1 events.e2b.local") || !strings.Contains(string(hosts), "127.0.1.1 box") {
		t.Errorf("hosts: %s", hosts)
	}
}

func TestTheEnvironmentIsForTheDefaultAccountOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives a file to another account")
	}
	_, handler, root := newStore(t)
	path := filepath.Join(root, environmentFile)
	expect := func(want string) {
		t.Helper()
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("%s", got)
		}
	}
	post(t, handler, `{"sandboxID":"iabc","defaultUser":"daemon","envVars":{"A":"1"}}`)
	expect(`{"A":"1","E2B_SANDBOX":"true","E2B_SANDBOX_ID":"iabc"}`)
	info, err := os.Stat(path)
	daemon, _ := users.System.Lookup("daemon")
	if err != nil || info.Mode().Perm() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != daemon.UID {
		t.Errorf("%v %v", info, err)
	}
	post(t, handler, `{"envVars":{"A":"2"},"defaultUser":"nobody-of-this-name"}`)
	expect(`{"A":"2","E2B_SANDBOX":"true","E2B_SANDBOX_ID":"iabc"}`)
}

func TestALinkLeftByAUserIsNotWrittenThrough(t *testing.T) {
	_, handler, root := newStore(t)
	victim := filepath.Join(root, "victim")
	elsewhere := t.TempDir()
	for _, err := range []error{
		os.WriteFile(victim, []byte("mine"), 0o600),
		os.Symlink(victim, filepath.Join(root, ".e2b")),
		os.Symlink(elsewhere, filepath.Join(root, "run")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	post(t, handler, `{"sandboxID":"iabc"}`)
	if got, _ := os.ReadFile(victim); string(got) != "mine" {
		t.Errorf("the link's target was written: %q", got)
	}
	if left, _ := os.ReadDir(elsewhere); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "run/e2b/.E2B_SANDBOX_ID")); string(got) != "iabc" {
		t.Errorf("id %q", got)
	}
}

func TestOnlyWhatIsAnotherIsWritten(t *testing.T) {
	_, handler, root := newStore(t)
	read := func(path string) string {
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
		}
		return string(content)
	}
	post(t, handler, `{"sandboxID":"ilonger","templateID":"t1","teamID":"m1","hostname":"a-longer-name"}`)
	mine := filepath.Join(root, "/run/e2b/.E2B_TEMPLATE_ID")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	post(t, handler, `{"sandboxID":"iabc","templateID":"t1","teamID":"m2","hostname":"box"}`)
	for path, want := range map[string]string{
		"/run/e2b/.E2B_TEMPLATE_ID": "mine", "/run/e2b/.E2B_TEAM_ID": "m2", "/run/e2b/.E2B_SANDBOX_ID": "iabc",
		"/etc/hostname": "box\n", "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 box # atoll\n",
	} {
		if got := read(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "/etc/hostname")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("everybody may read it: %v %v", info.Mode(), err)
	}
	post(t, handler, `{"templateID":"t2","sandboxID":"iabc"}`)
	if got := read("/run/e2b/.E2B_TEMPLATE_ID"); got != "t2" {
		t.Errorf("another template: %q", got)
	}
}

func TestTrustAddsTheCertificateOnce(t *testing.T) {
	store, handler, root := newStore(t)
	bundle := filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")
	if err := os.MkdirAll(filepath.Dir(bundle), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, []byte("OLD"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		post(t, handler, `{"caBundle":"NEW CERT\n"}`)
	}
	got, _ := os.ReadFile(bundle)
	if !bytes.Equal(got, []byte("OLD\nNEW CERT\n")) {
		t.Errorf("bundle %q", got)
	}
	if store.Envs()["NODE_EXTRA_CA_CERTS"] == "" {
		t.Error("Node does not know of it")
	}
}

func TestHostsReplacesItsOwnLines(t *testing.T) {
	old := "127.0.0.1 localhost\n127.0.1.1 old # atoll\n"
	got := mergeHosts(old, map[string]string{"new": "127.0.1.1"})
	if got != "127.0.0.1 localhost\n127.0.1.1 new # atoll\n" {
		t.Errorf("got %q", got)
	}
}

func TestUserOfTheStore(t *testing.T) {
	store, handler, _ := newStore(t)
	if user, err := store.User(""); err != nil || user.Name != "root" {
		t.Errorf("without a default it is root: %v %v", user, err)
	}
	post(t, handler, `{"defaultUser":"no-such-default"}`)
	for name, want := range map[string]string{"": "invalid default user: 'no-such-default'", "nobody-here": "invalid username: 'nobody-here'"} {
		if _, err := store.User(name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}
