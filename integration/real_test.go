//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
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
		{"decomposeds3", "", "decomposeds3"},
		{"recorded posix", "opencloud-4.0-posix", ""},
		{"recorded decomposed", "opencloud-4.0-decomposed", ""},
		{"recorded decomposeds3", "opencloud-4.0-decomposeds3", ""},
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
			c.wipeBucket()
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
	pattern, lost := root+c.path("data/storage/users/users/*/standin/slot-3.dat"), 3
	switch c.driver {
	case "decomposed":
		pattern, lost = root+c.path("data/storage/users/spaces/*/*/blobs/*/*/*/*/-*"), 1
	case "decomposeds3":
		pattern, lost = root+"/bucket/*/*/*/*/*/-*", 1
	}
	files, _ := filepath.Glob(pattern)
	if len(files) == 0 {
		c.t.Fatalf("no %s", pattern)
	}
	name := strings.TrimPrefix(files[0], root+"/bucket/") // objects are named by their keys
	content, err := os.ReadFile(files[0])
	if err != nil {
		c.t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	wants(c.t, c.check(root), 1, name)
	if c.driver == "posix" {
		wants(c.t, env.Exec(background, nil, "setfattr", "-x", "user.oc.blobid", files[0]), 0)
	} else if err := os.Remove(files[0]); err != nil {
		c.t.Fatal(err)
	}
	wants(c.t, c.check(root), lost, name)
}
