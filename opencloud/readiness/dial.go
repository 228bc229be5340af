package readiness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds the set-up of one connection.
const dialTimeout = 5 * time.Second

// dialFunc opens a TCP connection to host:port.
type dialFunc func(ctx context.Context, addr string) (net.Conn, error)

// dialer returns how the instance is reached: from here, or inside the network
// namespace of its main process.
func dialer(cfg Config, pid int) dialFunc {
	d := &net.Dialer{Timeout: dialTimeout}
	if !cfg.InContainer {
		return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if pid <= 0 {
			return nil, errors.New("the instance has no main process on this host")
		}
		return dialInside(ctx, d, pid, addr)
	}
}

// dialInside opens a connection in the network namespace of process pid. A socket
// stays in the namespace in which it was made, so only the dialling has to be done
// there. addr must be an IP address and a port: to resolve a name, other threads
// would be used, which are not in the namespace.
func dialInside(ctx context.Context, d *net.Dialer, pid int, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("%s: inside a container's network an IP address is needed", addr)
	}
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network of process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(ns) }()

	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- result{err: fmt.Errorf("own network: %w", err)}
			return
		}
		defer func() { _ = unix.Close(own) }()
		var r result
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			r.err = fmt.Errorf("enter the network of process %d: %w", pid, err)
		} else {
			r.conn, r.err = d.DialContext(ctx, "tcp", addr)
		}
		// A thread that can't be brought back stays locked to this goroutine, and ends with it.
		if unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- r
	}()
	r := <-done
	return r.conn, r.err
}

// reachable turns an address to listen on into one to connect to: "any address" is
// this host. So is the name localhost, which must not be resolved in a container.
func reachable(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	switch host {
	case "", "0.0.0.0", "::", "localhost":
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// isLoopback tells whether addr, host:port, is this host itself.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// cause is what is behind an error of the network, without the addresses, of which
// one is another each time.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}
