package control

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// The fake systemctl shows the file UNIT, or UNIT.PROPERTY, and runs the script
// UNIT.start, UNIT.stop or UNIT.reset-failed.
const fakeSystemctl = `cmd=$1; property=
while [ "$1" != -- ]; do case $1 in --property=*) property=${1#*=};; --value) value=1;; esac; shift; done; shift
for unit; do
	if [ "$value" ]; then cat "$FAKE/$unit.$property" 2>/dev/null; echo; continue; fi
	case $cmd in
	show) echo "Id=$unit"; cat "$FAKE/$unit" 2>/dev/null || printf 'LoadState=not-found\nActiveState=inactive\nSubState=dead\nInvocationID=\nActiveEnterTimestampMonotonic=0\n'; echo ;;
	*) [ ! -e "$FAKE/$unit.$cmd" ] || . "$FAKE/$unit.$cmd" ;;
	esac
done
`

const (
	running  = "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=42\nInvocationID=cafe\nActiveEnterTimestampMonotonic=100\nControlGroup=/system.slice/oc.service\nResult=success\n"
	dead     = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nMainPID=0\nInvocationID=cafe\nActiveEnterTimestampMonotonic=100\nControlGroup=\nResult=success\n"
	failed   = "LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\nInvocationID=cafe\nActiveEnterTimestampMonotonic=100\nControlGroup=\nResult=exit-code\n"
	timedout = "LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\nInvocationID=cafe\nActiveEnterTimestampMonotonic=100\nControlGroup=\nResult=timeout\n"
)

// units starts a fake systemd, with control groups below the fake's directory.
func units(t *testing.T) *fake {
	f := newFake(t)
	f.program("systemctl", fakeSystemctl)
	roots := cgroupRoots
	cgroupRoots = []string{filepath.Join(f.dir, "cgroup"), filepath.Join(f.dir, "cgroup/systemd")}
	t.Cleanup(func() { cgroupRoots = roots })
	// What scripts make of a unit.
	f.put("running", running)
	f.put("dead", dead)
	f.put("failed", failed)
	f.put("timedout", timedout)
	f.put("oc.stop", `cp "$FAKE/dead" "$FAKE/$unit"`)
	f.put("oc.start", `cp "$FAKE/running" "$FAKE/$unit"`)
	f.put("db.stop", `cp "$FAKE/dead" "$FAKE/$unit"`)
	f.put("db.start", `cp "$FAKE/running" "$FAKE/$unit"`)
	return f
}

func TestSystemdStatus(t *testing.T) {
	for _, tt := range []struct {
		name, unit string
		want       State
		detail     string
	}{
		{"running", running, Running, "active (running)"},
		{"stopped", dead, Stopped, "inactive (dead)"},
		{"failed", failed, Stopped, "failed (failed), exit-code"},
		{"starting again", strings.NewReplacer("active", "activating", "running", "auto-restart").Replace(running), Changing, "activating (auto-restart)"},
		{"stopping", strings.NewReplacer("active", "deactivating", "running", "stop-sigterm").Replace(running), Changing, "deactivating (stop-sigterm)"},
		{"masked", strings.Replace(dead, "loaded", "masked", 1), Absent, "masked, inactive (dead)"},
		{"running and masked", strings.Replace(running, "loaded", "masked", 1), Running, "masked, active (running)"},
		{"missing", "", Absent, "not-found, inactive (dead)"},
		{"broken unit file", strings.Replace(dead, "loaded", "bad-setting", 1), Absent, "bad-setting, inactive (dead)"},
		{"processes left", strings.Replace(dead, "ControlGroup=", "ControlGroup=/left", 1), Changing, "inactive (dead), processes left: 7, 8, 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := units(t)
			f.put("cgroup/left/cgroup.procs", "7\n")
			f.put("cgroup/left/below/cgroup.procs", "8\n")
			f.put("cgroup/systemd/left/cgroup.procs", "8\n9\n") // v1
			if tt.unit != "" {
				f.put("oc", tt.unit)
			}
			st, err := must(t, Config{Type: "systemd", Unit: "oc"}).Status(t.Context())
			if err != nil || st.State != tt.want || st.Detail != tt.detail {
				t.Fatalf("%+v, %v, want %s, %s", st, err, tt.want, tt.detail)
			}
			if wantPID := map[bool]int{true: 42}[strings.Contains(tt.unit, "MainPID=42")]; st.PID != wantPID {
				t.Errorf("PID %d, want %d", st.PID, wantPID)
			}
			if wantStamp := map[bool]string{true: "cafe@100"}[tt.unit != ""]; st.Stamp != wantStamp {
				t.Errorf("stamp %q, want %q", st.Stamp, wantStamp)
			}
		})
	}
}

