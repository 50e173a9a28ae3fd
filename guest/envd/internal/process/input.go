package process

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"atoll.dev/envd/internal/connectrpc"
)

func (m *Manager) serveSendInput(call *connectrpc.Call, request *SendInputRequest) (Empty, error) {
	process, err := m.find(request.Process)
	if err != nil {
		return Empty{}, err
	}
	return Empty{}, process.write(call.Context, request.Input)
}

func (m *Manager) serveStreamInput(call *connectrpc.Call, next func() (*StreamInputRequest, error)) (Empty, error) {
	var process *Process
	for {
		message, err := next()
		if errors.Is(err, io.EOF) {
			return Empty{}, nil
		}
		if err != nil {
			return Empty{}, err
		}
		switch {
		case message.Start != nil:
			if process, err = m.find(message.Start.Process); err != nil {
				return Empty{}, err
			}
		case message.Data != nil && process == nil:
			return Empty{}, connectrpc.Errorf(connectrpc.InvalidArgument, "the first message must be start, naming the process")
		case message.Data != nil:
			if err := process.write(call.Context, message.Data.Input); err != nil {
				return Empty{}, err
			}
		}
	}
}

func (p *Process) write(ctx context.Context, input *Input) error {
	switch {
	case input == nil || (input.Stdin == nil && input.PTY == nil):
		return connectrpc.Errorf(connectrpc.Unimplemented, "invalid input type: give stdin or pty")
	case input.PTY != nil && p.pty == nil:
		return connectrpc.Errorf(connectrpc.FailedPrecondition, "tty not assigned to process")
	case input.PTY != nil:
		return p.writeTo(ctx, p.pty, *input.PTY, "tty")
	case p.pty != nil:
		return connectrpc.Errorf(connectrpc.FailedPrecondition, "tty assigned to process; send the input as pty")
	}
	p.inputMu.Lock()
	stdin := p.stdin
	p.inputMu.Unlock()
	if stdin == nil {
		return connectrpc.Errorf(connectrpc.Internal, "error writing to stdin: stdin not enabled or closed")
	}
	return p.writeTo(ctx, stdin, *input.Stdin, "stdin")
}

// writeTo waits as long as the process does not read, but no longer than the caller does.
func (p *Process) writeTo(ctx context.Context, file *os.File, data []byte, name string) error {
	p.writeMu.Lock()
	defer p.writeMu.Unlock()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = file.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	_, err := file.Write(data)
	if !stop() {
		<-interrupted
		_ = file.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return connectrpc.Stopped(ctx)
	case errors.Is(err, os.ErrClosed):
		return connectrpc.Errorf(connectrpc.Internal, "error writing to %s: %s not enabled or closed", name, name)
	}
	return connectrpc.Errorf(connectrpc.Internal, "error writing to %s: %v", name, err)
}

func (p *Process) resize(size *Size) error {
	raw, err := p.pty.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = resize(int(fd), size) })
	return errors.Join(err, failed)
}
