package schedule

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }

func TestZZ(t *testing.T) {
	m := env.Nspawn(t, "/tmp/su/ocbackup:/usr/local/bin/ocbackup")
	m.OpenCloud(t, "opencloud-4.0-posix")
	m.WriteFile(t, "/etc/ocbackup/password", "secret-password\n", 0o600)
	m.WriteFile(t, "/etc/ocbackup/ocbackup.toml", `name = "cloud.test"
[repository]
location = "/srv/my backup/100%"
password_file = "/etc/ocbackup/password"
[layout]
driver = "posix"
config_dir = "/etc/opencloud"
data_dir = "/var/lib/opencloud"
binary = "/usr/bin/opencloud"
deployment = ["/etc/systemd/system/opencloud.service", "/etc/opencloud.env"]
[control]
type = "systemd"
unit = "opencloud.service"
[ready]
address = "127.0.0.1:9200"
idm_address = "127.0.0.1:9235"
`, 0o600)
	show := func(args ...string) { r := m.Run(t, args...); fmt.Printf("$ %s\n%s%s[%d]\n", strings.Join(args, " "), r.Stdout, r.Stderr, r.Code) }
	m.Must(t, "mkdir", "-p", "/srv/my backup")
	show("sh", "-c", "RESTIC_PASSWORD_FILE=/etc/ocbackup/password restic init -r '/srv/my backup/100%'")
	show("sh", "-c", "grep -r 92 /etc/opencloud.env; ss -ltn 2>/dev/null; cat /proc/net/tcp | head")
	show("ocbackup", "schedule", "install")
	show("ocbackup", "schedule", "install", "--check", "off", "--backup", "*-*-* 03:00")
	show("ocbackup", "schedule", "install")
	show("ocbackup", "schedule", "show")
	show("systemctl", "start", "ocbackup-cloud.test-backup.service")
	show("journalctl", "--no-pager", "-n", "30", "-u", "ocbackup-cloud.test-backup.service")
	show("systemctl", "start", "ocbackup-cloud.test-check.service")
	show("journalctl", "--no-pager", "-n", "30", "-u", "ocbackup-cloud.test-check.service")
	show("ocbackup", "list")
	show("ocbackup", "schedule", "show")
	show("ocbackup", "--json", "schedule", "show")
	show("systemctl", "show", "--timestamp=unix", "-p", "NextElapseUSecRealtime,LastTriggerUSec,ExecMainStartTimestamp", "ocbackup-cloud.test-backup.timer")
	// kill everything in the cold window
	m.Must(t, "systemctl", "start", "--no-block", "ocbackup-cloud.test-backup.service")
	env.Eventually(t, 30*time.Second, "journal", func() bool { _, err := os.Stat(m.Path("/var/lib/ocbackup/cloud.test/journal.json")); return err == nil })
	env.Eventually(t, 30*time.Second, "stopped", func() bool { e := m.Events(t); return e[len(e)-1] == "stop" })
	show("systemctl", "kill", "-s", "KILL", "ocbackup-cloud.test-backup.service")
	m.WaitUnit(t, "ocbackup-cloud.test-backup.service", 60*time.Second, "failed", "inactive")
	show("systemctl", "is-active", "opencloud.service")
	show("ls", "-la", "/var/lib/ocbackup/cloud.test")
	show("journalctl", "--no-pager", "-n", "12", "-u", "ocbackup-cloud.test-backup.service")
	// boot unit
	m.WriteFile(t, "/tmp/stopit", "", 0o644)
	m.Must(t, "systemctl", "start", "--no-block", "ocbackup-cloud.test-backup.service")
	env.Eventually(t, 30*time.Second, "journal", func() bool { _, err := os.Stat(m.Path("/var/lib/ocbackup/cloud.test/journal.json")); return err == nil })
	m.Must(t, "systemctl", "disable", "opencloud.service")
	m.Kill()
	m.Boot(t)
	m.WaitUnit(t, "ocbackup-cloud.test-recover.service", 60*time.Second, "failed", "inactive")
	show("journalctl", "--no-pager", "-n", "12", "-u", "ocbackup-cloud.test-recover.service")
	show("systemctl", "is-active", "opencloud.service")
	show("ls", "-la", "/var/lib/ocbackup/cloud.test")
	show("ocbackup", "schedule", "remove")
	show("ocbackup", "schedule", "show")
	show("ls", "/etc/systemd/system", "/etc/systemd/system/timers.target.wants")
}
