package watch

import "atoll.dev/envd/internal/filesystem"

// Request is WatchDirRequest and CreateWatcherRequest. Both spellings of a field are the protocol's.
type Request struct {
	Path              string `json:"path"`
	Recursive         bool   `json:"recursive"`
	IncludeEntry      bool   `json:"includeEntry"`
	IncludeEntrySnake bool   `json:"include_entry"`
	AllowNetwork      bool   `json:"allowNetworkMounts"`
	AllowNetworkSnake bool   `json:"allow_network_mounts"`
}

func (r *Request) includeEntry() bool { return r.IncludeEntry || r.IncludeEntrySnake }
func (r *Request) allowNetwork() bool { return r.AllowNetwork || r.AllowNetworkSnake }

// WatcherRequest is GetWatcherEventsRequest and RemoveWatcherRequest.
type WatcherRequest struct {
	WatcherID      string `json:"watcherId"`
	WatcherIDSnake string `json:"watcher_id"`
}

func (r *WatcherRequest) id() string { return r.WatcherID + r.WatcherIDSnake }

// CreateWatcherResponse names the new watcher.
type CreateWatcherResponse struct {
	WatcherID string `json:"watcherId"`
}

// EventsResponse is GetWatcherEventsResponse.
type EventsResponse struct {
	Events []Event `json:"events"`
}

// Event is FilesystemEvent. Name is relative to the watched directory.
type Event struct {
	Name  string            `json:"name"`
	Type  string            `json:"type"`
	Entry *filesystem.Entry `json:"entry,omitempty"`
}

// Types of events, in the order in which one kernel event expands into them.
const (
	created = "EVENT_TYPE_CREATE"
	renamed = "EVENT_TYPE_RENAME"
	chmod   = "EVENT_TYPE_CHMOD"
	written = "EVENT_TYPE_WRITE"
	removed = "EVENT_TYPE_REMOVE"
)

// Empty is a message without fields.
type Empty struct{}

// streamMessage is WatchDirResponse.
type streamMessage struct {
	Start      *Empty `json:"start,omitempty"`
	Filesystem *Event `json:"filesystem,omitempty"`
	Keepalive  *Empty `json:"keepalive,omitempty"`
}
