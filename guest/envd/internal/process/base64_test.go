package process

import (
	"encoding/base64"
	"math/rand/v2"
	"testing"
)

func TestEncodesAsTheStandardLibraryDoes(t *testing.T) {
	for size := range 200 {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		want := "x" + base64.StdEncoding.EncodeToString(data)
		if got := string(appendBase64([]byte("x"), data)); got != want {
			t.Fatalf("%x became %q, not %q", data, got, want)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	data, text := make([]byte, chunkSize), make([]byte, 0, eventSize)
	b.SetBytes(chunkSize)
	for b.Loop() {
		appendBase64(text, data)
	}
}
