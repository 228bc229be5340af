//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func dump(t *testing.T, c *cloud, what string) {
	t.Logf("%s: pid %s events %v", what, strings.TrimSpace(c.read("server.pid")), c.events())
	ps, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range ps {
		b, _ := os.ReadFile(p)
		if strings.Contains(string(b), "STANDIN_EVENTS="+c.dir) {
			exe, _ := os.Readlink(filepath.Dir(p) + "/exe")
			t.Logf("   %s %s", p, exe)
		}
	}
}

func TestZZ(t *testing.T) {
	c := newRecordedCloud(t, "opencloud-4.0-posix")
	dump(t, c, "started")
	c.oddities()
	c.stop()
	dump(t, c, "stopped")
	c.backup()
	c.start()
	dump(t, c, "started again")
	c.backup()
	dump(t, c, "backed up")
	c.kill()
	dump(t, c, "killed")
}
