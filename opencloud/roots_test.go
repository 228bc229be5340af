package opencloud

import (
	"reflect"
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
