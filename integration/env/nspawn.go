package env

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Machine is a small Debian with systemd as PID 1. What it writes stays with
// the test, through power loss and reboot, and never reaches the root it was
// made from. Its network has loopback only.
type Machine struct {
	dir    string // upper/, work/, root/ of its file system; log
	binds  []string
	daemon *daemon
	leader int // its PID 1, as seen from here
}

// Nspawn boots a machine that is gone when the test ends. The programs under
// test are at /usr/bin/ocbackup, /usr/bin/restic (0.18) and /usr/bin/opencloud
// (the stand-in); binds are more of the kind, as "/from/here:/to/there",
// read-only.
func Nspawn(t testing.TB, binds ...string) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		Need(t, errors.New("systemd-nspawn needs root"))
	}
	if _, err := os.Stat(Tools("nspawn-root/etc/ocbackup-tests")); err != nil {
		Need(t, fmt.Errorf("the machine's root is missing: run tools/nspawn.sh: %w", err))
	}
	dir, err := workDir("ocbackup-nspawn-")
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{dir: dir, binds: append([]string{
		Ocbackup(t) + ":/usr/bin/ocbackup",
		Restic(t, "0.18") + ":/usr/bin/restic",
		Standin(t) + ":/usr/bin/opencloud",
	}, binds...)}
	t.Cleanup(func() {
		m.Kill()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("the machine's console:\n%s", log[max(0, len(log)-4000):])
		}
		_ = os.RemoveAll(dir)
	})
	m.Boot(t)
	return m
}

// Boot starts the machine, or starts it again after Poweroff or Kill, and
// waits until systemd says that it is up.
func (m *Machine) Boot(t testing.TB) {
	t.Helper()
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close() }()
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()

	args := []string{
		"-c", `mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" && shift 2 && exec systemd-nspawn "$@"`,
		"sh", Tools("nspawn-root"), m.dir,
		"--directory=" + filepath.Join(m.dir, "root"), "--machine=" + filepath.Base(m.dir), "--boot",
		"--register=no", "--keep-unit", "--notify-ready=yes", "--console=pipe", "--private-network",
		"--link-journal=no", "--resolv-conf=off", "--timezone=off", "--quiet",
	}
	for _, b := range m.binds {
		args = append(args, "--bind-ro="+b)
	}
	args = append([]string{
		"-c", `n=$1; shift; for c in "$@"; do [ "$c" = -- ] && break; shift; mkdir -p "$c/$n" && echo $$ > "$c/$n/cgroup.procs"; done; shift; exec /bin/sh "$@"`,
		"sh", filepath.Base(m.dir),
	}, append(append(cgroups(), "--"), args...)...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "NOTIFY_SOCKET="+filepath.Join(m.dir, "notify"))
	cmd.Stdout, cmd.Stderr = log, log
	if m.daemon, err = startDaemon(cmd, syscall.SIGKILL, syscall.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if m.leader, err = waitNotified(notify, m.daemon.done, 2*time.Minute); err != nil {
		m.Kill()
		text, _ := os.ReadFile(log.Name())
		Need(t, fmt.Errorf("the machine does not boot: %w\n%s", err, text[max(0, len(text)-2000):]))
	}
}

// waitNotified waits for nspawn's word that the machine is up, and returns the
// machine's PID 1.
func waitNotified(notify *net.UnixConn, dead <-chan struct{}, timeout time.Duration) (leader int, err error) {
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		select {
		case <-dead:
			_ = notify.SetReadDeadline(time.Now())
		case <-finished:
		}
	}()
	if err := notify.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	ready := false
	buf := make([]byte, 4096)
	for leader == 0 || !ready {
		n, err := notify.Read(buf)
		if err != nil {
			return leader, err
		}
		for line := range bytes.Lines(buf[:n]) {
			key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
			switch key {
			case "X_NSPAWN_LEADER_PID":
				leader, _ = strconv.Atoi(value)
			case "READY":
				ready = value == "1"
			}
		}
	}
	_ = os.Remove(notify.LocalAddr().String())
	return leader, nil
}

// Kill is the loss of power: everything dies at once, nothing is told. What
// was written stays, synced or not, so it does not test for missing fsyncs.
func (m *Machine) Kill() {
	if m.daemon == nil {
		return
	}
	if m.leader > 0 {
		_ = syscall.Kill(m.leader, syscall.SIGKILL)
	}
	m.daemon.stop(syscall.SIGKILL, time.Second)
	m.daemon, m.leader = nil, 0
	for _, c := range cgroups() {
		dir := filepath.Join(c, filepath.Base(m.dir))
		// They can be removed once the last process has been reaped.
		for range 200 {
			removeCgroups(dir)
			if _, err := os.Stat(dir); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// cgroups are the hierarchies in which each machine gets a group of its own. Two
// machines in one would take each other's units for their own.
func cgroups() (mounted []string) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			mounted = append(mounted, dir)
		}
	}
	return mounted
}

// removeCgroups removes a control group and those below it, which are empty. Of the
// files in them none can be removed, nor needs to be.
func removeCgroups(dir string) {
	below, _ := os.ReadDir(dir)
	for _, d := range below {
		if d.IsDir() {
			removeCgroups(filepath.Join(dir, d.Name()))
		}
	}
	_ = os.Remove(dir)
}

