package readiness

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The instance listens on loopback in a network of its own, as in a container.
func TestInContainer(t *testing.T) {
	pid := otherNetwork(t)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	f, c, l := newFake(t, listenInside(t, pid), listenInside(t, pid))
	if err := Check(t.Context(), c, l, pid); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("from outside: error %v", err)
	}
	c.InContainer = true
	for range 3 {
		if err := Check(t.Context(), c, l, pid); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.binds) != 9 {
		t.Errorf("%d binds, want 9", len(f.binds))
	}
	c.IDM = "idm:9235"
	if err := Check(t.Context(), c, l, pid); err == nil || !strings.Contains(err.Error(), "an IP address is needed") {
		t.Errorf("with a name: error %v", err)
	}

	// No thread was left behind in there.
	threads, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, thread := range threads {
		if ns, err := os.Readlink(thread); err == nil && ns != own {
			t.Errorf("%s is %s, not %s", thread, ns, own)
		}
	}
}

// otherNetwork starts a process in a network namespace of its own.
func otherNetwork(t *testing.T) (pid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	cmd := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("a network namespace needs unshare: ", err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Skip("no network namespace can be made here")
	}
	return cmd.Process.Pid
}

// listenInside listens on loopback in the network of a process.
func listenInside(t *testing.T, pid int) net.Listener {
	t.Helper()
	var l net.Listener
	var errs []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			errs = append(errs, err)
			return
		}
		defer func() { _ = own.Close() }()
		inside, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			errs = append(errs, err)
			return
		}
		defer func() { _ = inside.Close() }()
		errs = append(errs, unix.Setns(int(inside.Fd()), unix.CLONE_NEWNET))
		l, err = net.Listen("tcp", "127.0.0.1:0")
		errs = append(errs, err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
	}()
	<-done
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return l
}

func listenAt(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ownAddr is an address of this machine that is not loopback.
func ownAddr(t *testing.T) string {
	t.Helper()
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has loopback only")
	return ""
}
