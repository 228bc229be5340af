//go:build integration

package systemd

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

const (
	name       = "cloud.test" // of the instance
	stateDir   = "/var/lib/ocbackup/" + name
	configFile = "/etc/ocbackup/ocbackup.toml"
	repository = "/srv/backup"
	unit       = "opencloud.service"

	backupUnit   = "ocbackup-" + name + "-backup.service"
	backupTimer  = "ocbackup-" + name + "-backup.timer"
	checkUnit    = "ocbackup-" + name + "-check.service"
	checkTimer   = "ocbackup-" + name + "-check.timer"
	recoverUnit  = "ocbackup-" + name + "-recover.service"
	backupDropIn = "/run/systemd/system/" + backupUnit + ".d/test.conf"
)

var ctx = context.Background()

// host is a machine with an instance on it.
type host struct {
	*env.Machine
	bucket []string // the server's settings that lead to its bucket; nil without one
}

// newHost boots a machine with an instance on a recorded tree, for which "ocbackup
// init" has been run.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{Machine: env.Nspawn(t)}
	h.install(t, "opencloud-4.0-posix")
	h.Must(t, "ocbackup", "init", "--systemd", unit, "--name", name, "--repository", repository)
	return h
}

// binary is the server's: one that a restore can replace, as a mount point can't be.
const binary = "/usr/local/bin/opencloud"

// install installs the instance on a recorded tree and starts it.
func (h *host) install(t *testing.T, fixture string) {
	t.Helper()
	h.Must(t, "cp", "/usr/bin/opencloud", binary)
	h.WriteFile(t, "/etc/systemd/system/opencloud.service.d/binary.conf", "[Service]\nExecStart=\nExecStart="+binary+" server\n", 0o644)
	h.OpenCloud(t, fixture, append([]string{"STANDIN_INTERVAL=50ms"}, h.bucket...)...)
}

// schedule installs ocbackup's units.
func (h *host) schedule(t *testing.T) {
	t.Helper()
	h.Must(t, "ocbackup", "schedule", "install")
}

// wants checks how a command ended, and that it says all of these.
func wants(t *testing.T, r env.Result, code int, says ...string) {
	t.Helper()
	if r.Code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	for _, s := range says {
		if !strings.Contains(r.Stdout+r.Stderr, s) {
			t.Errorf("it does not say %q:\n%s%s", s, r.Stdout, r.Stderr)
		}
	}
}

// backup makes a backup that has to succeed, by hand, and returns the set's id.
func (h *host) backup(t *testing.T) string {
	t.Helper()
	out := h.Must(t, "ocbackup", "--json", "backup")
	var res struct{ Set string }
	if err := json.Unmarshal([]byte(out), &res); err != nil || res.Set == "" {
		t.Fatalf("no set in the result (%v): %s", err, out)
	}
	return res.Set
}

// sets are the committed sets, oldest first.
func (h *host) sets(t *testing.T) (ids []string) {
	t.Helper()
	var list struct{ Sets []struct{ Set string } }
	out := h.Must(t, "ocbackup", "--json", "list")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range list.Sets {
		ids = append(ids, s.Set)
	}
	return ids
}

// runBackupUnit starts ocbackup's unit and waits until it has ended: true when
// systemd calls that a success.
func (h *host) runBackupUnit(t *testing.T) bool {
	t.Helper()
	return h.Run(t, "systemctl", "start", backupUnit).Code == 0
}

// property is a property of a unit.
func (h *host) property(t *testing.T, unit, property string) string {
	t.Helper()
	return h.Must(t, "systemctl", "show", "--value", "--property="+property, unit)
}

// journal is what a unit wrote last.
func (h *host) journal(t *testing.T, unit string) string {
	t.Helper()
	return h.Run(t, "journalctl", "--no-pager", "--output=cat", "-n", "60", "-u", unit).Stdout
}

// fault has the backup unit run into a fault: a shell script, or another action of
// package fault. The unit's sandbox holds for the script, too.
func (h *host) fault(t *testing.T, point, action string) {
	t.Helper()
	if script, ok := strings.CutPrefix(action, "exec:"); ok {
		action = "exec:" + h.script(t, script)
	}
	h.WriteFile(t, backupDropIn, "[Service]\nEnvironment=\"OCBACKUP_FAULT="+point+"="+action+"\"\n", 0o644)
	h.Must(t, "systemctl", "daemon-reload")
}

