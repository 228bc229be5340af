//go:build integration

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/pkg/xattr"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/integration/objects"
)

const usersRoot = "data/storage/users"

// adminTree is the admin's space of a recorded tree, on the disk of its stopped server.
type adminTree struct {
	*cloud
	root  string            // of the space
	nodes map[string]listed // by path; versions by PATH@N, 1 being the newest
}

// adminTree looks it up in the catalog of the newest set.
func (c *cloud) adminTree() *adminTree {
	c.t.Helper()
	d := &adminTree{cloud: c, nodes: map[string]listed{}}
	count := map[string]int{}
	for _, n := range c.browse("ls", "Admin:/", "-R", "--versions").Nodes {
		at := n.Path
		if n.Version != "" {
			count[n.Path]++
			at += fmt.Sprintf("@%d", count[n.Path])
		}
		d.nodes[at] = n
	}
	big := d.node("/big-fx.bin")
	if d.root = c.path(usersRoot, "spaces", big.Space[:2], big.Space[2:]); c.driver == "posix" {
		d.root = filepath.Dir(c.path(usersRoot, big.At))
	}
	return d
}

func (d *adminTree) node(at string) listed {
	d.t.Helper()
	n, ok := d.nodes[at]
	if !ok {
		d.t.Fatalf("%s is not in the catalog", at)
	}
	return n
}

func (d *adminTree) ok(errs ...error) {
	d.t.Helper()
	if err := errors.Join(errs...); err != nil {
		d.t.Fatal(err)
	}
}

// pathify is how storage drivers make a path of an id.
func pathify(id string) string {
	return filepath.Join(id[:2], id[2:4], id[4:6], id[6:8], id[8:])
}

// disk is where a node lies: with driver posix the file itself, else its node.
func (d *adminTree) disk(at string) string {
	d.t.Helper()
	n := d.node(at)
	switch {
	case d.driver == "posix" && n.At != "":
		return d.path(usersRoot, n.At)
	case d.driver == "posix":
		return filepath.Join(d.root, n.Path)
	case n.Version != "":
		return filepath.Join(d.root, "nodes", pathify(n.ID)+".REV."+n.Version)
	}
	return filepath.Join(d.root, "nodes", pathify(n.ID))
}

// remove removes files or folders of the disk.
func (d *adminTree) remove(paths ...string) {
	d.t.Helper()
	for _, p := range paths {
		_, err := os.Lstat(p)
		d.ok(err, os.RemoveAll(p))
	}
}

func (d *adminTree) content(at string) []byte {
	d.t.Helper()
	if d.s3 != nil {
		return d.s3.Get(d.t, env.BucketName, d.node(at).At)
	}
	b, err := os.ReadFile(d.path(usersRoot, d.node(at).At))
	d.ok(err)
	return b
}

// put replaces the content of a file behind OpenCloud's back, as a disk would.
func (d *adminTree) put(at string, content []byte) {
	d.t.Helper()
	if d.s3 != nil {
		d.s3.Put(d.t, env.BucketName, d.node(at).At, content)
		return
	}
	path := d.path(usersRoot, d.node(at).At)
	st, err := os.Stat(path)
	d.ok(err, os.WriteFile(path, content, 0o600), os.Chtimes(path, st.ModTime(), st.ModTime()))
}

func (d *adminTree) truncate(at string) {
	d.t.Helper()
	b := d.content(at)
	d.put(at, b[:len(b)/2])
}

// swap gives two files the content of each other.
func (d *adminTree) swap(one, other string) {
	d.t.Helper()
	a, b := d.content(one), d.content(other)
	d.put(one, b)
	d.put(other, a)
}

func (d *adminTree) flip(at string) {
	d.t.Helper()
	b := bytes.Clone(d.content(at))
	b[len(b)/2] ^= 4
	d.put(at, b)
}

// drop removes the content of a file.
func (d *adminTree) drop(at string) {
	d.t.Helper()
	if d.s3 != nil {
		d.s3.Delete(d.t, env.BucketName, d.node(at).At)
		return
	}
	d.remove(d.path(usersRoot, d.node(at).At))
}

// set changes attributes of a node; "-" removes one.
func (d *adminTree) set(at string, attrs map[string]string) {
	d.t.Helper()
	path := d.disk(at)
	if d.driver == "posix" {
		for name, value := range attrs {
			if value == "-" {
				d.ok(xattr.LRemove(path, "user.oc."+name))
			} else {
				d.ok(xattr.LSet(path, "user.oc."+name, []byte(value)))
			}
		}
		return
	}
	b, err := os.ReadFile(path + ".mpk")
	all := map[string][]byte{}
	d.ok(err, msgpack.Unmarshal(b, &all))
	d.ok(os.WriteFile(path+".mpk", changed(all, attrs), 0o600))
}