// Poweroff shuts the machine down in order, as an admin would.
func (m *Machine) Poweroff(t testing.TB) {
	t.Helper()
	m.Run(t, "systemctl", "poweroff")
	select {
	case <-m.daemon.done:
	case <-time.After(2 * time.Minute):
		t.Error("the machine does not shut down")
	}
	m.Kill()
}

// Command is a command in the machine, outside of any unit.
func (m *Machine) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.leader), "-a", "--wd=/", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	return cmd
}

// Run runs a command in the machine to its end.
func (m *Machine) Run(t testing.TB, args ...string) Result {
	t.Helper()
	return result(m.Command(t.Context(), args...))
}

// Must is the trimmed output of a command in the machine that has to work.
func (m *Machine) Must(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSpace(must(t, m.Run(t, args...), args...))
}

// Path is a path of the running machine as it is reached from here.
func (m *Machine) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.leader), "root", path)
}

// WriteFile writes a file in the machine, and the directories above it.
func (m *Machine) WriteFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(path), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.Path(path), mode); err != nil {
		t.Fatal(err)
	}
}

// ReadFile reads a file in the machine.
func (m *Machine) ReadFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(m.Path(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// OpenCloud installs the stand-in as opencloud.service, with its environment in
// /etc/opencloud.env and its data in /var/lib/opencloud, on a recorded tree or,
// with fixture "", on a fresh one; enables it, starts it and waits until it is
// ready. More environment lines can be given: the driver decomposeds3 needs those of a
// ServerBucket, which Expose makes known to the machine.
func (m *Machine) OpenCloud(t testing.TB, fixture string, env ...string) {
	t.Helper()
	driver := "posix"
	if i := strings.LastIndexByte(fixture, '-'); i >= 0 {
		driver = fixture[i+1:]
	}
	lines := append([]string{
		"OC_CONFIG_DIR=/etc/opencloud", "OC_BASE_DATA_PATH=/var/lib/opencloud",
		"STORAGE_USERS_DRIVER=" + driver, "STANDIN_EVENTS=/var/log/opencloud-events",
	}, env...)
	m.WriteFile(t, "/etc/opencloud.env", strings.Join(lines, "\n")+"\n", 0o600)
	m.WriteFile(t, "/etc/systemd/system/opencloud.service", `[Unit]
Description=OpenCloud (stand-in)

[Service]
EnvironmentFile=/etc/opencloud.env
ExecStart=/usr/bin/opencloud server
TimeoutStopSec=30

[Install]
WantedBy=multi-user.target
`, 0o644)
	if fixture == "" {
		m.Must(t, "env", "OC_CONFIG_DIR=/etc/opencloud", "opencloud", "init")
	} else {
		ExtractFixture(t, fixture, m.Path("/srv"))
		m.Must(t, "mv", "-T", "/srv/config", "/etc/opencloud")
		m.Must(t, "mv", "-T", "/srv/data", "/var/lib/opencloud")
	}
	m.Must(t, "systemctl", "daemon-reload")
	m.Must(t, "systemctl", "enable", "--now", "opencloud.service")
	Eventually(t, 20*time.Second, "opencloud.service ready", func() bool {
		events := m.Events(t)
		return len(events) > 0 && events[len(events)-1] == "ready"
	})
}

// Events are what the stand-in did so far: "start", "ready", "stop", ...
func (m *Machine) Events(t testing.TB) []string {
	t.Helper()
	f, err := os.Open(m.Path("/var/log/opencloud-events"))
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var events []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if part := strings.Fields(s.Text()); len(part) == 3 {
			events = append(events, part[1])
		}
	}
	return events
}

// WaitUnit waits until a unit is in one of the given active states ("active",
// "inactive", "failed"), told by systemd and not by asking again and again. A
// unit that is in that state already ends the wait at once: a test that waits
// for a run that it has not started itself waits for its traces instead.
func (m *Machine) WaitUnit(t testing.TB, unit string, timeout time.Duration, states ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	state, err := m.waitUnit(ctx, unit, states)
	if err != nil {
		t.Fatalf("%s is %q, not %s: %v\n%s", unit, state, strings.Join(states, " or "), err,
			m.Run(t, "journalctl", "--no-pager", "-n", "40", "-u", unit).Stdout)
	}
}

func (m *Machine) waitUnit(ctx context.Context, unit string, states []string) (state string, err error) {
	conn, err := dbus.Connect("unix:path="+m.Path("/run/dbus/system_bus_socket"), dbus.WithContext(ctx))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	const name, iface = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Unit"
	manager := conn.Object(name, "/org/freedesktop/systemd1")
	if err := manager.CallWithContext(ctx, name+".Manager.Subscribe", 0).Err; err != nil {
		return "", err
	}
	var path dbus.ObjectPath
	if err := manager.CallWithContext(ctx, name+".Manager.LoadUnit", 0, unit).Store(&path); err != nil {
		return "", err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchObjectPath(path), dbus.WithMatchMember("PropertiesChanged")); err != nil {
		return "", err
	}
	for {
		var v dbus.Variant
		if err := conn.Object(name, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, "ActiveState").Store(&v); err != nil {
			return state, err
		}
		state, _ = v.Value().(string)
		for _, want := range states {
			if state == want {
				return state, nil
			}
		}
		select {
		case <-signals:
		case <-ctx.Done():
			return state, ctx.Err()
		}
	}
}
