package process

import (
	"time"

	"atoll.dev/envd/internal/connectrpc"
)

// follow sends a process's start, its output, and its end, keep-alives in between.
func follow(call *connectrpc.Call, sender *connectrpc.Sender, r *reader, start startEvent) (*End, error) {
	if err := sender.Send(eventMessage{event{Start: &start}}); err != nil {
		return nil, err
	}
	timer := time.NewTimer(call.Keepalive)
	defer timer.Stop()
	for {
		sent, end, err := drain(sender, r)
		if err != nil || end != nil {
			return end, err
		}
		if err := sender.Flush(); err != nil {
			return nil, err
		}
		if sent {
			timer.Reset(call.Keepalive)
		}
		select {
		case <-r.ready:
		case <-timer.C:
			if err := sender.Send(eventMessage{event{Keepalive: &Empty{}}}); err != nil {
				return nil, err
			}
			timer.Reset(call.Keepalive)
		case <-call.Context.Done():
			return nil, connectrpc.Stopped(call.Context)
		}
	}
}

// drain sends all there is.
func drain(sender *connectrpc.Sender, r *reader) (sent bool, end *End, err error) {
	f := frames.Get().(*frame)
	defer f.release()
	add := f.add
	for {
		f.text = f.text[:0]
		for end = nil; !f.full(); {
			taken, last := r.take(add)
			if !taken {
				end = last
				break
			}
		}
		if len(f.text) == 0 {
			return sent, end, nil
		}
		sent = true
		if err := sender.SendEnvelopes(f.text); err != nil {
			return sent, nil, err
		}
	}
}
