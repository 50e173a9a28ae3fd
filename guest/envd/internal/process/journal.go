package process

import (
	"slices"
	"sync"
)

type streamID int

const (
	stdout streamID = iota
	stderr
	terminal
	streamCount
)

var streamNames = [streamCount]string{stdout: "stdout", stderr: "stderr", terminal: "pty"}

const (
	retained  = 1 << 20   // bytes of each stream that can be replayed
	window    = 512 << 10 // bytes a reader may lag behind before the process is held back
	chunkSize = 32 << 10  // the largest stdout or stderr event
	ptyChunk  = 16 << 10  // the largest pty event
	smallest  = 512       // first buffer of a command that says little
)

// chunk is a piece of one stream. at orders chunks of all streams, offset is the place in its own.
type chunk struct {
	at, offset int64
	data       []byte
}

// track is what is kept of one stream, oldest first.
type track struct {
	chunks     []chunk
	start, end int64
}

// journal collects a process's output in the order it came.
type journal struct {
	mu      sync.Mutex
	room    *sync.Cond // a reader has advanced or left
	tracks  [streamCount]track
	total   int64
	blocked int // pumps held back by a slow reader
	readers map[*reader]struct{}
	spare   [][]byte // buffers to use again
	end     *End
}

func newJournal() *journal {
	j := &journal{readers: map[*reader]struct{}{}}
	j.room = sync.NewCond(&j.mu)
	return j
}

// append adds output, waiting while any reader lags too far. After the end it drops.
func (j *journal) append(id streamID, data []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.blocked++
	for j.end == nil && j.lags() {
		j.room.Wait()
	}
	j.blocked--
	if j.end != nil {
		return
	}
	for piece := range slices.Chunk(data, chunkSize) {
		j.store(id, piece)
	}
	for r := range j.readers {
		r.wake()
	}
}

func (j *journal) lags() bool {
	for r := range j.readers {
		if r.lag() > window {
			return true
		}
	}
	return false
}

func (j *journal) store(id streamID, data []byte) {
	t := &j.tracks[id]
	if n := len(t.chunks); n > 0 {
		// Small writes share a buffer as long as no other stream came between.
		last := &t.chunks[n-1]
		follows := last.at+int64(len(last.data)) == j.total
		if follows && len(last.data)+len(data) <= cap(last.data) {
			last.data = append(last.data, data...)
			j.advance(t, len(data))
			return
		}
	}
	t.chunks = append(t.chunks, chunk{at: j.total, offset: t.end, data: append(j.buffer(t, len(data)), data...)})
	j.advance(t, len(data))
	j.trim(t)
}

// buffer grows with the stream: a command that says one line costs little, a flood reuses what it drops.
func (j *journal) buffer(t *track, need int) []byte {
	if need <= smallest && len(t.chunks) == 0 {
		return make([]byte, 0, smallest)
	}
	if len(t.chunks) < 8 && need <= chunkSize/8 {
		return make([]byte, 0, chunkSize/8)
	}
	if n := len(j.spare); n > 0 {
		buffer := j.spare[n-1]
		j.spare = j.spare[:n-1]
		return buffer
	}
	return make([]byte, 0, chunkSize)
}

func (j *journal) advance(t *track, n int) {
	t.end += int64(n)
	j.total += int64(n)
}

func (j *journal) trim(t *track) {
	dropped := 0
	for dropped < len(t.chunks)-1 && t.end-t.chunks[dropped+1].offset >= retained {
		if buffer := t.chunks[dropped].data; cap(buffer) == chunkSize {
			j.spare = append(j.spare, buffer[:0])
		}
		dropped++
	}
	if dropped > 0 {
		kept := copy(t.chunks, t.chunks[dropped:])
		clear(t.chunks[kept:])
		t.chunks = t.chunks[:kept]
		t.start = t.chunks[0].offset
	}
}

// finish records the end; what comes later is dropped.
func (j *journal) finish(end End) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.end = &end
	j.room.Broadcast()
	for r := range j.readers {
		r.wake()
	}
}

// forget frees what was kept for replay.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.tracks {
		t := &j.tracks[i]
		t.chunks, t.start = nil, t.end
	}
	j.spare = nil
}

// progress tells whether output still moves: the bytes so far, and whether a pump waits for a reader.
func (j *journal) progress() (total int64, held bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.total, j.blocked > 0 && j.lags()
}

// held is how many bytes are kept.
func (j *journal) held() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var held int64
	for i := range j.tracks {
		held += j.tracks[i].end - j.tracks[i].start
	}
	return held
}
