package connectrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

type echo struct {
	Text string `json:"text"`
}

func TestHTTPStatusOfEveryCode(t *testing.T) {
	for code, want := range map[Code]int{
		Canceled: 499, Unknown: 500, InvalidArgument: 400, DeadlineExceeded: 504, NotFound: 404, AlreadyExists: 409,
		PermissionDenied: 403, ResourceExhausted: 429, FailedPrecondition: 400, Aborted: 409, OutOfRange: 400,
		Unimplemented: 501, Internal: 500, Unavailable: 503, DataLoss: 500, Unauthenticated: 401,
	} {
		if got := code.HTTPStatus(); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
}

func TestCallHeaders(t *testing.T) {
	for _, row := range []struct {
		name, keepalive, timeout string
		wantKeepalive            time.Duration
		wantTimeout              time.Duration
		invalid                  bool
	}{
		{name: "nothing given", wantKeepalive: 90 * time.Second},
		{name: "both given", keepalive: "50", timeout: "60000", wantKeepalive: 50 * time.Second, wantTimeout: time.Minute},
		{name: "unparsable interval", keepalive: "x", wantKeepalive: 90 * time.Second},
		{name: "interval zero", keepalive: "0", wantKeepalive: 90 * time.Second},
		{name: "unparsable timeout", timeout: "1s", invalid: true},
		{name: "timeout of eleven digits", timeout: "12345678901", invalid: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header.Set("Keepalive-Ping-Interval", row.keepalive)
			r.Header.Set("Connect-Timeout-Ms", row.timeout)
			r.SetBasicAuth("user", "")
			call, err := newCall(r)
			if row.invalid {
				if err == nil || err.Code != InvalidArgument {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || call.User != "user" || call.Keepalive != row.wantKeepalive || call.Timeout != row.wantTimeout {
				t.Fatalf("got %+v %v", call, err)
			}
		})
	}
}

func TestUnary(t *testing.T) {
	handler := Unary(func(_ *Call, request *echo) (*echo, error) {
		if request.Text == "fail" {
			return nil, Errorf(NotFound, "no such thing")
		}
		return request, nil
	})
	for _, row := range []struct {
		name, method, contentType, body string
		status                          int
		want                            string
	}{
		{"answers", "POST", "application/json", `{"text":"hi","unknown":1}`, 200, `{"text":"hi"}`},
		{"takes an empty body", "POST", "application/json; charset=utf-8", ``, 200, `{"text":""}`},
		{"fails with status and string code", "POST", "application/json", `{"text":"fail"}`, 404, `{"code":"not_found","message":"no such thing"}`},
		{"refuses what is no JSON", "POST", "application/json", `{`, 400, `"code":"invalid_argument"`},
		{"refuses a wrong type", "POST", "application/json", `{"text":5}`, 400, `"code":"invalid_argument"`},
		{"refuses another codec", "POST", "application/proto", ``, 415, ``},
		{"refuses GET", "GET", "application/json", ``, 405, ``},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(row.method, "/", strings.NewReader(row.body))
			r.Header.Set("Content-Type", row.contentType)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.want) {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func envelope(flags byte, payload string) string {
	return string(appendHeader(nil, flags, len(payload))) + payload
}

func TestServerStream(t *testing.T) {
	handler := ServerStream(func(_ *Call, request *echo, sender *Sender) error {
		if err := sender.Send(request); err != nil {
			return err
		}
		if request.Text == "fail" {
			return errors.New("broke")
		}
		return nil
	})
	for _, row := range []struct{ name, body, want string }{
		{"ends with an empty message", envelope(0, `{"text":"a"}`), envelope(0, `{"text":"a"}`) + envelope(2, `{}`)},
		{"an error is status 200 and in the end", envelope(0, `{"text":"fail"}`),
			envelope(0, `{"text":"fail"}`) + envelope(2, `{"error":{"code":"internal","message":"broke"}}`)},
		{"no message", "", envelope(2, `{"error":{"code":"invalid_argument","message":"the request has no message"}}`)},
		{"two messages", envelope(0, `{"text":"a"}`) + envelope(0, `{"text":"b"}`),
			envelope(2, `{"error":{"code":"invalid_argument","message":"the request has more than one message"}}`)},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("Content-Type", "application/connect+json")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != 200 || w.Body.String() != row.want || w.Header().Get("Content-Type") != "application/connect+json" {
				t.Fatalf("got %d %q", w.Code, w.Body)
			}
		})
	}
}

func TestClientStream(t *testing.T) {
	handler := ClientStream(func(_ *Call, next func() (*echo, error)) (*echo, error) {
		all := ""
		for {
			message, err := next()
			if errors.Is(err, io.EOF) {
				return &echo{all}, nil
			}
			if err != nil {
				return nil, err
			}
			all += message.Text
		}
	})
	body := envelope(0, `{"text":"a"}`) + envelope(0, `{"text":"b"}`)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/connect+json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if want := envelope(0, `{"text":"ab"}`) + envelope(2, `{}`); w.Body.String() != want {
		t.Fatalf("got %q", w.Body)
	}
}

func TestScalars(t *testing.T) {
	type message struct {
		B Bytes  `json:"b"`
		U Uint32 `json:"u"`
	}
	for _, row := range []struct {
		input   string
		bytes   string
		number  Uint32
		invalid bool
	}{
		{input: `{"b":"aMOp"}`, bytes: "hé"},
		{input: `{"b":"YQ=="}`, bytes: "a"},
		{input: `{"b":"YQ"}`, bytes: "a"},
		{input: `{"b":"-_8"}`, bytes: "\xfb\xff"},
		{input: `{"b":"+/8="}`, bytes: "\xfb\xff"},
		{input: `{"b":"!"}`, invalid: true},
		{input: `{"b":5}`, invalid: true},
		{input: `{"u":42}`, number: 42},
		{input: `{"u":"42"}`, number: 42},
		{input: `{"u":4.2e1}`, number: 42},
		{input: `{"u":null}`},
		{input: `{"u":4294967295}`, number: 4294967295},
		{input: `{"u":4294967296}`, invalid: true},
		{input: `{"u":-1}`, invalid: true},
		{input: `{"u":1.5}`, invalid: true},
		{input: `{"u":"x"}`, invalid: true},
	} {
		var m message
		err := decode([]byte(row.input), &m)
		if row.invalid {
			if err == nil || AsError(err).Code != InvalidArgument {
				t.Errorf("%s: got %v", row.input, err)
			}
		} else if err != nil || !bytes.Equal(m.B, []byte(row.bytes)) || m.U != row.number {
			t.Errorf("%s: got %q %d %v", row.input, m.B, m.U, err)
		}
	}
	if text, _ := json.Marshal(Int64(1 << 40)); string(text) != `"1099511627776"` {
		t.Errorf("an int64 is written as %s", text)
	}
}
