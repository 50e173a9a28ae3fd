package server

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// headerTimeout bounds how long a connection may take to say what it wants. Bodies and answers have no limit.
const headerTimeout = 30 * time.Second

// Serve listens until a SIGTERM. On SIGHUP it opens its port anew and keeps the connections it has: the host's
// way to wake a listener that went deaf in a restore (gVisor issue 13920).
func Serve(port int, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	failed := make(chan error, 1)
	listener, err := listen(port)
	if err != nil {
		return err
	}
	for {
		go serve(server, listener, failed)
		select {
		case err := <-failed:
			return err
		case got := <-signals:
			if got != syscall.SIGHUP {
				return server.Close()
			}
			log.Print("SIGHUP: listening anew")
			_ = listener.Close()
			if listener, err = listen(port); err != nil {
				return err
			}
		}
	}
}

func listen(port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("", strconv.Itoa(port)))
}

func serve(server *http.Server, listener net.Listener, failed chan<- error) {
	err := server.Serve(listener)
	if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		failed <- err
	}
}
