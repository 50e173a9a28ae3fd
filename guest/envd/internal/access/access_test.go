package access

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

type token string

func (t token) HasToken() bool            { return t != "" }
func (t token) Token() string             { return string(t) }
func (t token) IsToken(given string) bool { return given == string(t) }

func TestSignatureOfTheSheet(t *testing.T) {
	const want = "v1_aLdHP72DZ35Gxte3Z0H3BBNZlIJiiK/1D14o/T87Ew8"
	if got := Signature("x.txt", Write, "", "tok123", ""); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestCheckSigned(t *testing.T) {
	now := time.Unix(1000, 0)
	sign := func(path string, op Operation, user, expiration string) string {
		return Signature(path, op, user, "tok", expiration)
	}
	for _, row := range []struct {
		name    string
		token   token
		header  string
		query   url.Values
		message string
	}{
		{name: "no token, all open", token: ""},
		{name: "the token", token: "tok", header: "tok"},
		{name: "a wrong token", token: "tok", header: "no", message: "access token present in header but does not match"},
		{name: "nothing", token: "tok", message: "missing signature query parameter"},
		{name: "a signature", token: "tok", query: url.Values{"path": {"a b"}, "username": {"u"}, "signature": {sign("a b", Read, "u", "")}}},
		{name: "a signature without path and user", token: "tok", query: url.Values{"signature": {sign("", Read, "", "")}}},
		{name: "another path", token: "tok", query: url.Values{"path": {"b"}, "signature": {sign("a", Read, "", "")}}, message: "invalid signature"},
		{name: "another user", token: "tok", query: url.Values{"username": {"b"}, "signature": {sign("", Read, "a", "")}}, message: "invalid signature"},
		{name: "another operation", token: "tok", query: url.Values{"signature": {sign("", Write, "", "")}}, message: "invalid signature"},
		{name: "still valid", token: "tok", query: url.Values{"signature": {sign("", Read, "", "1000")}, "signature_expiration": {"1000"}}},
		{name: "expired", token: "tok", query: url.Values{"signature": {sign("", Read, "", "999")}, "signature_expiration": {"999"}}, message: "signature is already expired"},
		{name: "expired and wrong", token: "tok", query: url.Values{"signature": {sign("", Read, "", "998")}, "signature_expiration": {"999"}}, message: "invalid signature"},
		{name: "expiration is no number", token: "tok", query: url.Values{"signature": {sign("", Read, "", "x")}, "signature_expiration": {"x"}}, message: "invalid signature"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/files?"+row.query.Encode(), nil)
			if row.header != "" {
				r.Header.Set(TokenHeader, row.header)
			}
			failure := CheckSigned(row.token, r, Read, now)
			got := ""
			if failure != nil {
				got = failure.Message
				if failure.Status != http.StatusUnauthorized {
					t.Errorf("status %d", failure.Status)
				}
			}
			if got != row.message {
				t.Fatalf("got %q, want %q", got, row.message)
			}
		})
	}
}

func TestRequireRefusesWithTheSheetsBody(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	for given, want := range map[string]int{"tok": 204, "": 401, "no": 401} {
		r := httptest.NewRequest(http.MethodGet, "/envs", nil)
		r.Header.Set(TokenHeader, given)
		w := httptest.NewRecorder()
		Require(token("tok"), next).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d", given, w.Code)
		}
		if want == 401 && !strings.Contains(w.Body.String(), `"code":401,"message":"unauthorized access, please provide`) {
			t.Errorf("body %s", w.Body)
		}
	}
}
