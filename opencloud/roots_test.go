package opencloud

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func TestRoots(t *testing.T) {
	std := Layout{
		ConfigDir: "/etc/opencloud", DataDir: "/var/lib/opencloud",
		UsersRoot: "/var/lib/opencloud/storage/users", SearchDir: "/var/lib/opencloud/search",
		Leave: []string{"/var/lib/opencloud/thumbnails", "/elsewhere"},
	}
	with := func(f func(*Layout)) Layout { l := std; f(&l); return l }
	own := [2][]string{nil, {".ocbackup-*"}}
	type row map[string][2][]string // name -> include, exclude
	for name, tc := range map[string]struct {
		layout Layout
		want   row
	}{
		"posix": {
			with(func(l *Layout) { l.Driver = Posix }),
			row{"config": own, "system": {nil, {"search", "storage/.ocbackup-*", "storage/users", "thumbnails", ".ocbackup-*"}}, "users": own, "search": own},
		},
		"decomposed": {
			with(func(l *Layout) { l.Driver = Decomposed; l.Binary = "/usr/bin/opencloud" }),
			row{
				"config": own, "system": {nil, {"search", "storage/.ocbackup-*", "storage/users", "thumbnails", ".ocbackup-*"}},
				"metadata": {nil, {"spaces/*/*/blobs", ".ocbackup-*"}}, "blobs": {{"spaces/*/*/blobs"}, nil}, "search": own, "binary": {},
			},
		},
		"s3: the blobs are in the bucket": {
			with(func(l *Layout) { l.Driver = DecomposedS3; l.SearchExternal = true }),
			row{
				"config": own, "system": {nil, {"storage/.ocbackup-*", "storage/users", "thumbnails", ".ocbackup-*"}},
				"metadata": {nil, {"spaces/*/*/blobs", ".ocbackup-*"}},
			},
		},
		"self-built: configuration inside the data directory, deployment files with glob characters": {
			with(func(l *Layout) {
				l.Driver = Posix
				l.ConfigDir = "/var/lib/opencloud/config"
				l.Deployment = []string{"/srv/oc/compose.yml", "/srv/oc/.env", "/srv/oc/conf/a[1].yaml"}
			}),
			row{
				"config": own, "system": {nil, {"config", "search", "storage/.ocbackup-*", "storage/users", "thumbnails", ".ocbackup-*"}}, "users": own, "search": own,
				"deployment": {{".env", "compose.yml", `conf/a\[1].yaml`}, nil},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := row{}
			for _, r := range tc.layout.Roots() {
				got[r.Name] = [2][]string{r.Include, r.Exclude}
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("roots:\n got %v\nwant %v", got, tc.want)
			}
		})
	}
}

func TestGlobMatchesItselfOnly(t *testing.T) {
	for _, p := range []string{"plain", "a*b", "a[1]?", `back\slash`} {
		if Unglob(Glob(p)) != p {
			t.Errorf("Unglob(Glob(%q)) = %q", p, Unglob(Glob(p)))
		}
	}
}

// Paths that lead to the same place by links are seen as nested, too.
func TestRootsNestedThroughLinks(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"disk/oc/storage/users", "disk/oc/thumbnails", "disk/big", "srv"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"data": "disk/oc", "srv/compose.yml": "../disk/oc/nats.conf", "disk/oc/index": "../big"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	l := Layout{
		Driver: Posix, DataDir: filepath.Join(dir, "data"), UsersRoot: filepath.Join(dir, "disk/oc/storage/users"),
		SearchDir: filepath.Join(dir, "data/index"), Leave: []string{filepath.Join(dir, "disk/oc/thumbnails")},
		Deployment: []string{filepath.Join(dir, "srv/compose.yml")}, SystemPaths: []string{filepath.Join(dir, "disk/oc/storage/not-yet/there")},
	}
	for _, r := range l.Roots() {
		// The link of the deployment is stored, so what it leads to must not be left out.
		want := []string{".ocbackup-*", "index", "storage/.ocbackup-*", "storage/not-yet/.ocbackup-*", "storage/not-yet/there", "storage/users", "thumbnails"}
		if slices.Sort(r.Exclude); r.Name == "system" && !slices.Equal(r.Exclude, want) {
			t.Errorf("system leaves out %q, want %q", r.Exclude, want)
		}
	}
}
