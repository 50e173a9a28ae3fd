package connectrpc

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const defaultKeepalive = 90 * time.Second

// Call is what a request's headers say beside its message.
type Call struct {
	// Context ends when the client goes away.
	Context context.Context
	Header  http.Header
	// User is the account named by Basic authentication; empty when none is named.
	User string
	// Keepalive is the longest silence allowed on a stream.
	Keepalive time.Duration
	// Timeout is Connect-Timeout-Ms; zero means none was given.
	Timeout time.Duration
}

func newCall(r *http.Request) (*Call, *Error) {
	timeout, err := parseTimeout(r.Header.Get("Connect-Timeout-Ms"))
	if err != nil {
		return nil, err
	}
	user, _, _ := r.BasicAuth()
	return &Call{
		Context:   r.Context(),
		Header:    r.Header,
		User:      user,
		Keepalive: parseKeepalive(r.Header.Get("Keepalive-Ping-Interval")),
		Timeout:   timeout,
	}, nil
}

func parseKeepalive(value string) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || seconds <= 0 || seconds > 24*3600 {
		return defaultKeepalive
	}
	return time.Duration(seconds) * time.Second
}

// parseTimeout follows the Connect specification: at most ten digits of milliseconds.
func parseTimeout(value string) (time.Duration, *Error) {
	if value == "" {
		return 0, nil
	}
	ms, err := strconv.ParseUint(value, 10, 64)
	if err != nil || len(value) > 10 {
		return 0, Errorf(InvalidArgument, "Connect-Timeout-Ms must be milliseconds of at most ten digits, not %q", value)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// Stopped says why a call's context ended.
func Stopped(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return Errorf(DeadlineExceeded, "the call's time limit (Connect-Timeout-Ms) is over")
	}
	return Errorf(Canceled, "the client went away")
}
