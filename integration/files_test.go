//go:build integration

package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// expected is what was put into a recorded server over HTTP.
type expected struct {
	files    map[string]map[string]string // space id, path, sha256
	versions []expectedVersions
	trash    []expectedTrash
	projects map[string]string // id, name
	disabled map[string]bool
}

type expectedVersions struct {
	space, node string
	count       int
	first       string // sha256 of the oldest
}

type expectedTrash struct {
	space, name, sha256 string
	children            []string
}

// expects reads expected.tsv of a recorded tree.
func (c *cloud) expects() expected {
	c.t.Helper()
	e := expected{files: map[string]map[string]string{}, projects: map[string]string{}, disabled: map[string]bool{}}
	spaceOf := func(id string) string { return id[strings.IndexByte(id, '$')+1:] }
	for line := range strings.Lines(c.read("expected.tsv")) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		switch f[0] {
		case "FILE":
			space, path, _ := strings.Cut(strings.TrimPrefix(f[2], "spaces/"), "/")
			path, err := url.PathUnescape(path)
			if err != nil {
				c.t.Fatal(err)
			}
			id := spaceOf(space)
			if e.files[id] == nil {
				e.files[id] = map[string]string{}
			}
			e.files[id]["/"+path] = f[3]
		case "VERS":
			space, node, _ := strings.Cut(spaceOf(f[2]), "!")
			n, err := strconv.Atoi(f[3])
			if err != nil {
				c.t.Fatal(err)
			}
			e.versions = append(e.versions, expectedVersions{space, node, n, f[4]})
		case "TRASH":
			if len(f) > 4 {
				e.trash = append(e.trash, expectedTrash{space: spaceOf(f[2]), name: f[3], sha256: f[4]})
			}
		case "TRASHDIR":
			e.trash = append(e.trash, expectedTrash{space: spaceOf(f[2]), name: f[3], children: f[4:]})
		case "SPACE", "DISABLED":
			e.projects[spaceOf(f[3])] = f[2]
			e.disabled[spaceOf(f[3])] = f[0] == "DISABLED"
		}
	}
	if len(e.files) == 0 || len(e.versions) == 0 || len(e.trash) == 0 {
		c.t.Fatalf("expected.tsv was not understood: %+v", e)
	}
	return e
}

// hashes are the sha256 of all files below a directory, by their paths with a leading slash.
func hashes(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sum := sha256.Sum256(b)
		all[strings.TrimPrefix(path, dir)] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// listing is what the commands that browse print with --json.
type listing struct {
	Spaces []struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		Disabled string `json:"disabled"`
	} `json:"spaces"`
	Nodes []listed `json:"nodes"`
}

type listed struct {
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Space   string `json:"space"`
	Path    string `json:"path"`
	Version string `json:"version"`
	Trash   string `json:"trash"`
	Item    bool   `json:"item"`
	At      string `json:"at"`
}

// browse runs one of those.
func (c *cloud) browse(args ...string) listing {
	c.t.Helper()
	var l listing
	if err := json.Unmarshal([]byte(c.must(append([]string{"--json"}, args...)...)), &l); err != nil {
		c.t.Fatal(err)
	}
	return l
}

// Every file, version and trash item that was put into a real server comes back from its
// backup by its name, byte for byte. For servers of today TestDamagedData shows it.
func TestFilesOfRealServers(t *testing.T) {
	t.Parallel()
	for _, fixture := range []string{"opencloud-posix", "opencloud-decomposed", "opencloud-decomposeds3"} {
		t.Run(fixture, func(t *testing.T) {
			t.Parallel()
			onlyStandin(t, "the recorded trees are of versions of their own")
			c := newRecordedCloud(t, fixture)
			c.backup()
			c.proven()
			c.allComesBack()
		})
	}
}

// allComesBack gets from the newest set all that expected.tsv of a recorded tree lists.
func (c *cloud) allComesBack() {
	t, want := c.t, c.expects()
	t.Helper()
	spaces := map[string]string{}
	for _, s := range c.browse("spaces").Spaces {
		spaces[s.ID] = s.Name
		if name, ok := want.projects[s.ID]; ok && (name != s.Name || want.disabled[s.ID] != (s.Disabled != "")) {
			t.Errorf("space %s is %+v, want %q", s.ID, s, name)
		}
	}
	for id, name := range want.projects {
		if spaces[id] == "" {
			t.Errorf("there is no space %q", name)
		}
	}
	for id, files := range want.files {
		to := c.path("got", id)
		c.must("get", id+":/", "--to", to)
		got := hashes(t, filepath.Join(to, spaces[id]))
		for path, sum := range files {
			if got[path] != sum {
				t.Errorf("%s:%s came back as %q", spaces[id], path, got[path])
			}
		}
	}
	inSpace := map[string][]listed{} // looked up once: each command takes its time
	list := func(space, what string) []listed {
		if inSpace[space+what] == nil {
			inSpace[space+what] = c.browse("ls", space+":/", "-R", what).Nodes
		}
		return inSpace[space+what]
	}
	for i, v := range want.versions {
		c.gotVersions(v, list(v.space, "--versions"), i%2 == 0)
	}
	for _, x := range want.trash {
		c.gotTrash(x, list(x.space, "--trash"))
	}
}

// gotVersions asserts that a file has so many old versions, and gets the oldest, by its key
// or its number.
func (c *cloud) gotVersions(want expectedVersions, nodes []listed, byKey bool) {
	c.t.Helper()
	var path string
	var versions []string
	for _, n := range nodes {
		switch {
		case n.ID != want.node:
		case n.Kind == "version":
			versions = append(versions, n.Version)
		default:
			path = n.Path
		}
	}
	if len(versions) != want.count {
		c.t.Errorf("%s has %d versions, want %d", path, len(versions), want.count)
		return
	}
	to, which := c.path("version", want.node), strconv.Itoa(want.count)
	if byKey {
		which = slices.Min(versions)
	}
	c.must("get", want.space+":"+path, "--version", which, "--to", to)
	if got := hashes(c.t, to); len(got) != 1 || got["/"+filepath.Base(path)] != want.first {
		c.t.Errorf("the oldest version of %s (%s) came back as %v", path, which, got)
	}
}

// gotTrash gets what was deleted.
func (c *cloud) gotTrash(want expectedTrash, nodes []listed) {
	c.t.Helper()
	i := slices.IndexFunc(nodes, func(n listed) bool { return n.Item && filepath.Base(n.Path) == want.name })
	if i < 0 {
		c.t.Errorf("%s is not in the trash: %+v", want.name, nodes)
		return
	}
	to := c.path("trash", want.name)
	c.must("get", want.space+":"+nodes[i].Path, "--trash", "--to", to)
	got := hashes(c.t, to)
	if want.sha256 != "" && got["/"+want.name] != want.sha256 {
		c.t.Errorf("%s came back from the trash as %v", want.name, got)
	}
	for _, child := range want.children {
		if got["/"+want.name+"/"+child] == "" {
			c.t.Errorf("%s/%s did not come back from the trash: %v", want.name, child, got)
		}
	}
}
