package process

// reader is one client's place in a journal.
type reader struct {
	journal *journal
	next    [streamCount]int64
	first   [streamCount]int64
	ready   chan struct{} // holds one token when there may be news
}

// read opens a reader at the places a replay asks for; nil means: only what comes from now on.
func (j *journal) read(from replay) *reader {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := &reader{journal: j, ready: make(chan struct{}, 1)}
	for id := range j.tracks {
		t := &j.tracks[id]
		r.next[id] = t.end
		if from != nil {
			r.next[id] = min(max(from.offset(streamID(id), t.end), t.start), t.end)
		}
	}
	r.first = r.next
	j.readers[r] = struct{}{}
	return r
}

// close lets the process go on without this reader.
func (r *reader) close() {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	delete(r.journal.readers, r)
	r.journal.room.Broadcast()
}

func (r *reader) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

func (r *reader) lag() int64 {
	var lag int64
	for id := range r.journal.tracks {
		lag += r.journal.tracks[id].end - r.next[id]
	}
	return lag
}

// take passes the next piece to use, which must not keep it. Without one it says whether the process has ended.
func (r *reader) take(use func(id streamID, data []byte)) (taken bool, end *End) {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	piece, id := r.earliest()
	if piece == nil {
		return false, j.end
	}
	data := piece.data[r.next[id]-piece.offset:]
	if id == terminal {
		data = data[:min(len(data), ptyChunk)]
	}
	use(id, data)
	r.next[id] += int64(len(data))
	if j.blocked > 0 {
		j.room.Broadcast()
	}
	return true, nil
}

// earliest finds the unread chunk that came first, over all streams.
func (r *reader) earliest() (*chunk, streamID) {
	var found *chunk
	var of streamID
	for id := range r.journal.tracks {
		piece := r.journal.tracks[id].find(r.next[id])
		if piece != nil && (found == nil || piece.at < found.at) {
			found, of = piece, streamID(id)
		}
	}
	return found, of
}

// find gives the chunk that holds an offset; nil at the end of the stream.
func (t *track) find(offset int64) *chunk {
	if offset >= t.end {
		return nil
	}
	low, high := 0, len(t.chunks)-1
	for low < high {
		middle := (low + high + 1) / 2
		if t.chunks[middle].offset <= offset {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return &t.chunks[low]
}

// positions says where each stream of a replay starts, so that a client sees what was lost for good.
func (r *reader) positions() map[string]int64 {
	positions := map[string]int64{}
	for id, name := range streamNames {
		positions[name] = r.first[id]
	}
	return positions
}
