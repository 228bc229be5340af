package control

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// says checks what Starter has found out.
func says(t *testing.T, got string, want []string, not ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("it does not say %q:\n%s", w, got)
		}
	}
	for _, n := range not {
		if strings.Contains(got, n) {
			t.Errorf("it says %q:\n%s", n, got)
		}
	}
}

func TestSystemdStarter(t *testing.T) {
	since := time.Now()
	now, before := monotonic(since.Add(time.Second)), monotonic(since.Add(-time.Minute))
	began := func(at int64) string {
		return fmt.Sprintf("InactiveExitTimestampMonotonic=%d\nInactiveExitTimestamp=Mon 03:12:07\nNRestarts=0\nRestart=on-failure\n", at)
	}
	for _, row := range []struct {
		name, unit string
		want, not  []string
	}{
		{
			"by somebody", running + began(now),
			[]string{"systemd was told to start oc, Mon 03:12:07 (process 42)", "journal: Started oc.", "journal: sudo[7]: bob, systemctl"},
			[]string{"by itself", "sudo[8]"},
		},
		{
			"by itself", running + strings.Replace(began(now), "NRestarts=0", "NRestarts=3", 1),
			[]string{"systemd started oc again by itself (Restart=on-failure, 3 times so far), Mon 03:12:07"},
			[]string{"told"},
		},
		{
			"by other units", running + began(now) + "TriggeredBy=oc.socket idle.timer\nWantedBy=new.service old.service ocbackup-x.service\n",
			[]string{"these units start it by themselves: oc.socket\n", "these units were started since, and start it along: new.service\n"},
			[]string{"idle.timer", "old.service", "ocbackup-x"},
		},
		{"and it is stopped again", dead + began(now), []string{"systemd was told to start oc, Mon 03:12:07\n"}, []string{"process"}},
		{"not since", running + began(before), nil, []string{"oc"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := units(t)
			f.program("journalctl", `echo "Started oc."; echo "sudo[7]: bob : PASS=hunter22 ; COMMAND=systemctl start oc"; echo "sudo[8]: bob : COMMAND=pass hunter22"`)
			f.put("oc", row.unit)
			f.put("db", running+began(before))
			for name, text := range map[string]string{
				"oc.socket": running, "idle.timer": dead, "new.service": running + began(now), "old.service": running + began(before), "ocbackup-x.service": running + began(now),
			} {
				f.put(name, text)
			}
			c := must(t, Config{Type: "systemd", Unit: "oc", AlsoStop: []string{"db"}})
			says(t, Starter(t.Context(), c, nil, since), row.want, append(row.not, " db", "hunter22")...)
		})
	}
}

// A manager that hangs does not keep anybody waiting, nor the rest from being told.
func TestStarterIsBounded(t *testing.T) {
	f := units(t)
	f.program("systemctl", "exec sleep 60")
	lock, pid := holder(t)
	begun := time.Now()
	got := Starter(t.Context(), must(t, Config{Type: "systemd", Unit: "oc"}), []string{lock}, begun)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	says(t, got, []string{"process " + pid})
}

// holder is a process that locks a file, as a server does, and is started by a script with a secret.
func holder(t *testing.T) (lock, pid string) {
	t.Helper()
	lock = filepath.Join(t.TempDir(), "idm.boltdb")
	script := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(script, []byte("flock --exclusive --close "+lock+" sh -c 'echo $PPID; exec cat' password=hunter22; :\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", script, "hunter22")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	pid, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Skip("the test needs flock of util-linux: ", err)
	}
	return lock, strings.TrimSpace(pid)
}

