package process

import "atoll.dev/envd/internal/connectrpc"

// Config is ProcessConfig.
type Config struct {
	Cmd  string            `json:"cmd"`
	Args []string          `json:"args,omitempty"`
	Envs map[string]string `json:"envs,omitempty"`
	Cwd  *string           `json:"cwd,omitempty"`
}

// Size is a terminal's size in characters.
type Size struct {
	Cols connectrpc.Uint32 `json:"cols"`
	Rows connectrpc.Uint32 `json:"rows"`
}

// PTY asks for a terminal.
type PTY struct {
	Size *Size `json:"size"`
}

// StartRequest starts a process. Standard input is open unless Stdin is false.
type StartRequest struct {
	Process *Config `json:"process"`
	PTY     *PTY    `json:"pty"`
	Tag     *string `json:"tag"`
	Stdin   *bool   `json:"stdin"`
}

// Selector names a process by exactly one of its fields.
type Selector struct {
	PID *connectrpc.Uint32 `json:"pid"`
	Tag *string            `json:"tag"`
}

// ConnectRequest joins the stream of a running process.
type ConnectRequest struct {
	Process *Selector `json:"process"`
}

// CloseStdinRequest gives a process the end of its standard input.
type CloseStdinRequest struct {
	Process *Selector `json:"process"`
}

// Input is one of its fields.
type Input struct {
	Stdin *connectrpc.Bytes `json:"stdin"`
	PTY   *connectrpc.Bytes `json:"pty"`
}

// SendInputRequest writes to a process.
type SendInputRequest struct {
	Process *Selector `json:"process"`
	Input   *Input    `json:"input"`
}

// StreamInputRequest is one message of StreamInput: start first, then data; keep-alives are nothing to us.
type StreamInputRequest struct {
	Start *struct {
		Process *Selector `json:"process"`
	} `json:"start"`
	Data *struct {
		Input *Input `json:"input"`
	} `json:"data"`
}

// UpdateRequest resizes a terminal.
type UpdateRequest struct {
	Process *Selector `json:"process"`
	PTY     *PTY      `json:"pty"`
}

// SendSignalRequest signals a process.
type SendSignalRequest struct {
	Process *Selector `json:"process"`
	Signal  Signal    `json:"signal"`
}

// Info is ProcessInfo.
type Info struct {
	Config Config  `json:"config"`
	PID    uint32  `json:"pid"`
	Tag    *string `json:"tag,omitempty"`
}

// ListResponse lists living processes.
type ListResponse struct {
	Processes []Info `json:"processes"`
}

// Empty is a message without fields.
type Empty struct{}

// eventMessage is StartResponse and ConnectResponse. Data events are written by hand (events.go).
type eventMessage struct {
	Event event `json:"event"`
}

type event struct {
	Start     *startEvent `json:"start,omitempty"`
	End       *End        `json:"end,omitempty"`
	Keepalive *Empty      `json:"keepalive,omitempty"`
}

type startEvent struct {
	PID    uint32           `json:"pid"`
	Replay map[string]int64 `json:"replay,omitempty"`
}

// End says how a process ended.
type End struct {
	ExitCode int    `json:"exitCode"`
	Exited   bool   `json:"exited"`
	Status   string `json:"status"`
	Error    string `json:"error,omitempty"`
}
