//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// What people have put in over HTTP is what they get back over HTTP: files, old
// versions, trash, shares, links, spaces, and search.
func TestRealContent(t *testing.T) {
	t.Parallel()
	if env.RealServer(t) == "" {
		t.Skip("needs a real server: set OPENCLOUD_BIN")
	}
	for _, row := range []struct{ name, fixture, driver string }{
		{"posix", "", "posix"},
		{"decomposed", "", "decomposed"},
		{"recorded posix", "opencloud-4.0-posix", ""},
		{"recorded decomposed", "opencloud-4.0-decomposed", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var c *cloud
			if row.fixture != "" {
				c = newRecordedCloud(t, row.fixture)
			} else {
				c = newCloud(t, row.driver)
			}
			wants(t, c.ctl("exec", "verify"), 0)
			id := c.backup()
			wants(t, c.ctl("exec", "verify"), 0)
			c.verifierTells(c.restoreCopy(id))

			c.kill()
			c.remove("config", "data")
			if res := c.restore(id); !res.Running || res.Reindex != "not needed" {
				t.Errorf("the result is %+v", res)
			}
			wants(t, c.ctl("exec", "verify"), 0)
			c.good()
		})
	}
}

// verifierTells damages a copy of the instance and asserts that the check tells.
func (c *cloud) verifierTells(root string) {
	c.t.Helper()
	pattern, lost := "data/storage/users/users/*/standin/slot-3.dat", 3
	if c.driver != "posix" {
		pattern, lost = "data/storage/users/spaces/*/*/blobs/*/*/*/*/-*", 1
	}
	files, _ := filepath.Glob(root + c.path(pattern))
	if len(files) == 0 {
		c.t.Fatalf("no %s", pattern)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		c.t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	wants(c.t, c.check(root), 1, files[0])
	if c.driver == "posix" {
		wants(c.t, env.Exec(background, nil, "setfattr", "-x", "user.oc.blobid", files[0]), 0)
	} else if err := os.Remove(files[0]); err != nil {
		c.t.Fatal(err)
	}
	wants(c.t, c.check(root), lost, files[0])
}