func TestSystemdStopsAndStartsInOrder(t *testing.T) {
	f := units(t)
	f.put("oc", running)
	f.put("db", running)
	f.put("cron", dead)
	c := must(t, Config{Type: "systemd", Unit: "oc", AlsoStop: []string{"db", "cron"}})
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "also", st.Also, []string{"db"})
	for range 2 {
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := c.Start(t.Context(), st.Also); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "calls", f.calls("systemctl st"), []string{
		"systemctl stop --no-ask-password -- db", "systemctl stop --no-ask-password -- oc",
		"systemctl start --no-ask-password -- oc", "systemctl start --no-ask-password -- db",
	})
}

// What systemd stops along with the unit is stopped first, and can be started again.
func TestSystemdDependents(t *testing.T) {
	f := units(t)
	f.put("oc", running+"RequiredBy=web.service multi-user.target idle.service ocbackup-x-backup.service\nConsistsOf=app.socket srv-data.mount\n")
	f.put("web.service", running+"BoundBy=proxy.service oc\n")
	f.put("idle.service", dead+"BoundBy=never-asked.service\n")
	f.put("multi-user.target", running+"ConsistsOf=job.timer\n")
	for _, name := range []string{"app.socket", "srv-data.mount", "proxy.service", "job.timer", "ocbackup-x-backup.service"} {
		f.put(name, running)
	}
	want := []string{"web.service", "app.socket", "proxy.service", "job.timer"}
	for _, name := range want {
		f.put(name+".stop", `cp "$FAKE/dead" "$FAKE/$unit"`)
	}
	c := must(t, Config{Type: "systemd", Unit: "oc"})
	equal(t, "also", status(t, c, Running).Also, want)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "stops", f.calls("systemctl stop"), []string{
		"systemctl stop --no-ask-password -- job.timer", "systemctl stop --no-ask-password -- proxy.service",
		"systemctl stop --no-ask-password -- app.socket", "systemctl stop --no-ask-password -- web.service",
		"systemctl stop --no-ask-password -- oc",
	})
	if also := status(t, c, Stopped).Also; len(also) > 0 {
		t.Errorf("also %q of a stopped unit", also)
	}

	f.put("oc", running+"RequiredBy=web.service\n")
	f.put("web.service", strings.Replace(running, "loaded", "masked", 1))
	if err := c.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "web.service") {
		t.Errorf("a dependent that could not be started again: %v", err)
	}
}

func TestStartedSince(t *testing.T) {
	for _, tt := range []struct {
		before, now string
		want        bool
	}{{"", "", false}, {"a", "a", false}, {"a", "b", true}, {"", "a", true}, {"a", "", false}} {
		if got := (Status{Stamp: tt.now}).StartedSince(Status{Stamp: tt.before}); got != tt.want {
			t.Errorf("from %q to %q: %v", tt.before, tt.now, got)
		}
	}
}

func TestSystemdStopWaitsForTheLastProcess(t *testing.T) {
	f := units(t)
	f.put("oc", running)
	f.put("cgroup/system.slice/oc.service/worker/cgroup.procs", "4711\n")
	f.put("oc.stop", `cp "$FAKE/dead" "$FAKE/oc"
(while [ "$(grep -c 'systemctl show' "$FAKE/calls")" -lt 4 ]; do sleep 0.02; done; rm -r "$FAKE/cgroup") >/dev/null 2>&1 &`)
	if err := must(t, Config{Type: "systemd", Unit: "oc"}).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := cgroupProcesses("/system.slice/oc.service"); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
}

