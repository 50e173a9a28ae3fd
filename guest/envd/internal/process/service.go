package process

import (
	"context"
	"net/http"

	"atoll.dev/envd/internal/connectrpc"
)

// Register adds the service's methods to a mux.
func (m *Manager) Register(mux *http.ServeMux) {
	for name, handler := range map[string]http.Handler{
		"Start":       connectrpc.ServerStream(m.serveStart),
		"Connect":     connectrpc.ServerStream(m.serveConnect),
		"List":        connectrpc.Unary(m.serveList),
		"SendInput":   connectrpc.Unary(m.serveSendInput),
		"StreamInput": connectrpc.ClientStream(m.serveStreamInput),
		"SendSignal":  connectrpc.Unary(m.serveSendSignal),
		"CloseStdin":  connectrpc.Unary(m.serveCloseStdin),
		"Update":      connectrpc.Unary(m.serveUpdate),
	} {
		mux.Handle("/process.Process/"+name, handler)
	}
}

func (m *Manager) serveStart(call *connectrpc.Call, request *StartRequest, sender *connectrpc.Sender) error {
	p, err := m.plan(call, request)
	if err != nil {
		return err
	}
	process, r, err := m.start(p)
	if err != nil {
		return err
	}
	defer r.close()
	end, err := follow(call, sender, r, startEvent{PID: uint32(process.PID)})
	if err != nil {
		return err
	}
	if process.overtime.Load() {
		return connectrpc.Errorf(connectrpc.DeadlineExceeded,
			"the command ran longer than its time limit of %v and was killed; give it a longer timeout, or 0 for none", p.life)
	}
	return sender.Send(eventMessage{event{End: end}})
}

func (m *Manager) serveConnect(call *connectrpc.Call, request *ConnectRequest, sender *connectrpc.Sender) error {
	from, err := parseReplay(call.Header.Get(ReplayHeader))
	if err != nil {
		return err
	}
	process, err := m.findAny(request.Process)
	if err != nil {
		return err
	}
	if call.Timeout > 0 {
		ctx, cancel := context.WithTimeout(call.Context, call.Timeout)
		defer cancel()
		call.Context = ctx
	}
	r := process.journal.read(from)
	defer r.close()
	start := startEvent{PID: uint32(process.PID)}
	if from != nil {
		start.Replay = r.positions()
	}
	end, err := follow(call, sender, r, start)
	if err != nil {
		return err
	}
	return sender.Send(eventMessage{event{End: end}})
}

func (m *Manager) serveList(*connectrpc.Call, *Empty) (ListResponse, error) {
	response := ListResponse{Processes: []Info{}}
	for _, p := range m.Living() {
		response.Processes = append(response.Processes, p.info())
	}
	return response, nil
}

func (m *Manager) serveSendSignal(_ *connectrpc.Call, request *SendSignalRequest) (Empty, error) {
	process, err := m.find(request.Process)
	if err != nil {
		return Empty{}, err
	}
	if err := request.Signal.check(); err != nil {
		return Empty{}, err
	}
	return Empty{}, process.signal(request.Signal.number)
}

func (m *Manager) serveCloseStdin(_ *connectrpc.Call, request *CloseStdinRequest) (Empty, error) {
	process, err := m.find(request.Process)
	if err != nil {
		return Empty{}, err
	}
	if process.pty != nil {
		return Empty{}, connectrpc.Errorf(connectrpc.Unknown, "a terminal's input cannot be closed; send Ctrl-D (0x04) instead")
	}
	process.closeInput()
	return Empty{}, nil
}

func (m *Manager) serveUpdate(_ *connectrpc.Call, request *UpdateRequest) (Empty, error) {
	process, err := m.find(request.Process)
	if err != nil || request.PTY == nil || request.PTY.Size == nil {
		return Empty{}, err
	}
	if process.pty == nil {
		return Empty{}, connectrpc.Errorf(connectrpc.FailedPrecondition, "tty not assigned to process")
	}
	if err := process.resize(request.PTY.Size); err != nil {
		return Empty{}, connectrpc.Errorf(connectrpc.Internal, "error resizing tty: %v", err)
	}
	return Empty{}, nil
}