// changed is metadata with other attributes.
func changed(all map[string][]byte, attrs map[string]string) []byte {
	for name, value := range attrs {
		if all["user.oc."+name] = []byte(value); value == "-" {
			delete(all, "user.oc."+name)
		}
	}
	b, err := msgpack.Marshal(all)
	if err != nil {
		panic(err)
	}
	return b
}

// strip removes all attributes of a node.
func (d *adminTree) strip(at string) {
	d.t.Helper()
	if d.driver != "posix" {
		d.ok(os.WriteFile(d.disk(at)+".mpk", changed(map[string][]byte{}, nil), 0o600))
		return
	}
	names, err := xattr.LList(d.disk(at))
	d.ok(err)
	for _, name := range names {
		d.ok(xattr.LRemove(d.disk(at), name))
	}
}

func (d *adminTree) cp(from, to string) {
	d.t.Helper()
	wants(d.t, env.Exec(background, nil, "cp", "-a", from, to), 0)
}

// add makes a file by copying one, with everything that belongs to it.
func (d *adminTree) add(from, folder, name string) {
	d.t.Helper()
	old, parent := d.node(from), d.node(folder)
	n := listed{Kind: "file", ID: uuid.NewString(), Space: old.Space, Path: folder + "/" + name}
	attrs := map[string]string{"id": n.ID, "parentid": parent.ID, "name": name}
	at := n.Path
	if d.driver == "posix" {
		n.At = filepath.Join(filepath.Dir(d.node("/big-fx.bin").At), n.Path)
		d.nodes[at] = n
		d.cp(d.disk(from), d.path(usersRoot, n.At))
		d.set(at, attrs)
		return
	}
	blob := uuid.NewString()
	attrs["blobid"] = blob
	content := d.content(from)
	if d.s3 != nil {
		n.At = objects.Key(n.Space, blob)
		d.s3.Put(d.t, env.BucketName, n.At, content)
	} else {
		n.At = filepath.Join("spaces", n.Space[:2], n.Space[2:], "blobs", pathify(blob))
		path := d.path(usersRoot, n.At)
		d.ok(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600))
	}
	d.nodes[at] = n
	d.ok(os.MkdirAll(filepath.Dir(d.disk(at)), 0o700))
	d.cp(d.disk(from), d.disk(at))
	d.cp(d.disk(from)+".mpk", d.disk(at)+".mpk")
	d.set(at, attrs)
	d.link(at, filepath.Join(d.disk(folder), name))
}

// link makes a name of a node.
func (d *adminTree) link(at, name string) {
	d.t.Helper()
	d.ok(os.Symlink(filepath.Join("../../../../..", pathify(d.node(at).ID)), name))
}

// mutation is something done to the tree, and the findings that come of it: the path
// (of a version PATH@N, in the trash PATH?), the class, and "fatal".
type mutation struct {
	do   func(d *adminTree)
	want []string
}

const (
	newline = "new\nline.txt"
	circle  = "/extra-fx/manydir-fx"                 // an empty folder
	trashed = "f58d7ba3-b0c7-4d00-bebb-57aa6bf47226" // the item trashed-fx.txt in the tree of driver posix
)

