//go:build integration

package systemd

import (
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// An admin's first day, and the worst one: init, doctor, backup, list, the disk
// dies, restore.
func TestMainPath(t *testing.T) {
	t.Parallel()
	h := &host{Machine: env.Nspawn(t)}
	h.install(t, "opencloud-4.0-posix")
	initArgs := []string{"ocbackup", "init", "--systemd", "opencloud", "--name", name, "--repository", repository}

	wants(t, h.Run(t, append(initArgs, "--dry-run")...), 0, "Would be written", `driver = "posix"`)
	if h.exists("/etc/ocbackup") || h.exists(repository) {
		t.Error("the dry run left something behind")
	}
	wants(t, h.Run(t, append(initArgs, "--systemd", "nosuch")...), 2, "nosuch")
	out := h.Must(t, initArgs...)
	for _, want := range []string{"4.0.0-standin", "systemd unit opencloud.service", "posix", "/etc/opencloud", "/var/lib/opencloud", "/etc/opencloud.env", binary, "KEEP A COPY"} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}
	wants(t, h.Run(t, initArgs...), 2, "--force")
	wants(t, h.Run(t, append(initArgs, "--force")...), 0)
	if got := h.Must(t, "stat", "-c", "%a %u", configFile, "/etc/ocbackup/password"); got != "600 0\n600 0" {
		t.Errorf("modes and owners are %q", got)
	}
	wants(t, h.Run(t, "ocbackup", "doctor"), 0)
	wants(t, h.Run(t, "ocbackup", "backup", "--dry-run"), 0, "systemd unit opencloud.service", "nothing was stopped")
	if n := h.count(t, "stop"); n != 0 {
		t.Errorf("the server was stopped %d times by commands that only look", n)
	}

	h.mark(t, "before")
	id := h.backup(t)
	if n := h.count(t, "stop"); n != 1 {
		t.Errorf("the backup stopped the server %d times: %v", n, h.Events(t))
	}
	h.running(t)
	h.goodSet(t, id)
	wants(t, h.Run(t, "ocbackup", "show"), 0, id, "4.0.0-standin")

	t.Run("data lost", func(t *testing.T) {
		h.Must(t, "systemctl", "stop", unit)
		h.Must(t, "rm", "-rf", "/etc/opencloud", "/var/lib/opencloud")
		wants(t, h.Run(t, "ocbackup", "restore"), 2, "--yes")
		wants(t, h.Run(t, "ocbackup", "restore", "--yes"), 0)
		h.restored(t)
	})
	t.Run("unit lost, too", func(t *testing.T) {
		// What is left is the repository, its password, and the programs.
		h.Must(t, "cp", "/etc/ocbackup/password", "/root/password")
		h.Must(t, "systemctl", "disable", "--now", unit)
		h.Must(t, "rm", "-rf", "/etc/opencloud", "/var/lib/opencloud", "/etc/opencloud.env", "/etc/systemd/system/opencloud.service", "/etc/systemd/system/opencloud.service.d", binary,
			"/etc/ocbackup", "/var/lib/ocbackup")
		h.Must(t, "systemctl", "daemon-reload")
		wants(t, h.Run(t, "ocbackup", "restore", "--repository", repository, "--password-file", "/root/password"), 0)
		h.restored(t)
		h.good(t)
	})
}

// restored asserts that the instance of TestMainPath is back.
func (h *host) restored(t *testing.T) {
	t.Helper()
	h.running(t)
	if got := h.marked(); got != "before" {
		t.Errorf("the data is from %q", got)
	}
	if got := h.Run(t, "systemctl", "is-enabled", unit).Stdout; strings.TrimSpace(got) != "enabled" {
		t.Errorf("the unit is %s", got)
	}
	h.Must(t, "systemctl", "stop", unit)
	wants(t, h.check(t, ""), 0)
	ready := h.count(t, "ready")
	h.Must(t, "systemctl", "start", unit)
	h.awaitReady(t, ready)
}

// Commands of the server are run as the unit's user and in the unit's environment,
// with the server running and not; and a set with a damaged index makes a server
// with a new one.
func TestUserAndReindex(t *testing.T) {
	t.Parallel()
	h := &host{Machine: env.Nspawn(t)}
	h.Must(t, "useradd", "--system", "--uid", "990", "--home-dir", "/var/lib/opencloud", "opencloud")
	// Started by a script, as servers often are, that tells who calls it and how.
	const calls = "/var/log/calls"
	h.WriteFile(t, "/opt/opencloud/opencloud", `#!/bin/sh
echo "$(id -un) $SEARCH_DEBUG_ADDR $*" >> `+calls+`
/usr/bin/opencloud "$@"
`, 0o755)
	h.WriteFile(t, "/etc/systemd/system/opencloud.service.d/own.conf",
		"[Service]\nUser=opencloud\nExecStartPre=+/bin/chown -R opencloud: /etc/opencloud /var/lib/opencloud\nExecStart=\nExecStart=/opt/opencloud/opencloud server\n", 0o644)
	for _, f := range []string{calls, "/var/log/opencloud-events"} {
		h.WriteFile(t, f, "", 0o666)
	}
	h.OpenCloud(t, "opencloud-4.0-posix", "STANDIN_INTERVAL=50ms", "SEARCH_DEBUG_ADDR=127.0.0.1:19224")
	h.Must(t, "ocbackup", "init", "--systemd", unit, "--name", name, "--repository", repository)
	called := func(args string) {
		t.Helper()
		got := h.ReadFile(t, calls)
		if !strings.Contains(got, "opencloud 127.0.0.1:19224 "+args+"\n") {
			t.Errorf("%q was not called as it should be:\n%s", args, got)
		}
		h.WriteFile(t, calls, "", 0o666)
	}
	called("version --skip-services")
	wants(t, h.Run(t, "ocbackup", "reindex"), 0)
	if got := h.ReadFile(t, calls); strings.Contains(got, "root ") || strings.Count(got, "opencloud 127.0.0.1:19224 search index --space ") < 2 {
		t.Errorf("the reindexing was called as\n%s", got)
	}

	h.Must(t, "systemctl", "stop", unit)
	h.WriteFile(t, "/var/lib/opencloud/search/bleve/store/root.bolt", "damaged", 0o600)
	h.WriteFile(t, calls, "", 0o666)
	h.backup(t)
	called("version --skip-services")
	if n := h.count(t, "ready"); n != 1 {
		t.Errorf("a server that was stopped was started: %v", h.Events(t))
	}
	wants(t, h.Run(t, "ocbackup", "show"), 0, "damaged")
	h.Must(t, "rm", "-rf", "/etc/opencloud", "/var/lib/opencloud")
	wants(t, h.Run(t, "ocbackup", "restore", "--yes"), 0)
	h.running(t)
	if got := h.Must(t, "stat", "-c", "%U", "/etc/opencloud/opencloud.yaml", "/var/lib/opencloud/search"); got != "opencloud\nopencloud" {
		t.Errorf("the owners are %q", got)
	}
	if got := h.Must(t, "env", "OC_BASE_DATA_PATH=/var/lib/opencloud", "opencloud", "indexed"); len(strings.Fields(got)) == 0 {
		t.Error("no space is in the index")
	}
	if h.exists(stateDir + "/reindex-required.json") {
		t.Error("the marker is still there")
	}
	if got := h.ReadFile(t, calls); strings.Contains(got, "root ") || !strings.Contains(got, "search index --space") {
		t.Errorf("the reindexing was called as\n%s", got)
	}
}
