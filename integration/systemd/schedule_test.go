//go:build integration

package systemd

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// The units are clean and tight, the timer fires, and the backup succeeds inside
// its sandbox, with the password by a credential.
func TestSchedule(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	wants(t, h.Run(t, "ocbackup", "schedule", "show"), 0)
	wants(t, h.Run(t, "ocbackup", "schedule", "install", "--backup", "now and then"), 2, "now and then")
	out := h.Must(t, "ocbackup", "schedule", "install", "--memory-max", "1G", "--cpu-quota", "150%", "--io-weight", "50")
	for _, u := range []string{backupUnit, backupTimer, recoverUnit, checkUnit, checkTimer} {
		if !strings.Contains(out, u) {
			t.Errorf("install does not name %s:\n%s", u, out)
		}
		if r := h.Run(t, "systemd-analyze", "verify", "--man=no", "/etc/systemd/system/"+u); r.Code != 0 || strings.TrimSpace(r.Stdout+r.Stderr) != "" {
			t.Errorf("systemd-analyze verify %s: exit code %d\n%s%s", u, r.Code, r.Stdout, r.Stderr)
		}
	}
	for _, u := range []string{backupUnit, recoverUnit, checkUnit} {
		r := h.Run(t, "systemd-analyze", "security", "--no-pager", u)
		m := regexp.MustCompile(`exposure level for \S+: ([0-9.]+) (\w+)`).FindStringSubmatch(r.Stdout)
		if m == nil {
			t.Fatalf("systemd-analyze security %s: %s%s", u, r.Stdout, r.Stderr)
		}
		if level, _ := strconv.ParseFloat(m[1], 64); level >= 5 || m[2] != "OK" {
			t.Errorf("the exposure of %s is %s %s", u, m[1], m[2])
		}
		t.Logf("%s: %s %s", u, m[1], m[2])
	}
	for _, u := range []string{backupTimer, checkTimer} {
		if got := h.Must(t, "systemctl", "is-enabled", u) + " " + h.Must(t, "systemctl", "is-active", u); got != "enabled active" {
			t.Errorf("%s is %s", u, got)
		}
	}

	// The password can be read by nobody but systemd and who it hands it to: the file
	// that the configuration names is hidden from the unit.
	h.WriteFile(t, backupDropIn, "[Service]\nInaccessiblePaths=/etc/ocbackup/password\nExecStartPre=/bin/sh -c \"! grep -q . /etc/ocbackup/password && ! touch /srv/elsewhere && ! touch /etc/opencloud/x\"\n", 0o644)
	before := h.property(t, backupUnit, "InvocationID")
	h.WriteFile(t, "/run/systemd/system/"+backupTimer+".d/soon.conf", "[Timer]\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms\n", 0o644)
	h.Must(t, "systemctl", "daemon-reload")
	h.Must(t, "systemctl", "restart", backupTimer)
	env.Eventually(t, 60*time.Second, "the timer has fired", func() bool { return h.property(t, backupUnit, "InvocationID") != before })
	h.WaitUnit(t, backupUnit, 60*time.Second, "inactive", "failed")
	if got := h.property(t, backupUnit, "Result"); got != "success" {
		t.Fatalf("the backup ended with %s\n%s", got, h.journal(t, backupUnit))
	}
	sets := h.sets(t)
	if len(sets) != 1 {
		t.Fatalf("the sets are %v\n%s", sets, h.journal(t, backupUnit))
	}
	h.running(t)
	h.goodSet(t, sets[0])

	// The check, in its sandbox.
	if r := h.Run(t, "systemctl", "start", checkUnit); r.Code != 0 {
		t.Errorf("the check failed: %s\n%s", r.Stderr, h.journal(t, checkUnit))
	}
	wants(t, h.Run(t, "ocbackup", "schedule", "show"), 0, backupTimer, checkTimer)
	if r := h.Run(t, "ocbackup", "doctor"); r.Code != 0 || !strings.Contains(r.Stdout, "timer") {
		t.Errorf("doctor: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}

	// Again with less, and away with all of it.
	h.Must(t, "ocbackup", "schedule", "install", "--check", "off")
	if h.exists("/etc/systemd/system/"+checkTimer) || h.property(t, checkTimer, "ActiveState") == "active" {
		t.Error("the check is still scheduled")
	}
	h.Must(t, "ocbackup", "schedule", "remove")
	left, err := os.ReadDir(h.Path("/etc/systemd/system"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "ocbackup") {
			t.Errorf("%s is left", f.Name())
		}
	}
	if got := h.Run(t, "systemctl", "list-timers", "--all", "--no-legend").Stdout; strings.Contains(got, "ocbackup") {
		t.Errorf("still scheduled:\n%s", got)
	}
	wants(t, h.Run(t, "ocbackup", "schedule", "remove"), 0)
	h.running(t)
}

// Whatever is killed, and when: the instance comes back, and the next run is good.
func TestKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.schedule(t)
	h.backup(t)
	for _, row := range []struct{ name, point, action string }{
		{"ocbackup, stopped", "cold.stopped", "KILL"},
		{"ocbackup, stored", "cold.stored", "KILL"},
		{"all of it, journal written", "cold.journaled", "exec:systemctl kill --kill-whom=all --signal=KILL " + backupUnit + "; sleep 60"},
		{"all of it, stopped", "cold.stopped", "exec:systemctl kill --kill-whom=all --signal=KILL " + backupUnit + "; sleep 60"},
		{"all of it, stored", "cold.stored", "exec:systemctl kill --kill-whom=all --signal=KILL " + backupUnit + "; sleep 60"},
	} {
		t.Run(row.name, func(t *testing.T) {
			sets, stops := len(h.sets(t)), h.count(t, "stop")
			h.fault(t, row.point, row.action)
			if h.runBackupUnit(t) {
				t.Fatalf("the unit calls that a success\n%s", h.journal(t, backupUnit))
			}
			if got := h.property(t, backupUnit, "Result"); got != "signal" && got != "exit-code" {
				t.Errorf("the unit's result is %s", got)
			}
			// systemd has run ExecStopPost= by now.
			h.running(t)
			if row.point != "cold.journaled" && h.count(t, "stop") != stops+1 {
				t.Errorf("the server has not been stopped once: %v", h.Events(t))
			}
			if n := len(h.sets(t)); n != sets {
				t.Errorf("there are %d sets, not %d", n, sets)
			}
			h.noFault(t)
			if !h.runBackupUnit(t) {
				t.Fatalf("the next run failed\n%s", h.journal(t, backupUnit))
			}
			h.running(t)
			if n := len(h.sets(t)); n != sets+1 {
				t.Errorf("there are %d sets, not %d", n, sets+1)
			}
		})
	}
	h.good(t)
}

// The power fails while the instance is stopped: it is up again after the boot, with
// nobody having to do anything.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.schedule(t)
	h.mark(t, "before")
	id := h.backup(t)

	const reached = stateDir + "/reached"
	hang := "exec:sync; touch " + reached + "; sleep 1000"
	powerFails := func(t *testing.T) {
		t.Helper()
		env.Eventually(t, 60*time.Second, "the fault is reached", func() bool { return h.exists(reached) })
		h.Kill()
		h.Boot(t)
		if err := os.Remove(h.Path(reached)); err != nil {
			t.Fatal(err)
		}
		env.Eventually(t, 60*time.Second, "the journal is gone", func() bool { return !h.exists(stateDir + "/journal.json") })
	}
	for _, row := range []struct{ name, autostart string }{
		{"instance not enabled", "disable"}, // nothing but ocbackup's own unit starts it
		{"instance enabled", "enable"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h.Must(t, "systemctl", row.autostart, unit)
			h.fault(t, "cold.stopped", hang)
			h.Must(t, "systemctl", "start", "--no-block", backupUnit)
			powerFails(t)
			h.running(t)
			if got := h.property(t, recoverUnit, "Result"); got != "success" {
				t.Errorf("%s: %s\n%s", recoverUnit, got, h.journal(t, recoverUnit))
			}
			if events := h.Events(t); slices.Contains(events, "fail") {
				t.Errorf("two servers were started at once: %v", events)
			}
			if !h.runBackupUnit(t) {
				t.Fatalf("the next run failed\n%s", h.journal(t, backupUnit))
			}
		})
	}
	for _, row := range []struct{ name, point, data string }{
		{"restore, in the midst of the exchange", "restore.swapped-one", "after"},
		{"restore, exchanged", "restore.swapped", "after"},
		{"restore, final", "restore.committed", "before"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h.Must(t, "systemctl", "disable", unit)
			h.mark(t, "after")
			var out bytes.Buffer
			cmd := h.Command(ctx, "env", "OCBACKUP_FAULT="+row.point+"=exec:"+h.script(t, strings.TrimPrefix(hang, "exec:")), "ocbackup", "restore", "--yes", id)
			cmd.Stderr = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Log(out.String())
				}
			}()
			powerFails(t)
			_ = cmd.Wait()
			h.running(t)
			if got := h.marked(); got != row.data {
				t.Errorf("the data is from %q, not from %q", got, row.data)
			}
		})
	}
	h.good(t)
}