// No data of a user is out of reach after these.
var harmless = map[string][]mutation{
	"posix": {
		{do: func(d *adminTree) { d.remove(d.disk("/docs-fx/note 3 ünï fx.txt")) }}, // as if its user had deleted it
		{do: func(d *adminTree) { d.remove(d.disk("/versioned-fx.txt@2")) }},
		{func(d *adminTree) { d.strip("/versioned-fx.txt@1") }, []string{"/versioned-fx.txt@1 broken"}},
		{func(d *adminTree) { d.strip("/docs-fx/note 15 ünï fx.txt") }, []string{"/docs-fx/note 15 ünï fx.txt broken"}},
		{func(d *adminTree) {
			d.cp(d.disk("/docs-fx/deep/note 1 ünï fx.txt"), d.disk("/docs-fx/deep")+"/twice")
		}, []string{"/docs-fx/deep/twice broken"}},
		{func(d *adminTree) {
			d.ok(os.WriteFile(d.disk("/docs-fx/deep/note 13 ünï fx.txt"), []byte("edited on the disk"), 0o600))
		}, []string{"/docs-fx/deep/note 13 ünï fx.txt broken"}},
		{func(d *adminTree) { d.set("/shared-fx", map[string]string{"id": "-"}) }, []string{"/shared-fx broken", "/shared-fx/inside-fx.txt broken"}},
		{func(d *adminTree) {
			d.ok(os.Rename(d.disk("/docs-fx/deep/note 7 ünï fx.txt"), d.disk("/docs-fx")+"/note 7 ünï fx.txt"))
		}, []string{"/docs-fx/note 7 ünï fx.txt broken"}},
	},
	"decomposed": {
		{do: func(d *adminTree) { d.remove(d.disk("/extra-fx/a/chain-fx.txt@3")) }}, // as OpenCloud itself does it
		{do: func(d *adminTree) {
			d.remove(d.disk("/extra-fx/a/chain-fx.txt@2"), d.disk("/extra-fx/a/chain-fx.txt@2")+".mpk")
		}},
		{func(d *adminTree) { d.remove(d.disk("/docs-fx/deep/er/note 14 ünï fx.txt")) }, []string{"/docs-fx/deep/er/note 14 ünï fx.txt broken"}},
		{func(d *adminTree) { d.link("/docs-fx", d.disk("/docs-fx/deep/er")+"/up") }, []string{"/docs-fx/deep/er/up broken"}},
		{func(d *adminTree) { d.link("/docs-fx/deep/note 1 ünï fx.txt", d.disk("/docs-fx")+"/twice") }, []string{"/docs-fx/twice broken"}},
		{func(d *adminTree) {
			d.set("/docs-fx/deep/er/note 11 ünï fx.txt", map[string]string{"cs.sha1": "short"})
		}, []string{"/docs-fx/deep/er/note 11 ünï fx.txt broken"}},
	},
}

// Each of these takes something away from a user.
var fatal = map[string][]mutation{
	"": { // whatever the driver
		{func(d *adminTree) { d.truncate("/docs-fx/note 6 ünï fx.txt") }, []string{"/docs-fx/note 6 ünï fx.txt size-mismatch fatal"}},
		{func(d *adminTree) { d.swap("/docs-fx/note 9 ünï fx.txt", "/docs-fx/note 12 ünï fx.txt") }, []string{
			"/docs-fx/note 9 ünï fx.txt size-mismatch fatal", "/docs-fx/note 12 ünï fx.txt size-mismatch fatal",
		}},
		{func(d *adminTree) { d.truncate("/docs-fx/" + newline) }, []string{"/docs-fx/" + newline + " size-mismatch fatal"}},
		{func(d *adminTree) { d.set("/docs-fx/deep/note 10 ünï fx.txt", map[string]string{"name": "-"}) }, []string{"/docs-fx/deep/note 10 ünï fx.txt broken fatal"}},
		{func(d *adminTree) { d.truncate("/extra-fx/a/chain-fx.txt@1") }, []string{"/extra-fx/a/chain-fx.txt@1 size-mismatch fatal"}},
	},
	"posix": {
		{func(d *adminTree) {
			d.remove(filepath.Join(d.root, ".oc-nodes", pathify(d.node("/extra-fx/many-fx.txt").ID)+".mpk"))
		}, []string{"/extra-fx/many-fx.txt unreadable fatal"}},
		{func(d *adminTree) {
			d.ok(os.WriteFile(filepath.Join(d.root, ".oc-nodes", pathify(d.node("/extra-fx/manydir-fx").ID)+".mpk"), []byte("\x81nonsense"), 0o600))
		}, []string{"/extra-fx/manydir-fx unreadable fatal"}},
		{func(d *adminTree) {
			d.set("/docs-fx/deep/note 4 ünï fx.txt", map[string]string{"parentid": uuid.NewString()})
		}, []string{"/docs-fx/deep/note 4 ünï fx.txt broken fatal"}},
		{func(d *adminTree) {
			d.set("/extra-fx", map[string]string{"parentid": d.node("/extra-fx/a/b").ID})
		}, []string{"/extra-fx broken fatal"}},
		{func(d *adminTree) { d.set("/versioned-fx.txt", map[string]string{"id": "-"}) }, []string{
			// Whose versions those are that are left is not to be told.
			"/ broken fatal", "/versioned-fx.txt broken", "- /versioned-fx.txt@1 broken",
		}},
		{func(d *adminTree) {
			d.ok(os.WriteFile(filepath.Join(d.root, ".Trash/info", trashed+".trashinfo"), []byte("[Trash Info]\nPath=../../../../etc/passwd\nDeletionDate=2026-11-23T04:13:04"), 0o600))
		}, []string{"/" + trashed + "? broken fatal"}},
	},
	"decomposed": {
		{func(d *adminTree) { d.drop("/docs-fx/note 3 ünï fx.txt") }, []string{"/docs-fx/note 3 ünï fx.txt missing fatal"}},
		{func(d *adminTree) { d.remove(d.disk("/docs-fx/note 15 ünï fx.txt") + ".mpk") }, []string{"/docs-fx/note 15 ünï fx.txt unreadable fatal"}},
		{func(d *adminTree) {
			d.ok(os.WriteFile(d.disk("/docs-fx/deep/note 4 ünï fx.txt")+".mpk", []byte("\x8anonsense"), 0o600))
		}, []string{"/docs-fx/deep/note 4 ünï fx.txt unreadable fatal"}},
		{func(d *adminTree) { d.strip("/docs-fx/deep/note 13 ünï fx.txt") }, []string{"/docs-fx/deep/note 13 ünï fx.txt broken fatal"}},
		{func(d *adminTree) { d.remove(d.disk("/versioned-fx.txt@1") + ".mpk") }, []string{"/versioned-fx.txt@1 unreadable fatal"}},
		{func(d *adminTree) { d.remove(d.disk("/docs-fx/deep") + "/note 7 ünï fx.txt") }, []string{"/docs-fx/deep/note 7 ünï fx.txt broken fatal"}},
		{func(d *adminTree) {
			d.remove(d.disk("/extra-fx/a/b"), d.disk("/extra-fx/a/b")+".mpk")
		}, []string{"/extra-fx/a/b broken fatal", "/extra-fx/a/b/grp-fx broken fatal"}},
		{func(d *adminTree) {
			d.cp(d.disk("/docs-fx/deep/note 1 ünï fx.txt")+".mpk", d.disk("/docs-fx/deep/er/note 5 ünï fx.txt")+".mpk")
		}, []string{"/docs-fx/deep/er/note 5 ünï fx.txt broken fatal"}},
		{func(d *adminTree) { // a circle that nothing leads to
			d.remove(d.disk("/extra-fx") + "/manydir-fx")
			d.link(circle, d.disk(circle)+"/circle")
			d.set(circle, map[string]string{"parentid": d.node(circle).ID})
		}, []string{"/.lost broken", "/.lost/CIRCLE broken fatal", "/.lost/CIRCLE/circle broken"}},
	},
}