func TestSystemdStopFails(t *testing.T) {
	for _, tt := range []struct {
		name, unit, script, want string
		timeout                  bool
	}{
		{"too slow", running, "exec sleep 60", "systemd unit oc did not stop within 500ms (last state: active (running))", true},
		{"a process stays", strings.Replace(running, "system.slice/oc.service", "left", 1), `cp "$FAKE/dead" "$FAKE/oc"`, "inactive (dead), processes left: 7)", true},
		{"killed", running, `cp "$FAKE/timedout" "$FAKE/oc"`, "did not end when told to and was killed (failed (failed), timeout; see its TimeoutStopSec=)", false},
		{"refused", running, "echo Access denied >&2; exit 4", "Access denied", false},
		{"masked", strings.Replace(running, "loaded", "masked", 1), `cp "$FAKE/dead" "$FAKE/oc"`, "it could not be started again", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := units(t)
			f.put("oc", tt.unit)
			f.put("oc.stop", tt.script)
			f.put("cgroup/left/cgroup.procs", "7\n")
			err := must(t, Config{Type: "systemd", Unit: "oc", StopTimeout: 500 * time.Millisecond}).Stop(t.Context())
			var timeout *TimeoutError
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.As(err, &timeout) != tt.timeout {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if tt.name == "masked" && len(f.calls("systemctl stop")) > 0 {
				t.Error("it was stopped, and nobody can start it again")
			}
		})
	}
}

func TestSystemdStartFails(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"ends at once", `cp "$FAKE/failed" "$FAKE/oc"`, "it ended right away: failed (failed), exit-code"},
		{"refused", "echo Unit oc.service is masked. >&2; exit 1", "is masked"},
		{"too slow", "exec sleep 60", "systemd unit oc did not start within 500ms (last state: failed (failed), exit-code)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := units(t)
			f.put("oc", failed)
			f.put("db", dead)
			f.put("oc.start", tt.script)
			c := must(t, Config{Type: "systemd", Unit: "oc", AlsoStop: []string{"db"}, StartTimeout: 500 * time.Millisecond})
			err := c.Start(t.Context(), []string{"db"})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if _, _, hint := fail.Details(err); tt.name != "too slow" && hint != "journalctl -n 50 -u oc" {
				t.Errorf("hint %q", hint)
			}
			equal(t, "calls", f.calls("reset-failed", "start"), []string{
				"systemctl reset-failed -- oc", "systemctl start --no-ask-password -- oc", "systemctl start --no-ask-password -- db",
			})
		})
	}
}

const showEnvironment = `env | grep ^OC_ | sort; echo "$HOME $(id -un) $*"`

func TestSystemdExecAsTheRunningServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to run as another user needs root")
	}
	f := units(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	// The unit starts it by a shell: its program is not that of ExecStart then.
	f.put("oc.ExecStart", "{ path=/srv/opencloud ; argv[]=/srv/opencloud server ; ignore_errors=no ; start_time=[n/a] }")
	server := exec.Command("setpriv", "--reuid", strconv.Itoa(uid), "--regid", nobody.Gid, "--clear-groups", "sh", "-c", "echo up; exec sleep 60")
	server.Env = []string{"OC_A=one two", "OC_B=line\nline", "HOME=/nowhere", "PATH=" + os.Getenv("PATH")}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	f.put("oc", strings.Replace(running, "MainPID=42", "MainPID="+strconv.Itoa(server.Process.Pid), 1))
	t.Setenv("OC_OWN", "must not be passed on")

	// The running program is "sleep" as soon as the shell has become that.
	for exe := ""; !strings.Contains(exe, "sleep") && !strings.Contains(exe, "coreutils"); {
		if exe, err = os.Readlink("/proc/" + strconv.Itoa(server.Process.Pid) + "/exe"); err != nil {
			t.Fatal(err)
		}
	}
	text, err := must(t, Config{Type: "systemd", Unit: "oc"}).Exec(t.Context(), "--version")
	if err != nil || !strings.HasPrefix(text, "sleep (GNU coreutils)") {
		t.Errorf("%q, %v", text, err)
	}
	cmd, err := asProcess(server.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Credential == nil || int(cmd.Credential.Uid) != uid || len(cmd.Credential.Groups) != 0 {
		t.Errorf("credential %+v", cmd.Credential)
	}
	for _, v := range server.Env {
		if !slices.Contains(cmd.Env, v) {
			t.Errorf("%q is not in the environment %q", v, cmd.Env)
		}
	}
}

func TestSystemdExecOfAStoppedUnit(t *testing.T) {
	f := units(t)
	f.put("opencloud", "#!/bin/sh\n"+showEnvironment)
	if err := os.Chmod(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f.put("oc", dead)
	f.put("oc.ExecStart", "{ path="+f.dir+"/opencloud ; argv[]="+f.dir+"/opencloud server ; ignore_errors=no ; start_time=[n/a] }")
	f.put("oc.Environment", `OC_A=plain "OC_B=two words" "OC_C=say \"hi\" \$x" OC_D=old`)
	f.put("env", "OC_D=new\nOC_E='single'\n")
	f.put("oc.EnvironmentFiles", "/no/such (ignore_errors=yes)\n"+f.dir+"/en? (ignore_errors=no)")
	t.Setenv("OC_OWN", "must not be passed on")
	c := must(t, Config{Type: "systemd", Unit: "oc"})
	want := "OC_A=plain\nOC_B=two words\nOC_C=say \"hi\" $x\nOC_D=new\nOC_E=single\n"
	if out, err := c.Exec(t.Context(), "version"); err != nil || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, " version\n") {
		t.Errorf("%q, %v, want %q", out, err, want)
	}

	f.put("oc.EnvironmentFiles", "/no/such (ignore_errors=no)")
	if _, err := c.Exec(t.Context(), "version"); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("missing environment file: %v", err)
	}
	f.put("oc.User", "no-such-user")
	if _, err := c.Exec(t.Context(), "version"); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("missing user: %v", err)
	}
	f.put("oc.ExecStart", "{ path=/bin/sh ; argv[]=/bin/sh -c opencloud server ; ignore_errors=no ; start_time=[n/a] }")
	if _, err := c.Exec(t.Context(), "version"); err == nil || !strings.Contains(err.Error(), "known only while it runs") {
		t.Errorf("started by a shell: %v", err)
	}
}

func TestSystemdUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to run as another user needs root")
	}
	f := units(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	f.put("oc", dead)
	f.put("oc.ExecStart", "{ path=/usr/bin/id ; argv[]=/usr/bin/id ; ignore_errors=no ; start_time=[n/a] }")
	for _, tt := range []struct{ user, group, want string }{
		{"nobody", "", nobody.Uid + ":" + nobody.Gid},
		{"nobody", "daemon", nobody.Uid + ":1"},
		{nobody.Uid, "1", nobody.Uid + ":1"},
		{"", "daemon", "0:1"},
		{"", "", "0:0"},
	} {
		f.put("oc.User", tt.user)
		f.put("oc.Group", tt.group)
		c := must(t, Config{Type: "systemd", Unit: "oc"})
		uid, err := c.Exec(t.Context(), "-u")
		gid, err2 := c.Exec(t.Context(), "-g")
		if got := strings.TrimSpace(uid) + ":" + strings.TrimSpace(gid); errors.Join(err, err2) != nil || got != tt.want {
			t.Errorf("User=%s Group=%s: %s, want %s (%v, %v)", tt.user, tt.group, got, tt.want, err, err2)
		}
	}
}

// systemd goes on stopping when nobody waits for it any more.
func TestSystemdStopIsSeenThrough(t *testing.T) {
	f := units(t)
	f.put("db", running)
	f.put("oc", running)
	f.put("db.stop", `touch "$FAKE/stopping"; while [ ! -e "$FAKE/go" ]; do sleep 0.02; done; cp "$FAKE/dead" "$FAKE/db"`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(f.dir, "stopping")); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		f.put("go", "")
	}()
	c := must(t, Config{Type: "systemd", Unit: "oc", AlsoStop: []string{"db"}})
	if err := c.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	// What had begun is done; what had not is not begun.
	if st := status(t, c, Running); len(st.Also) != 0 {
		t.Errorf("status %+v", st)
	}
}
