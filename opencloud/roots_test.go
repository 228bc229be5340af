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
	type row map[string][2][]string // name -> include, exclude
	for name, tc := range map[string]struct {
		layout Layout
		want   row
	}{
		"posix": {
			with(func(l *Layout) { l.Driver = Posix }),
			row{"config": {}, "system": {nil, {"search", "storage/users", "thumbnails"}}, "users": {}, "search": {}},
		},
		"decomposed": {
			with(func(l *Layout) { l.Driver = Decomposed; l.Binary = "/usr/bin/opencloud" }),
			row{
				"config": {}, "system": {nil, {"search", "storage/users", "thumbnails"}},
				"metadata": {nil, {"spaces/*/*/blobs"}}, "blobs": {{"spaces/*/*/blobs"}, nil}, "search": {}, "binary": {},
			},
		},
		"s3: the blobs are in the bucket": {
			with(func(l *Layout) { l.Driver = DecomposedS3; l.SearchExternal = true }),
			row{
				"config": {}, "system": {nil, {"storage/users", "thumbnails"}},
				"metadata": {nil, {"spaces/*/*/blobs"}},
			},
		},
		"self-built: configuration inside the data directory, deployment files with glob characters": {
			with(func(l *Layout) {
				l.Driver = Posix
				l.ConfigDir = "/var/lib/opencloud/config"
				l.Deployment = []string{"/srv/oc/compose.yml", "/srv/oc/.env", "/srv/oc/conf/a[1].yaml"}
			}),
			row{
				"config": {}, "system": {nil, {"config", "search", "storage/users", "thumbnails"}}, "users": {}, "search": {},
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
