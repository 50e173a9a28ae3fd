package directories

import (
	"archive/tar"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	smallFile  = 16 << 10 // larger ones are written as they are read
	batchBytes = 64 << 10
	batchFiles = 32
	mostNames  = 4096
)

// crew writes small files side by side. Each is a handful of system calls, which are dear in a sandbox, and they
// are all there is to do. Files go over in batches, as waking a goroutine costs as much as a file does. It is
// called by one goroutine.
type crew struct {
	queue   chan *batch
	next    *batch
	names   map[string]bool // of what may not be written yet
	pending sync.WaitGroup
	failure atomic.Pointer[error]
}

// batch is some files and, one after the other, their contents.
type batch struct {
	files   []smallJob
	content []byte
}

type smallJob struct {
	header *tar.Header
	name   string
	in     *folder
}

var batches = sync.Pool{New: func() any { return &batch{content: make([]byte, 0, batchBytes)} }}

// newCrew starts writers; dismiss ends them.
func newCrew(write func(job smallJob, content []byte) error) *crew {
	writers := max(2, runtime.GOMAXPROCS(0))
	c := &crew{queue: make(chan *batch, writers), next: batches.Get().(*batch), names: map[string]bool{}}
	for range writers {
		go func() {
			for b := range c.queue {
				c.work(b, write)
			}
		}()
	}
	return c
}

func (c *crew) work(b *batch, write func(smallJob, []byte) error) {
	defer c.pending.Done()
	content := b.content
	for _, job := range b.files {
		size := job.header.Size
		if c.failure.Load() == nil {
			if err := write(job, content[:size]); err != nil {
				c.failure.CompareAndSwap(nil, &err)
			}
		}
		content = content[size:]
		job.in.release()
	}
	clear(b.files)
	b.files, b.content = b.files[:0], b.content[:0]
	batches.Put(b)
}

// room is where the content of the next small file shall be read to. It says what has failed so far.
func (c *crew) room(name string, size int64) ([]byte, error) {
	if c.names[name] || len(c.names) >= mostNames {
		if err := c.wait(); err != nil { // the second of a name comes after the first
			return nil, err
		}
	}
	if len(c.next.files) >= batchFiles || int64(cap(c.next.content)-len(c.next.content)) < size {
		c.send()
	}
	at := int64(len(c.next.content))
	return c.next.content[at : at+size], c.failed()
}

// take hands over the file whose content was read to room.
func (c *crew) take(job smallJob) {
	job.in.hold()
	c.names[job.name] = true
	c.next.content = c.next.content[:int64(len(c.next.content))+job.header.Size]
	c.next.files = append(c.next.files, job)
}

func (c *crew) send() {
	c.pending.Add(1)
	c.queue <- c.next
	c.next = batches.Get().(*batch)
}

// wait returns when all that was handed over is done.
func (c *crew) wait() error {
	if len(c.next.files) > 0 {
		c.send()
	}
	c.pending.Wait()
	clear(c.names)
	return c.failed()
}

func (c *crew) failed() error {
	if failure := c.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

func (c *crew) dismiss() error {
	err := c.wait()
	close(c.queue)
	return err
}