func (h *host) noFault(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(h.Path(backupDropIn)); err != nil {
		t.Fatal(err)
	}
	h.Must(t, "systemctl", "daemon-reload")
}

// script writes the script of a fault and returns its path.
func (h *host) script(t *testing.T, text string) string {
	t.Helper()
	const path = "/usr/local/bin/fault"
	h.WriteFile(t, path, "#!/bin/sh\n"+text+"\n", 0o755)
	return path
}

// exists tells whether there is such a file.
func (h *host) exists(path string) bool {
	_, err := os.Lstat(h.Path(path))
	return err == nil
}

// count counts an event of the server's.
func (h *host) count(t *testing.T, event string) (n int) {
	t.Helper()
	for _, e := range h.Events(t) {
		if e == event {
			n++
		}
	}
	return n
}

// awaitReady waits until the server has been ready more often than before.
func (h *host) awaitReady(t *testing.T, before int) {
	t.Helper()
	env.Eventually(t, 60*time.Second, "OpenCloud is ready", func() bool { return h.count(t, "ready") > before })
}

// get asks the server for a page and returns the status code; "000" without an answer.
func (h *host) get(path string, curl ...string) string {
	pid := strings.Split(h.Path("/"), "/")[2]
	args := append([]string{"-t", pid, "--net", "--", "curl", "-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"}, curl...)
	return env.Exec(ctx, nil, "nsenter", append(args, "https://127.0.0.1:9200"+path)...).Stdout
}

// running asserts that the instance runs, that people can log in, and that there
// is nothing left of a run that would have to bring it back.
func (h *host) running(t *testing.T) {
	t.Helper()
	if s := h.property(t, unit, "ActiveState"); s != "active" {
		t.Fatalf("%s is %s\n%s", unit, s, h.journal(t, unit))
	}
	if code := h.get("/graph/v1.0/me/drives", "-u", "admin:admin"); code != "200" {
		t.Fatalf("a log-in is answered with %s", code)
	}
	if h.exists(stateDir + "/journal.json") {
		t.Fatalf("a journal is left: %s", h.ReadFile(t, stateDir+"/journal.json"))
	}
}

// good asserts that the instance runs, that the next backup is good, and that what
// it holds is consistent and complete.
func (h *host) good(t *testing.T) {
	t.Helper()
	h.running(t)
	id := h.backup(t)
	h.running(t)
	h.goodSet(t, id)
}

// goodSet asserts that the newest set is this one, and that nothing of it is lost or
// inconsistent.
func (h *host) goodSet(t *testing.T, id string) {
	t.Helper()
	if sets := h.sets(t); len(sets) == 0 || sets[len(sets)-1] != id {
		t.Fatalf("set %s is not the newest of %v", id, sets)
	}
	dir := "/srv/copy-" + id
	wants(t, h.Run(t, "ocbackup", "restore", "--target", dir, id), 0)
	wants(t, h.check(t, dir), 0)
	if err := os.RemoveAll(h.Path(dir)); err != nil {
		t.Fatal(err)
	}
}

// check has the stand-in check the copy of the instance below dir: 0 consistent, 1
// not, 3 attributes lost.
func (h *host) check(t *testing.T, dir string) env.Result {
	t.Helper()
	command := []string{"env", "OC_CONFIG_DIR=" + dir + "/etc/opencloud", "OC_BASE_DATA_PATH=" + dir + "/var/lib/opencloud"}
	if h.bucket != nil {
		command = append(append(command, "STORAGE_USERS_DRIVER=decomposeds3"), h.bucket...)
	}
	command = append(command, "opencloud", "check")
	if h.bucket != nil && dir != "" {
		command = append(command, dir+"/bucket") // the copy's objects, not those of now
	}
	return h.Run(t, command...)
}

// marks are files in several roots, by which a test sees which data is in place.
var marks = []string{"/etc/opencloud/mark", "/var/lib/opencloud/nats/mark", "/var/lib/opencloud/storage/users/mark"}

func (h *host) mark(t *testing.T, text string) {
	t.Helper()
	for _, m := range marks {
		h.WriteFile(t, m, text, 0o644)
	}
}

// marked is what all marks say: one text when they agree.
func (h *host) marked() string {
	var texts []string
	for _, m := range marks {
		b, _ := os.ReadFile(h.Path(m))
		if !slices.Contains(texts, string(b)) {
			texts = append(texts, string(b))
		}
	}
	return strings.Join(texts, " and ")
}
