// Package tunnel lets the host's front door reach services that listen on 127.0.0.1 only:
// GET /tunnel?port=N with "Upgrade: atoll-tunnel" becomes a raw connection to that port.
package tunnel

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"atoll.dev/envd/internal/reply"
)

const (
	protocol    = "atoll-tunnel"
	dialTimeout = 5 * time.Second
)

// Serve answers the route: 101 and then bytes, or 502 when nothing listens there.
func Serve(w http.ResponseWriter, r *http.Request) {
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		reply.Error(w, reply.Failf(http.StatusBadRequest, "port must be 1 to 65535"))
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), protocol) {
		reply.Error(w, reply.Failf(http.StatusUpgradeRequired, "send Upgrade: %s", protocol))
		return
	}
	service, err := dial(strconv.FormatUint(port, 10))
	if err != nil {
		reply.Error(w, reply.Failf(http.StatusBadGateway, "nothing listens on port %d inside", port))
		return
	}
	defer service.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		reply.Error(w, reply.Failf(http.StatusInternalServerError, "%v", err))
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"); err != nil {
		return
	}
	splice(client, buffered, service)
}

func dial(port string) (net.Conn, error) {
	var failed error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), dialTimeout)
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// splice copies both ways; the end of one direction is passed on and leaves the other open.
func splice(client net.Conn, fromClient io.Reader, service net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(service, fromClient); closeWrite(service) })
	both.Go(func() { _, _ = io.Copy(client, service); closeWrite(client) })
	both.Wait()
}

func closeWrite(conn net.Conn) {
	if half, ok := conn.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}
