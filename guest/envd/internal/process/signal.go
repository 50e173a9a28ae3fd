package process

import (
	"bytes"
	"fmt"
	"syscall"

	"atoll.dev/envd/internal/connectrpc"
)

// Signal is the wire's enum: a name or a number.
type Signal struct {
	number syscall.Signal
	text   string
}

var signals = map[string]syscall.Signal{
	"SIGNAL_SIGKILL": syscall.SIGKILL, "9": syscall.SIGKILL,
	"SIGNAL_SIGTERM": syscall.SIGTERM, "15": syscall.SIGTERM,
}

// UnmarshalJSON takes both forms; an unknown one is kept, for the error.
func (s *Signal) UnmarshalJSON(data []byte) error {
	s.text = string(bytes.Trim(data, `"`))
	s.number = signals[s.text]
	return nil
}

func (s Signal) check() error {
	if s.number == 0 {
		return connectrpc.Errorf(connectrpc.Unimplemented, "invalid signal: %q; send SIGNAL_SIGTERM or SIGNAL_SIGKILL", s.text)
	}
	return nil
}

// endOf puts a wait status into words, the same as os/exec's.
func endOf(status syscall.WaitStatus) End {
	if status.Exited() {
		code := status.ExitStatus()
		end := End{ExitCode: code, Exited: true, Status: fmt.Sprintf("exit status %d", code)}
		if code != 0 {
			end.Error = end.Status
		}
		return end
	}
	text := fmt.Sprintf("signal: %v", status.Signal())
	if status.CoreDump() {
		text += " (core dumped)"
	}
	return End{ExitCode: -1, Status: text, Error: text}
}
