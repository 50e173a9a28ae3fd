package watch

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/filesystem"
	"atoll.dev/envd/internal/identity"
)

// Service serves WatchDir, and watchers that are asked for their events.
type Service struct {
	identity *identity.Store
	mu       sync.Mutex
	watchers map[string]*polled
}

type polled struct {
	*Watcher
	entries bool
}

// New makes the service.
func New(identity *identity.Store) *Service {
	return &Service{identity: identity, watchers: map[string]*polled{}}
}

// Register adds the service's methods to a mux.
func (s *Service) Register(mux *http.ServeMux) {
	for name, handler := range map[string]http.Handler{
		"WatchDir":         connectrpc.ServerStream(s.watchDir),
		"CreateWatcher":    connectrpc.Unary(s.create),
		"GetWatcherEvents": connectrpc.Unary(s.events),
		"RemoveWatcher":    connectrpc.Unary(s.remove),
	} {
		mux.Handle("/filesystem.Filesystem/"+name, handler)
	}
}

func (s *Service) open(call *connectrpc.Call, request *Request) (*Watcher, error) {
	path, _, err := filesystem.ResolveCall(s.identity, call, request.Path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, connectrpc.Errorf(connectrpc.NotFound, "path %s not found", path)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, connectrpc.Errorf(connectrpc.InvalidArgument, "path %s not a directory", path)
	}
	if !request.allowNetwork() && onNetwork(path) {
		return nil, connectrpc.Errorf(connectrpc.InvalidArgument, "cannot watch path on network filesystem: %s", path)
	}
	return Watch(path, request.Recursive)
}

// networkSystems are file systems whose changes made elsewhere inotify never sees.
var networkSystems = map[int64]bool{
	unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true,
	unix.AFS_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true, unix.CODA_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true,
}

func onNetwork(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && networkSystems[int64(stat.Type)&0xffffffff]
}

func (s *Service) watchDir(call *connectrpc.Call, request *Request, sender *connectrpc.Sender) error {
	watcher, err := s.open(call, request)
	if err != nil {
		return err
	}
	defer watcher.Close()
	if call.Timeout > 0 {
		ctx, cancel := context.WithTimeout(call.Context, call.Timeout)
		defer cancel()
		call.Context = ctx
	}
	if err := sender.Send(streamMessage{Start: &Empty{}}); err != nil {
		return err
	}
	timer := time.NewTimer(call.Keepalive)
	defer timer.Stop()
	for {
		if err := sender.Flush(); err != nil {
			return err
		}
		select {
		case <-watcher.ready:
			for _, event := range s.describe(watcher, watcher.take(), request.includeEntry()) {
				if err := sender.Send(streamMessage{Filesystem: &event}); err != nil {
					return err
				}
			}
		case <-timer.C:
			if err := sender.Send(streamMessage{Keepalive: &Empty{}}); err != nil {
				return err
			}
		case <-call.Context.Done():
			return connectrpc.Stopped(call.Context)
		}
		timer.Reset(call.Keepalive)
	}
}

// describe adds the entries, where they are wanted and the file is still there.
func (s *Service) describe(watcher *Watcher, events []Event, entries bool) []Event {
	if !entries || len(events) == 0 {
		return events
	}
	names := s.identity.Accounts().Names()
	for i, event := range events {
		if event.Type != removed && event.Type != renamed {
			events[i].Entry, _ = filesystem.Describe(watcher.path(event.Name), names)
		}
	}
	return events
}

func (s *Service) create(call *connectrpc.Call, request *Request) (*CreateWatcherResponse, error) {
	watcher, err := s.open(call, request)
	if err != nil {
		return nil, err
	}
	id := "w" + strings.ToLower(rand.Text()[:20])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[id] = &polled{watcher, request.includeEntry()}
	return &CreateWatcherResponse{id}, nil
}

func (s *Service) events(_ *connectrpc.Call, request *WatcherRequest) (*EventsResponse, error) {
	s.mu.Lock()
	watcher := s.watchers[request.id()]
	s.mu.Unlock()
	if watcher == nil {
		return nil, unknownWatcher(request.id())
	}
	events := s.describe(watcher.Watcher, watcher.take(), watcher.entries)
	return &EventsResponse{append([]Event{}, events...)}, nil
}

func (s *Service) remove(_ *connectrpc.Call, request *WatcherRequest) (Empty, error) {
	s.mu.Lock()
	watcher := s.watchers[request.id()]
	delete(s.watchers, request.id())
	s.mu.Unlock()
	if watcher == nil {
		return Empty{}, unknownWatcher(request.id())
	}
	watcher.Close()
	return Empty{}, nil
}

func unknownWatcher(id string) error {
	return connectrpc.Errorf(connectrpc.NotFound, "watcher with id %s not found", id)
}
