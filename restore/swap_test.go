package restore

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// fakeTree is a file system in a list of paths; those that end in / are directories.
type fakeTree map[string]kind

func treeOf(paths ...string) fakeTree {
	f := fakeTree{}
	for _, p := range paths {
		k := other
		if strings.HasSuffix(p, "/") {
			k = dir
		}
		p = strings.TrimSuffix(p, "/")
		f[p] = k
		for d := path.Dir(p); d != "/" && d != "."; d = path.Dir(d) {
			f[d] = dir
		}
	}
	return f
}

func (f fakeTree) Kind(p string) kind { return f[p] }

func (f fakeTree) Names(d string) []string {
	var out []string
	for p := range f {
		if path.Dir(p) == d {
			out = append(out, path.Base(p))
		}
	}
	return out
}

func TestPlanSwap(t *testing.T) {
	whole := func(target, name string) start {
		return start{target: target, staged: "/st/" + name, aside: "/as/" + name}
	}
	files := func(target, name string, include ...string) start {
		return start{root: opencloud.Root{Include: include}, target: target, staged: "/st/" + name, aside: "/as/" + name}
	}
	for _, c := range []struct {
		name   string
		starts []start
		keep   []string
		mounts []string
		tree   fakeTree
		steps  string
		stay   string
		err    string
	}{
		{
			name:   "a directory as a whole",
			starts: []start{whole("/d", "d")},
			tree:   treeOf("/d/a", "/d/b/", "/st/d/a"),
			steps:  "/d>/as/d /st/d>/d",
		},
		{
			name:   "nothing there before",
			starts: []start{whole("/d", "d")},
			tree:   treeOf("/st/d/a"),
			steps:  "/st/d>/d",
		},
		{
			name:   "nothing in the set",
			starts: []start{{target: "/d/search", aside: "/as/search"}},
			tree:   treeOf("/d/search/bleve/x"),
			steps:  "/d/search>/as/search",
		},
		{
			name:   "a file",
			starts: []start{whole("/usr/bin/oc", "oc")},
			tree:   treeOf("/usr/bin/oc", "/st/oc"),
			steps:  "/usr/bin/oc>/as/oc /st/oc>/usr/bin/oc",
		},
		{
			name:   "something inside stays",
			starts: []start{whole("/d", "d")},
			keep:   []string{"/d/storage/users", "/d/thumbs"},
			tree:   treeOf("/d/idm/f", "/d/storage/users/u", "/d/storage/meta/m", "/d/thumbs/t", "/d/new", "/st/d/idm/f", "/st/d/storage/meta/m", "/st/d/nats/n"),
			steps: "/d/idm>/as/d/idm /st/d/idm>/d/idm /st/d/nats>/d/nats /d/new>/as/d/new " +
				"/d/storage/meta>/as/d/storage/meta /st/d/storage/meta>/d/storage/meta",
			stay: "/d</st/d /d/storage</st/d/storage",
		},
		{
			name:   "what stays is in a directory that the set does not have",
			starts: []start{whole("/d", "d")},
			keep:   []string{"/d/web/apps"},
			tree:   treeOf("/d/web/apps/a", "/d/web/old", "/st/d/idm/f"),
			steps:  "/st/d/idm>/d/idm /d/web/old>/as/d/web/old",
			stay:   "/d</st/d",
		},
		{
			name:   "a mount point",
			starts: []start{{target: "/m", staged: "/m/.ocbackup-stage-x/d", aside: "/m/.ocbackup-aside-x/d"}},
			mounts: []string{"/m"},
			tree:   treeOf("/m/a/", "/m/lost+found/", "/m/.ocbackup-stage-x/d/a/", "/m/.ocbackup-stage-x/d/b"),
			steps: "/m/a>/m/.ocbackup-aside-x/d/a /m/.ocbackup-stage-x/d/a>/m/a /m/.ocbackup-stage-x/d/b>/m/b " +
				"/m/lost+found>/m/.ocbackup-aside-x/d/lost+found",
			stay: "/m</m/.ocbackup-stage-x/d",
		},
		{
			name:   "a root on a mount point inside another",
			starts: []start{whole("/d", "d"), {target: "/d/u", staged: "/d/u/.ocbackup-stage-x/u", aside: "/d/u/.ocbackup-aside-x/u"}},
			mounts: []string{"/d/u"},
			tree:   treeOf("/d/a", "/d/u/f", "/st/d/a", "/d/u/.ocbackup-stage-x/u/f"),
			steps:  "/d/a>/as/d/a /st/d/a>/d/a /d/u/f>/d/u/.ocbackup-aside-x/u/f /d/u/.ocbackup-stage-x/u/f>/d/u/f",
			stay:   "/d</st/d /d/u</d/u/.ocbackup-stage-x/u",
		},
		{
			name:   "files of a deployment",
			starts: []start{files("/opt/oc", "oc", "compose.yaml", "conf/csp.yaml", "conf/new/x", ".env")},
			tree:   treeOf("/opt/oc/compose.yaml", "/opt/oc/data/x", "/opt/oc/conf/csp.yaml", "/opt/oc/conf/own", "/st/oc/compose.yaml", "/st/oc/conf/csp.yaml", "/st/oc/conf/new/x", "/opt/oc/.env"),
			steps: "/opt/oc/.env>/as/oc/.env /opt/oc/compose.yaml>/as/oc/compose.yaml /st/oc/compose.yaml>/opt/oc/compose.yaml " +
				"/opt/oc/conf/csp.yaml>/as/oc/conf/csp.yaml /st/oc/conf/csp.yaml>/opt/oc/conf/csp.yaml /st/oc/conf/new>/opt/oc/conf/new",
		},
		{
			name:   "files of a deployment that is not there",
			starts: []start{files("/opt/oc", "oc", "compose.yaml")},
			tree:   treeOf("/st/oc/compose.yaml"),
			steps:  "/st/oc>/opt/oc",
		},
		{
			name:   "blobs alone",
			starts: []start{files("/u", "u", "spaces/*/*/blobs")},
			tree:   treeOf("/u/spaces/aa/bb/blobs/x", "/u/spaces/aa/bb/nodes/n", "/u/spaces/cc/dd/blobs/y", "/st/u/spaces/aa/bb/blobs/x"),
			steps:  "/u/spaces/aa/bb/blobs>/as/u/spaces/aa/bb/blobs /st/u/spaces/aa/bb/blobs>/u/spaces/aa/bb/blobs /u/spaces/cc/dd/blobs>/as/u/spaces/cc/dd/blobs",
		},
		{
			name:   "metadata alone",
			starts: []start{whole("/u", "u")},
			keep:   []string{"/u/spaces/aa/bb/blobs"},
			tree:   treeOf("/u/spaces/aa/bb/blobs/x", "/u/spaces/aa/bb/nodes/n", "/u/spaces/cc/dd/nodes/n", "/st/u/spaces/aa/bb/nodes/n", "/st/u/indexes/i"),
			steps: "/st/u/indexes>/u/indexes /u/spaces/aa/bb/nodes>/as/u/spaces/aa/bb/nodes /st/u/spaces/aa/bb/nodes>/u/spaces/aa/bb/nodes " +
				"/u/spaces/cc>/as/u/spaces/cc",
			stay: "/u</st/u /u/spaces</st/u/spaces /u/spaces/aa</st/u/spaces/aa /u/spaces/aa/bb</st/u/spaces/aa/bb",
		},
		{
			name:   "a file of the set where a directory must stay",
			starts: []start{whole("/d", "d")},
			keep:   []string{"/d/a/k"},
			tree:   treeOf("/d/a/k", "/st/d/a"),
			err:    "/d/a must stay a directory",
		},
		{
			name:   "a file that is a mount point",
			starts: []start{whole("/d/f", "f")},
			mounts: []string{"/d/f"},
			tree:   treeOf("/d/f", "/st/f"),
			err:    "is a mount point",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := planSwap(exchange{
				starts: c.starts, keep: c.keep, tree: c.tree,
				mounts: func(p string) bool { return slices.Contains(c.mounts, p) },
			})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var steps, stays []string
			for _, s := range p.Steps {
				steps = append(steps, s.From+">"+s.To)
			}
			for _, s := range p.Stay {
				stays = append(stays, s.Path+"<"+s.Staged)
			}
			if got := strings.Join(steps, " "); got != c.steps {
				t.Errorf("steps\n%s\nwant\n%s", got, c.steps)
			}
			if got := strings.Join(stays, " "); got != c.stay {
				t.Errorf("stay\n%s\nwant\n%s", got, c.stay)
			}
		})
	}
}