func TestProcessStarter(t *testing.T) {
	lock, pid := holder(t)
	n, _ := strconv.Atoi(pid)
	sh, _ := readProcess(n)
	line := fmt.Sprintf("sh (%d) -> flock (%s)", sh.parent, pid)
	_, cfg := commands(t)
	for _, c := range []Controller{must(t, Config{Type: "none"}), must(t, cfg)} {
		got := Starter(t.Context(), c, []string{lock}, time.Now())
		says(t, got, []string{"process " + pid + " (flock) of user " + owner(os.Getpid()) + ", started at " + sh.started.Format(clock), line}, "hunter22", "password")
	}
	if got := Starter(t.Context(), must(t, cfg), []string{lock + "-free"}, time.Now()); got != "" {
		t.Errorf("there is nobody, and it says %s", got)
	}
	if got := plainWords(sh.parent); len(got) != 2 || got[0] != "sh" || filepath.Base(got[1]) != "watchdog" {
		t.Errorf("the words are %q", got)
	}

	// What the manager has told of is not told again; anybody else is.
	f := units(t)
	f.put("oc", strings.Replace(running, "MainPID=42", "MainPID="+strconv.Itoa(sh.parent), 1))
	c := must(t, Config{Type: "systemd", Unit: "oc"})
	says(t, Starter(t.Context(), c, []string{lock}, time.Now()), nil, "process")
	f.put("oc", running)
	says(t, Starter(t.Context(), c, []string{lock}, time.Now()), []string{line})
}

func TestDockerStarter(t *testing.T) {
	h := realDocker(t)
	server(t, h, "oc")
	server(t, h, "caretaker", "--volume", strings.TrimPrefix(h.Host, "unix://")+":/var/run/docker.sock")
	server(t, h, "other")
	c := must(t, Config{Type: "docker", Container: "oc", AlsoStop: []string{"other", "none"}, EngineHost: h.Host})
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	if got := Starter(t.Context(), c, nil, since); got != "" {
		t.Errorf("nobody has started it, and it says %s", got)
	}
	h.Docker(t, "start", "oc")
	image := h.Image(t, version)
	says(t, Starter(t.Context(), c, nil, since), []string{
		"docker was told to start container oc at ", "\nevents: start at ",
		"these containers have the engine's socket and may start others: caretaker (" + image + ")",
	}, "container other", "by itself", "dockerd", "made anew")

	// Of a restart of the engine one sees what is left.
	remove(h, "oc")
	server(t, h, "oc", "--restart", "always")
	got := Starter(t.Context(), c, nil, time.Now().Add(-time.Hour))
	says(t, got, []string{"made anew at ", "dockerd was started at ", "(always)"})
}

func TestDockerStarterRestartPolicy(t *testing.T) {
	h := realDocker(t)
	since := time.Now()
	h.Docker(t, "run", "--detach", "--name", "oc", "--network", "none", "--restart", "always", "--env", "STANDIN_FAIL_START=1", h.Image(t, version))
	t.Cleanup(func() { remove(h, "oc") })
	c := must(t, Config{Type: "docker", Container: "oc", EngineHost: h.Host})
	env.Eventually(t, 20*time.Second, "the restart is told of", func() bool {
		return strings.Contains(Starter(t.Context(), c, nil, since), "docker started container oc again by itself (restart policy always, ")
	})
}

func TestPodmanStarter(t *testing.T) {
	f := newFake(t)
	f.put("inspect", `[{"Id": "cafe", "Name": "oc", "State": {"Status": "running", "StartedAt": "`+time.Now().Format(time.RFC3339Nano)+`"},
		"Config": {"Labels": {"PODMAN_SYSTEMD_UNIT": "oc.service"}}, "HostConfig": {"RestartPolicy": {"Name": "always"}}}]`)
	f.program("podman", `case "$1" in container) cat "$FAKE/inspect" ;; events) echo "0 init"; echo "0 start" ;; esac`)
	c := must(t, Config{Type: "podman", Container: "oc"})
	got := Starter(t.Context(), c, nil, time.Now().Add(-time.Minute))
	says(t, got, []string{"podman was told to start container oc at ", "\nevents: start\n", "systemd unit oc.service runs this container"}, "dockerd", "init")
	if calls := f.calls("podman events"); len(calls) != 1 || !strings.Contains(calls[0], "--stream=false") {
		t.Errorf("it would wait for events: %q", calls)
	}
}
