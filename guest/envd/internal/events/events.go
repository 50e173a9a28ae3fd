// Package events keeps what happened to this sandbox that its owner should know: GET /events for the host, and
// a file that services inside can read.
package events

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"atoll.dev/envd/internal/reply"
)

// File is where services inside find the events, one JSON object a line.
const File = "/run/atoll/events.jsonl"

const kept = 200

// Event is one happening. Number grows by one with each.
type Event struct {
	Number  int64     `json:"number"`
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`
	Message string    `json:"message"`
	PID     int       `json:"pid,omitempty"`
	Command string    `json:"command,omitempty"`
}

// Types of events.
const (
	MemoryLimit     = "memory_limit_exceeded"
	ProcessLimit    = "process_limit_exceeded"
	MemoryExhausted = "memory_exhausted" // and no process to end for it
)

// Log holds the last events. Safe for concurrent use.
type Log struct {
	path   string
	mu     sync.Mutex
	last   int64
	events []Event
}

// NewLog writes to path as well; empty for none.
func NewLog(path string) *Log { return &Log{path: path} }

// Add records an event.
func (l *Log) Add(event Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	event.Number, event.Time = l.last, time.Now().UTC()
	if len(l.events) == kept {
		l.events = append([]Event(nil), l.events[1:]...)
	}
	l.events = append(l.events, event)
	log.Printf("%s: %s (pid %d %s)", event.Type, event.Message, event.PID, event.Command)
	if l.path != "" {
		l.write(event)
	}
}

func (l *Log) write(event Event) {
	line, err := json.Marshal(event)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(l.path), 0o755)
	}
	if err != nil {
		log.Printf("events: %v", err)
		return
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		log.Printf("events: %v", err)
		return
	}
	defer file.Close()
	if _, err := file.Write(append(line, '\n')); err != nil {
		log.Printf("events: %v", err)
	}
}

// ServeHTTP answers GET /events?since=<number>: those after it, oldest first.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	since, err := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
	if err != nil && r.URL.Query().Has("since") {
		reply.Error(w, reply.Failf(http.StatusBadRequest, "since must be the number of an event"))
		return
	}
	reply.JSON(w, map[string]any{"events": l.After(since)})
}

// After gives the events with a greater number.
func (l *Log) After(number int64) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := []Event{}
	for _, event := range l.events {
		if event.Number > number {
			found = append(found, event)
		}
	}
	return found
}
