package env

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Expose makes a server of this machine, an S3's or a Proxy's endpoint, known to the
// engine's containers: as http://NAME:PORT for one with NAME:host-gateway among its
// extra_hosts. It returns the port.
func (h *DockerHost) Expose(t testing.TB, endpoint string) (port string) {
	t.Helper()
	target := hostOf(t, endpoint)
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	expose(t, h.PID, net.JoinHostPort("0.0.0.0", port), target)
	return port
}

// Expose makes a server of this machine, an S3's or a Proxy's endpoint, known to m by
// the same URL, until m boots again.
func (m *Machine) Expose(t testing.TB, endpoint string) {
	t.Helper()
	target := hostOf(t, endpoint)
	expose(t, m.leader, target, target)
}

func hostOf(t testing.TB, endpoint string) string {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// expose listens in the network of another process, and passes on what comes to a
// server of this one's.
func expose(t testing.TB, pid int, addr, target string) {
	t.Helper()
	l, err := listenIn(pid, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go forward(in, target)
		}
	}()
}

// forward connects in to a server. A server that is down ends the connection.
func forward(in net.Conn, target string) {
	defer func() { _ = in.Close() }()
	out, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pipe(out, in)
	go pipe(in, out)
	<-done
}

// listenIn opens a socket in the network of another process. A socket belongs to the
// network in which it was opened, whichever thread uses it later.
func listenIn(pid int, addr string) (net.Listener, error) {
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = there.Close() }()
	type result struct {
		l   net.Listener
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this function
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			c <- result{err: errors.Join(errors.New("the other network can't be entered"), err)}
			return
		}
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", addr)
		c <- result{l, err}
	}()
	r := <-c
	return r.l, r.err
}