func TestArrange(t *testing.T) {
	mk := func(name, target string, include ...string) *item {
		it := &item{target: target}
		it.Name, it.Snapshot, it.Dir, it.Entry, it.Include = name, "id", true, path.Base(target), include
		return it
	}
	for _, c := range []struct {
		name   string
		items  []*item
		mounts mounts
		want   string
	}{
		{"nested in one", []*item{mk("system", "/v/d"), mk("users", "/v/d/s/u"), mk("search", "/v/d/search")}, nil, "search,users,system@/v"},
		{"a mount between", []*item{mk("system", "/v/d"), mk("users", "/v/d/s/u")}, mounts{"/v/d/s": true}, "system@/v users@/v/d/s"},
		{"a mount", []*item{mk("system", "/v/d"), mk("users", "/v/d/s/u")}, mounts{"/v/d/s/u": true}, "system@/v users@/v/d/s/u"},
		{"the outer one a mount", []*item{mk("system", "/v/d"), mk("users", "/v/d/s/u")}, mounts{"/v/d": true}, "users,system@/v/d"},
		{"two in one directory", []*item{mk("blobs", "/v/u", "spaces/*/*/blobs"), mk("metadata", "/v/u")}, nil, "blobs,metadata@/v"},
		{"files beside", []*item{mk("deployment", "/v", "compose.yaml"), mk("system", "/v/d")}, nil, "deployment@/ system@/v"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, g := range arrange(c.items, c.mounts) {
				var names []string
				for _, it := range g.items {
					names = append(names, it.Name)
				}
				got = append(got, fmt.Sprintf("%s@%s", strings.Join(names, ","), g.anchor))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
		})
	}
}