// All of a real server comes back from a good set. Data that it has lost makes a set that says so, by the names that users know; what
// is odd and loses nothing is told, and no more. What has the right size is only found by
// reading, which a backup does with a bucket, and else "verify --read-data".
func TestDamagedData(t *testing.T) {
	t.Parallel()
	for _, fixture := range []string{"opencloud-4.0-posix", "opencloud-4.0-decomposed", "opencloud-4.0-decomposeds3"} {
		t.Run(fixture, func(t *testing.T) {
			t.Parallel()
			onlyStandin(t, "its trees are damaged by hand")
			c := newRecordedCloud(t, fixture)
			good := c.backup()
			c.proven()
			c.allComesBack()
			c.stop()
			d := c.adminTree()
			metadata := c.driver
			if c.s3 != nil {
				metadata = "decomposed" // is what it has, too
			}
			const flipped = "/big-fx.bin hash-mismatch fatal"

			want := d.damage(nil, harmless[metadata])
			names := []string{newline, "no \xff\xfe UTF-8", strings.Repeat("n", 255)}
			for _, name := range names {
				d.add("/docs-fx/deep/er/note 2 ünï fx.txt", "/docs-fx", name)
			}
			stray := d.strayBlob()
			if c.s3 == nil {
				d.flip("/big-fx.bin")
			}
			odd := c.backup()
			p := c.proof(odd)
			sameLines(t, "the odd set", p.lines(), want)
			if stray != "" && !slices.ContainsFunc(p.Findings, func(f finding) bool { return f.Class == "orphan" && !f.Fatal && f.At == stray }) {
				t.Errorf("%s is not told: %+v", stray, p.Findings)
			}
			c.must("get", "Admin:/docs-fx", "--to", c.path("odd"))
			got := hashes(t, c.path("odd"))
			for _, name := range names {
				if got["/docs-fx/"+name] == "" || got["/docs-fx/"+name] != got["/docs-fx/deep/er/note 2 ünï fx.txt"] {
					t.Errorf("%q came back as %q", name, got["/docs-fx/"+name])
				}
			}

			want = d.damage(want, append(slices.Clone(fatal[""]), fatal[metadata]...))
			if c.s3 != nil {
				want = d.damage(want, []mutation{{func(d *adminTree) { d.flip("/big-fx.bin") }, []string{flipped}}})
			}
			r := c.run("backup")
			wants(t, r, 4, "inconsistent", "OpenCloud is stopped, as it was before", "more; all are in the certificate")
			c.stopped()
			sets := c.sets()
			if len(sets) != 3 || sets[0].State != "complete" || sets[1].State != "complete" || sets[2].State != "INCONSISTENT" {
				t.Fatalf("the sets are %+v", sets)
			}
			lost := sets[2].Set
			p = c.proof(lost)
			sameLines(t, "the damaged set", p.lines(), want)
			wants(t, r, 4, fmt.Sprintf("%d of %d nodes have lost data", p.Fatal, p.Nodes))
			wants(t, c.run("show", "--findings", lost), 0, `LOST  $'Admin:/docs-fx/new\nline.txt': size-mismatch: `)
			wants(t, c.run("list"), 0, fmt.Sprintf("%d LOST", p.Fatal))
			wants(t, c.run("show", "latest"), 0, odd) // a set that lacks data is never the latest
			wants(t, c.run("show"), 0, lost, "INCONSISTENT")
			wants(t, c.run("restore", "--dry-run"), 0, odd, "passed over", lost)

			// Of the damage that has the right size the set knows nothing: that is for reading to find.
			if c.s3 == nil {
				want = append(want, flipped)
			}
			verified := c.verified("--all", "--read-data", "1/1")
			sameLines(t, "the first set", verified[good].lines(), nil)
			if sameLines(t, "the damaged set", verified[lost].lines(), want); c.s3 == nil {
				odds := slices.DeleteFunc(verified[odd].lines(), func(s string) bool { return !strings.HasSuffix(s, " fatal") })
				sameLines(t, "what reading the odd set finds lost", odds, []string{flipped})
			}

			// What the set before has of it comes back.
			c.must("get", good, "Admin:/big-fx.bin", "--to", c.path("whole"))
			if sums := hashes(t, c.path("whole")); sums["/big-fx.bin"] != c.expects().files[d.node("/big-fx.bin").Space]["/big-fx.bin"] {
				t.Errorf("the file came back as %v", sums)
			}

			// What is known to be lost, and accepted, does not keep later sets from being good.
			var accept []string
			for _, f := range c.proof(lost).Findings {
				if f.Fatal {
					accept = append(accept, strconv.Quote(f.Space+":/"))
				}
			}
			c.configure("backup", "accept_lost", "["+strings.Join(accept, ", ")+"]")
			wants(t, c.run("backup"), 0, "which accept_lost names")
			if sets := c.sets(); sets[3].State != "complete" {
				t.Errorf("the sets are %+v", sets)
			}
			wants(t, c.run("verify"), 0, "which accept_lost names")
		})
	}
}

