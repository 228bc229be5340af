//go:build integration

package systemd

import (
	"testing"
	"time"
)

// A server whose data are gone, and whose unit starts it over and over: neither
// running nor stopped, and a restore is the cure.
func TestLostAndStartedOverAndOver(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.backup(t)
	h.WriteFile(t, "/etc/systemd/system/opencloud.service.d/loop.conf", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1h\n", 0o644)
	h.Must(t, "systemctl", "daemon-reload")
	h.Must(t, "sh", "-c", "rm -rf /var/lib/opencloud /etc/opencloud; systemctl kill -s KILL "+unit)
	h.WaitUnit(t, unit, time.Minute, "activating")
	wants(t, h.Run(t, "ocbackup", "restore", "--yes"), 0, "OpenCloud is running")
	h.running(t)
	h.good(t)
}
