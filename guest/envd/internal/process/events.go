package process

import (
	"sync"

	"atoll.dev/envd/internal/connectrpc"
)

// Output events are most of the daemon's work, so their JSON is assembled in place, in one reused buffer.
var dataPrefix = [streamCount]string{
	stdout:   `{"event":{"data":{"stdout":"`,
	stderr:   `{"event":{"data":{"stderr":"`,
	terminal: `{"event":{"data":{"pty":"`,
}

const dataSuffix = `"}}}`

// batchSize is how many bytes of JSON travel in one write when output comes faster than it is sent.
const batchSize = 8 * eventSize

// eventSize is room enough for the largest event.
const eventSize = 64 + connectrpc.HeaderSize + (chunkSize+2)/3*4

// frame holds the events on their way.
type frame struct{ text []byte }

var frames = sync.Pool{New: func() any { return &frame{text: make([]byte, 0, eventSize)} }}

// add appends the event for a piece of output.
func (f *frame) add(id streamID, data []byte) {
	f.text = connectrpc.AppendEnvelope(f.text, func(text []byte) []byte {
		text = append(text, dataPrefix[id]...)
		text = appendBase64(text, data)
		return append(text, dataSuffix...)
	})
}

// full says that there may be no room for another event.
func (f *frame) full() bool { return len(f.text) > batchSize-eventSize }

// release gives the buffers back. A batch's large one is kept only for the flood it was made in.
func (f *frame) release() {
	if cap(f.text) > eventSize {
		f.text = make([]byte, 0, eventSize)
	}
	frames.Put(f)
}
