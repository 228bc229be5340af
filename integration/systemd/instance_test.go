//go:build integration

package systemd

import "testing"

// What an instance does that is not as it should be.
func TestInstance(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.backup(t)
	const dropIn = "/etc/systemd/system/opencloud.service.d/test.conf"
	set := func(t *testing.T, old, new string) {
		t.Helper()
		h.Must(t, "sed", "-i", "s|"+old+"|"+new+"|", configFile)
	}
	h.Must(t, "sh", "-c", "grep -q '^type = \"systemd\"' "+configFile+" && sed -i 's/^type = \"systemd\"/&\\nstop_timeout = \"1m\"\\nstart_timeout = \"1m\"/' "+configFile)

	for _, row := range []struct{ name, point string }{
		{"started in the window, before the store", "cold.stopped"},
		{"started in the window, after the store", "cold.stored"},
		{"started and stopped in the window", "cold.stored+stop"},
	} {
		t.Run(row.name, func(t *testing.T) {
			sets, point, script := len(h.sets(t)), row.point, "systemctl start "+unit
			if point == "cold.stored+stop" {
				point, script = "cold.stored", script+"; systemctl stop "+unit
			}
			r := h.Run(t, "env", "OCBACKUP_FAULT="+point+"=exec:"+h.script(t, script), "ocbackup", "backup")
			wants(t, r, 1, "somebody started OpenCloud", "void", "systemd was told to start "+unit)
			h.running(t)
			if n := len(h.sets(t)); n != sets {
				t.Errorf("there are %d sets, not %d", n, sets)
			}
		})
	}

	t.Run("it does not stop", func(t *testing.T) {
		// systemd kills it long after ocbackup gave up.
		h.WriteFile(t, dropIn, "[Service]\nTimeoutStopSec=12\n", 0o644)
		h.Must(t, "systemctl", "daemon-reload")
		set(t, `stop_timeout = .*`, `stop_timeout = "2s"`)
		h.WriteFile(t, "/etc/opencloud/standin.ignore-term", "", 0o600)
		wants(t, h.Run(t, "ocbackup", "backup"), 1, "did not stop within 2s", "stop_timeout", "OpenCloud is running again")
		h.running(t)
		h.Must(t, "rm", "/etc/opencloud/standin.ignore-term")
		set(t, `stop_timeout = .*`, `stop_timeout = "1m"`)
	})
	t.Run("it does not start", func(t *testing.T) {
		script := h.script(t, "touch /etc/opencloud/standin.fail-start")
		r := h.Run(t, "env", "OCBACKUP_FAULT=cold.stored=exec:"+script, "ocbackup", "backup")
		wants(t, r, 5, "NOT BACK", "ocbackup --state-dir "+stateDir+" recover", "journalctl")
		if !h.exists(stateDir + "/journal.json") {
			t.Error("the journal is gone")
		}
		wants(t, h.Run(t, "ocbackup", "recover"), 5, "NOT BACK")
		wants(t, h.Run(t, "ocbackup", "backup"), 5, "NOT BACK")
		h.Must(t, "rm", "/etc/opencloud/standin.fail-start")
		wants(t, h.Run(t, "ocbackup", "recover"), 0, "started")
		h.running(t)
		wants(t, h.Run(t, "ocbackup", "recover"), 0, "nothing to do")
	})
	t.Run("it was stopped before", func(t *testing.T) {
		h.Must(t, "systemctl", "stop", unit)
		starts := h.count(t, "start")
		id := h.backup(t)
		if n := h.count(t, "start"); n != starts || h.property(t, unit, "ActiveState") != "inactive" {
			t.Errorf("it was started: %v", h.Events(t))
		}
		h.goodSet(t, id)
		ready := h.count(t, "ready")
		h.Must(t, "systemctl", "start", unit)
		h.awaitReady(t, ready)
	})
	h.good(t)
}