// damage makes mutations, and gives the findings of those before and of these. One that
// begins with "- " is found no more.
func (d *adminTree) damage(before []string, list []mutation) []string {
	d.t.Helper()
	want := slices.Clone(before)
	for _, m := range list {
		m.do(d)
		for _, w := range m.want {
			if gone, ok := strings.CutPrefix(w, "- "); ok {
				want = slices.DeleteFunc(want, func(s string) bool { return s == d.named(gone) })
				continue
			}
			want = append(want, d.named(w))
		}
	}
	return want
}

// named puts ids and keys of this tree into a finding of a mutation.
func (d *adminTree) named(w string) string {
	d.t.Helper()
	for at, n := range d.nodes {
		if rest, ok := strings.CutPrefix(w, at+" "); ok && n.Version != "" {
			return n.Path + "@" + n.Version + " " + rest
		}
	}
	return strings.Replace(w, "CIRCLE", d.node(circle).ID, 1)
}

// strayBlob puts a content into the tree that is no node's, and says where; "" with
// driver posix, where there is no such thing.
func (d *adminTree) strayBlob() (at string) {
	d.t.Helper()
	switch space := d.node("/big-fx.bin").Space; d.driver {
	case "decomposed":
		at = filepath.Join("spaces", space[:2], space[2:], "blobs", pathify(uuid.NewString()))
		d.ok(os.MkdirAll(filepath.Dir(d.path(usersRoot, at)), 0o700), os.WriteFile(d.path(usersRoot, at), []byte("stray"), 0o600))
	case "decomposeds3":
		at = objects.Key(space, uuid.NewString())
		d.s3.Put(d.t, env.BucketName, at, []byte("stray"))
	}
	return at
}
