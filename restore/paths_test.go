package restore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

func TestMapper(t *testing.T) {
	m := newMapper([]Mapping{{"/srv/oc", "/new"}, {"/srv/oc/data/users", "/disk/users"}, {"/etc/opencloud", "/etc/oc2"}})
	for from, to := range map[string]string{
		"/srv/oc":                  "/new",
		"/srv/oc/data":             "/new/data",
		"/srv/oc/data/users":       "/disk/users",
		"/srv/oc/data/users/a":     "/disk/users/a",
		"/srv/oc2":                 "/srv/oc2",
		"/srv/oc/data/users2":      "/new/data/users2",
		"/etc/opencloud/a":         "/etc/oc2/a",
		"/usr/local/bin/opencloud": "/usr/local/bin/opencloud",
	} {
		if got := m.path(from); got != to {
			t.Errorf("%s -> %s, want %s", from, got, to)
		}
	}
	c := config.Config{}
	c.Layout.DataDir, c.Layout.Leave = "/srv/oc/data", []string{"/srv/oc/data/thumbnails"}
	c.Control.Start = []string{"/srv/oc/start", "--dir", "/srv/oc/data", "word"}
	c.Control.ProjectDir = "/srv/oc"
	got := m.config(c)
	if got.Layout.DataDir != "/new/data" || got.Layout.Leave[0] != "/new/data/thumbnails" || got.Layout.ConfigDir != "" ||
		strings.Join(got.Control.Start, " ") != "/new/start --dir /new/data word" || got.Control.ProjectDir != "/new" {
		t.Errorf("mapped: %+v", got)
	}
	if c.Layout.Leave[0] != "/srv/oc/data/thumbnails" {
		t.Error("the original was changed")
	}
}

func TestParseMapping(t *testing.T) {
	if m, err := ParseMapping("/a/=/b/../c"); err != nil || m != (Mapping{"/a", "/c"}) {
		t.Errorf("%v %v", m, err)
	}
	for _, bad := range []string{"", "/a", "a=/b", "/a=b", "=/b"} {
		if _, err := ParseMapping(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// A configured path that was a symbolic link on the old host becomes one again; what
// is nested in it needs none.
func TestLocateLinks(t *testing.T) {
	base := t.TempDir()
	mk := func(name, path, real string) *item {
		it := &item{}
		it.Name, it.Path, it.Real = name, base+path, base+real
		return it
	}
	items := []*item{mk("system", "/var/oc", "/mnt/oc"), mk("users", "/var/oc/u", "/mnt/oc/u"), mk("config", "/etc/oc", "/etc/oc"), mk("search", "/var/oc/search", "/var/oc/search")}
	items[3].Real = "" // was absent
	if err := locate(items, nil); err != nil {
		t.Fatal(err)
	}
	if items[0].target != base+"/mnt/oc" || items[0].link != base+"/var/oc" || items[1].target != base+"/mnt/oc/u" || items[1].link != "" || items[2].link != "" || items[3].target != base+"/mnt/oc/search" {
		t.Errorf("%+v %+v %+v", items[0], items[1], items[2])
	}
	// On a host where the path leads somewhere, it goes there.
	if err := os.MkdirAll(base+"/elsewhere", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(base+"/var", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(base+"/elsewhere", base+"/var/oc"); err != nil {
		t.Fatal(err)
	}
	items = []*item{mk("system", "/var/oc", "/mnt/oc")}
	if err := locate(items, nil); err != nil || items[0].target != base+"/elsewhere" || items[0].link != "" {
		t.Errorf("%+v %v", items[0], err)
	}
}

func TestCompareVersions(t *testing.T) {
	ordered := []string{"3.9.9", "4.0.0-alpha.2", "4.0.0-rc.2", "4.0.0-rc.3+dev", "4.0.0-rc.10", "4.0.0", "4.0.1", "4.1.0", "7.3.0", "10.0.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := compareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
	if compareVersions("4.0.0+dev", "v4.0.0") != 0 {
		t.Error("build metadata counts")
	}
}

func TestHolds(t *testing.T) {
	metadata := opencloud.Root{Exclude: []string{"spaces/*/*/blobs"}}
	blobs := opencloud.Root{Include: []string{"spaces/*/*/blobs"}}
	for _, c := range []struct {
		root         opencloud.Root
		rel          string
		holds, leads bool
	}{
		{metadata, ".", true, false},
		{metadata, "spaces/a/b/nodes", true, false},
		{metadata, "spaces/a/b/blobs", false, false},
		{metadata, "spaces/a/b/blobs/x", false, false},
		{blobs, ".", false, true},
		{blobs, "spaces", false, true},
		{blobs, "indexes", false, false},
		{blobs, "spaces/a/b", false, true},
		{blobs, "spaces/a/b/blobs", true, false},
		{blobs, "spaces/a/b/blobs/x/y", true, false},
		{blobs, "spaces/a/b/nodes", false, false},
	} {
		if h, l := holds(c.root, c.rel), leads(c.root, c.rel); h != c.holds || l != c.leads {
			t.Errorf("%v %s: holds %v, leads %v", c.root.Include, c.rel, h, l)
		}
	}
}

func TestOnlyIncluded(t *testing.T) {
	got := strings.Join(onlyIncluded("/d", []string{"a", "c/x", "c/e/y"}), " ")
	if want := "/d !/d/* /d/c !/d/c/* /d/c/e !/d/c/e/* /d/a /d/c/x /d/c/e/y"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestUnitUser(t *testing.T) {
	for unit, want := range map[string]string{
		"[Service]\nUser=opencloud\n":           "opencloud",
		"[Service]\nUser=a\nUser = b\n User=c":  "c",
		"[Service]\nDynamicUser=yes\n#User=x\n": "",
	} {
		if got := unitUser(unit); got != want {
			t.Errorf("%q: %q, want %q", unit, got, want)
		}
	}
}

// What a restored tree lacks is named, before any server is started on it.
func TestCompare(t *testing.T) {
	base := t.TempDir()
	for _, f := range []string{"a", "b/c"} {
		if err := os.MkdirAll(filepath.Join(base, filepath.Dir(f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	counted, err := census.Count(ctx, base, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	it := &item{Root: manifest.Root{Root: opencloud.Root{Name: "users"}, Dir: true, Snapshot: "x", Census: &counted.Sum}}
	r := &run{}
	if _, err := r.compare(ctx, it, base, nil); err != nil {
		t.Errorf("an equal tree: %v", err)
	}
	if err := os.Chmod(filepath.Join(base, "a"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := r.compare(ctx, it, base, nil); err == nil || !strings.Contains(err.Error(), "root users was not restored as it was backed up") {
		t.Errorf("another mode: %v", err)
	}
	lost := counted.Sum
	lost.Xattrs += 482
	it.Census = &lost
	if _, err := r.compare(ctx, it, base, nil); err == nil || !strings.Contains(err.Error(), "482 extended attributes expected, 0 found") {
		t.Errorf("attributes lost: %v", err)
	}
}
