package process

import (
	"encoding/base64"
	"sync"
)

// Output events are most of the daemon's work, so their JSON is assembled in place, in one reused buffer.
var dataPrefix = [streamCount]string{
	stdout:   `{"event":{"data":{"stdout":"`,
	stderr:   `{"event":{"data":{"stderr":"`,
	terminal: `{"event":{"data":{"pty":"`,
}

const dataSuffix = `"}}}`

// frame holds the buffers for one event on its way.
type frame struct {
	raw  [chunkSize]byte
	text []byte
}

var frames = sync.Pool{New: func() any {
	return &frame{text: make([]byte, 0, 64+base64.StdEncoding.EncodedLen(chunkSize))}
}}

// encode writes the event for raw[:n] behind room free bytes.
func (f *frame) encode(id streamID, n, room int) []byte {
	text := f.text[:room]
	text = append(text, dataPrefix[id]...)
	text = base64.StdEncoding.AppendEncode(text, f.raw[:n])
	return append(text, dataSuffix...)
}
