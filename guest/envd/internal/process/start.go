package process

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"atoll.dev/envd/internal/connectrpc"
	"atoll.dev/envd/internal/paths"
	"atoll.dev/envd/internal/reaper"
	"atoll.dev/envd/internal/users"
)

// plan is everything about a process that is decided before it exists.
type plan struct {
	config Config
	path   string
	argv   []string
	env    []string
	cwd    string
	user   users.User
	pty    *Size
	stdin  bool
	tag    *string
	life   time.Duration // zero for no limit
}

func (m *Manager) plan(call *connectrpc.Call, request *StartRequest) (*plan, error) {
	if request.Process == nil || request.Process.Cmd == "" {
		return nil, connectrpc.Errorf(connectrpc.InvalidArgument, "no command: process.cmd is empty")
	}
	config := *request.Process
	user, err := m.identity.User(call.User)
	if err != nil {
		return nil, connectrpc.Errorf(connectrpc.Unauthenticated, "%v", err)
	}
	cwd, err := workdir(config.Cwd, user, m.identity.Workdir())
	if err != nil {
		return nil, err
	}
	env := environment(user, m.identity.Envs(), config.Envs)
	if err := checkStrings(&config, env); err != nil {
		return nil, err
	}
	path, err := find(config.Cmd, env["PATH"], cwd)
	if err != nil {
		return nil, err
	}
	p := &plan{
		config: config, path: path, argv: append([]string{calledAs(config.Cmd, path)}, config.Args...),
		env: environmentList(env), cwd: cwd, user: user, tag: request.Tag, life: call.Timeout,
		stdin: request.Stdin == nil || *request.Stdin,
	}
	if request.PTY != nil {
		p.pty = &Size{Cols: 80, Rows: 24}
		if request.PTY.Size != nil {
			p.pty = request.PTY.Size
		}
	}
	return p, nil
}

// workdir applies the path rules. A default that does not exist (a scratch image) becomes the root.
func workdir(asked *string, user users.User, fallback string) (string, error) {
	wanted := ""
	if asked != nil {
		wanted = *asked
	}
	cwd, err := paths.Resolve(wanted, user, fallback)
	if err != nil {
		return "", connectrpc.Errorf(connectrpc.InvalidArgument, "invalid cwd: %v", err)
	}
	info, err := os.Stat(cwd)
	if err == nil && info.IsDir() {
		return cwd, nil
	}
	if wanted == "" {
		return "/", nil
	}
	if err == nil {
		return "", connectrpc.Errorf(connectrpc.InvalidArgument, "cwd '%s' is not a directory", cwd)
	}
	return "", connectrpc.Errorf(connectrpc.InvalidArgument, "cwd '%s' does not exist", cwd)
}

// start brings a planned process to life and registers it. The returned reader sees its output from the first
// byte on.
func (m *Manager) start(p *plan) (*Process, *reader, error) {
	ends, err := openEnds(p)
	if err != nil {
		return nil, nil, connectrpc.Errorf(connectrpc.Internal, "error starting process: %v", err)
	}
	var done <-chan syscall.WaitStatus
	pid, group, err := m.groups.Spawn(func() (pid int, err error) {
		pid, done, err = reaper.System().Spawn(p.path, p.argv, attributes(p, ends))
		return pid, err
	})
	ends.closeChild()
	if err != nil {
		ends.closeParent()
		return nil, nil, startError(p, err)
	}
	process := &Process{
		PID: pid, Tag: p.tag, config: p.config, group: group, journal: newJournal(),
		stdin: ends.stdin, pty: ends.pty, pumps: ends.pumps, ended: make(chan struct{}),
	}
	r := process.journal.read(nil)
	process.startPumps()
	m.add(process)
	gone := func() { m.remove(process) }
	if p.life > 0 {
		timer := time.AfterFunc(p.life, process.expire)
		gone = func() { timer.Stop(); m.remove(process) }
	}
	go process.watch(done, gone)
	return process, r, nil
}

func attributes(p *plan, ends *ends) *syscall.ProcAttr {
	sys := &syscall.SysProcAttr{Setsid: true, Setctty: p.pty != nil}
	if os.Geteuid() == 0 {
		groups := p.user.Groups
		sys.Credential = &syscall.Credential{Uid: p.user.UID, Gid: p.user.GID, Groups: slices.Clone(groups)}
	}
	return &syscall.ProcAttr{Dir: p.cwd, Env: p.env, Files: ends.child[:], Sys: sys}
}

func startError(p *plan, err error) error {
	code := connectrpc.InvalidArgument
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		code = connectrpc.ResourceExhausted
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		code = connectrpc.PermissionDenied
	}
	return connectrpc.Errorf(code, "error starting process '%s': fork/exec %s: %v", p.config.Cmd, p.path, err)
}
