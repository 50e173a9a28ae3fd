package connectrpc

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReadEnvelope(t *testing.T) {
	for _, row := range []struct {
		name, input string
		flags       byte
		payload     string
		code        Code
		eof         bool
	}{
		{name: "one message", input: "\x00\x00\x00\x00\x02{}", payload: "{}"},
		{name: "an empty message", input: "\x00\x00\x00\x00\x00"},
		{name: "an end message keeps its flags", input: "\x02\x00\x00\x00\x02{}", flags: 2, payload: "{}"},
		{name: "nothing is a clean end", input: "", eof: true},
		{name: "half a header", input: "\x00\x00", code: InvalidArgument},
		{name: "half a payload", input: "\x00\x00\x00\x00\x05ab", code: InvalidArgument},
		{name: "too large", input: "\x00\xff\xff\xff\xff", code: ResourceExhausted},
		{name: "compressed", input: "\x01\x00\x00\x00\x02{}", code: Unimplemented},
	} {
		t.Run(row.name, func(t *testing.T) {
			flags, payload, err := readEnvelope(strings.NewReader(row.input))
			switch {
			case row.eof:
				if !errors.Is(err, io.EOF) {
					t.Fatalf("got %v, want io.EOF", err)
				}
			case row.code != "":
				if err == nil || AsError(err).Code != row.code {
					t.Fatalf("got %v, want code %s", err, row.code)
				}
			case err != nil || flags != row.flags || string(payload) != row.payload:
				t.Fatalf("got %d %q %v", flags, payload, err)
			}
		})
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02{}\x02\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x03\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		reader := bytes.NewReader(data)
		for {
			before := reader.Len()
			flags, payload, err := readEnvelope(reader)
			if err != nil {
				return
			}
			again := append(appendHeader(nil, flags, len(payload)), payload...)
			if !bytes.Equal(again, data[len(data)-before:len(data)-reader.Len()]) {
				t.Fatalf("envelope %q does not encode back", payload)
			}
		}
	})
}
