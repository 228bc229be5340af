package nodes

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/xattr"
	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

const (
	posixAdmin = "users/d3045973-be27-49ce-9b5c-242d175e5061"
	chainFile  = posixAdmin + "/extra-fx/a/chain-fx.txt" // has three versions
	chainShelf = posixAdmin + "/.oc-nodes/54/8b/3c/5e/-79a6-4ece-b67e-465e4d5fce64.REV."
	manyFile   = posixAdmin + "/extra-fx/many-fx.txt" // its grants are in a file
	manyShelf  = posixAdmin + "/.oc-nodes/58/25/50/4d/-d20a-4bf6-a555-f657b0e3f75d.mpk"
	inTrash    = posixAdmin + "/.Trash/files/f58d7ba3-b0c7-4d00-bebb-57aa6bf47226.trashitem"
	trashNote  = posixAdmin + "/.Trash/info/f58d7ba3-b0c7-4d00-bebb-57aa6bf47226.trashinfo"
	dirInTrash = posixAdmin + "/.Trash/files/57d3d8be-f072-4d44-b316-4e65ad7474c3.trashitem"
)

// tree is a users root to be damaged.
type tree struct {
	t    *testing.T
	root string
}

func (d tree) path(rel string) string { return filepath.Join(d.root, rel) }
func (d tree) strip(rel string, attrs ...string) {
	for _, a := range attrs {
		must(d.t, xattr.LRemove(d.path(rel), a))
	}
}

func (d tree) stripAll(rel string) {
	names, err := xattr.LList(d.path(rel))
	must(d.t, err)
	d.strip(rel, names...)
}

func (d tree) set(rel, attr, value string) { must(d.t, xattr.LSet(d.path(rel), attr, []byte(value))) }

func (d tree) get(rel, attr string) string {
	b, err := xattr.LGet(d.path(rel), attr)
	must(d.t, err)
	return string(b)
}
func (d tree) remove(rel string)        { must(d.t, os.RemoveAll(d.path(rel))) }
func (d tree) write(rel, text string)   { must(d.t, os.WriteFile(d.path(rel), []byte(text), 0o600)) }
func (d tree) rename(rel, other string) { must(d.t, os.Rename(d.path(rel), d.path(other))) }

// unlist takes a space from OpenCloud's index.
func (d tree) unlist(kind, id string) {
	file := d.path("indexes/by-type/" + kind + ".mpk")
	b, err := os.ReadFile(file)
	must(d.t, err)
	index := map[string]string{}
	must(d.t, msgpack.Unmarshal(b, &index))
	if index[id] == "" {
		d.t.Fatalf("%s is not in %q", id, index)
	}
	delete(index, id)
	b, err = msgpack.Marshal(index)
	must(d.t, err)
	must(d.t, os.WriteFile(file, b, 0o600))
}

// copy is cp -a.
func (d tree) copy(rel, other string) {
	st, err := os.Lstat(d.path(rel))
	must(d.t, err)
	if st.IsDir() {
		must(d.t, os.Mkdir(d.path(other), 0o700))
		entries, err := os.ReadDir(d.path(rel))
		must(d.t, err)
		for _, e := range entries {
			d.copy(rel+"/"+e.Name(), other+"/"+e.Name())
		}
	} else {
		b, err := os.ReadFile(d.path(rel))
		must(d.t, err)
		must(d.t, os.WriteFile(d.path(other), b, 0o600))
	}
	names, err := xattr.LList(d.path(rel))
	must(d.t, err)
	for _, n := range names {
		d.set(other, n, d.get(rel, n))
	}
	must(d.t, os.Chtimes(d.path(other), st.ModTime(), st.ModTime()))
}

// TestPosixDamage: what is wrong is told of the right node, in the right class, and is
// fatal where OpenCloud's users lose something. Nothing else is reported.
func TestPosixDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(d tree)
		fail   failing  // what can't be read
		want   []string // problems
		text   string   // in their words
	}{
		"nothing": {damage: func(tree) {}},

		"id lost": {
			damage: func(d tree) { d.strip(manyFile, attrID) },
			want:   []string{"/extra-fx/many-fx.txt broken"}, text: "has lost its id",
		},
		"id lost of a file with versions": {
			damage: func(d tree) { d.strip(chainFile, attrID) },
			want:   []string{"Admin broken fatal", "/extra-fx/a/chain-fx.txt broken"}, text: "1 files have lost their ids, and 3 versions",
		},
		"id lost of a folder": {
			damage: func(d tree) { d.strip(posixAdmin+"/shared-fx", attrID) },
			want:   []string{"/shared-fx broken", "/shared-fx/inside-fx.txt broken"}, text: "lies in a folder that has lost its id",
		},
		"parent lost": {
			damage: func(d tree) { d.strip(chainFile, attrParentID) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken fatal"}, text: "lost the id of its parent",
		},
		"name lost": {
			damage: func(d tree) { d.strip(chainFile, attrName) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken fatal"}, text: "lost its name",
		},
		"type lost": {
			damage: func(d tree) { d.strip(chainFile, attrType) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "lost its type",
		},
		"size lost": {
			damage: func(d tree) { d.strip(chainFile, attrBlobSize) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "lost its size",
		},
		"blob id lost": {
			damage: func(d tree) { d.strip(chainFile, attrBlobID) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "lost its blob id",
		},
		"time lost": {
			damage: func(d tree) { d.strip(chainFile, attrMTime) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "lost its modification time",
		},
		"checksums lost": {
			damage: func(d tree) { d.strip(chainFile, attrSHA1, attrMD5) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "nothing but its size",
		},
		"all attributes lost": {
			damage: func(d tree) { d.stripAll(manyFile) },
			want:   []string{"/extra-fx/many-fx.txt broken"}, text: "has no metadata",
		},
		"a version's attributes lost": {
			damage: func(d tree) { d.stripAll(chainShelf + "2026-11-23T04:13:18.33624224Z") },
			want:   []string{"/extra-fx/a/chain-fx.txt@2026-11-23T04:13:18.33624224Z broken"}, text: "lost its metadata",
		},
		"size malformed": {
			damage: func(d tree) { d.set(chainFile, attrBlobSize, "12x") },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "lost its size",
		},
		"checksum malformed": {
			damage: func(d tree) { d.set(chainFile, attrSHA1, "short") },
			want:   []string{"/extra-fx/a/chain-fx.txt broken"}, text: "malformed checksums: sha1",
		},
		"a file that is called a folder": {
			damage: func(d tree) { d.set(chainFile, attrType, typeFolder) },
			want:   []string{"/extra-fx/a/chain-fx.txt broken fatal"}, text: "is a file on disk, but not in its metadata",
		},

		"grants gone": {
			damage: func(d tree) { d.remove(manyShelf) },
			want:   []string{"/extra-fx/many-fx.txt unreadable fatal"}, text: "grants and tags",
		},
		"grants malformed": {
			damage: func(d tree) { d.write(manyShelf, "\x81garbage") },
			want:   []string{"/extra-fx/many-fx.txt unreadable fatal"}, text: "malformed metadata",
		},
		"grants torn": {
			damage: func(d tree) { must(d.t, os.Truncate(d.path(manyShelf), 700)) },
			want:   []string{"/extra-fx/many-fx.txt unreadable fatal"}, text: "malformed metadata",
		},
		"grants a folder": {
			damage: func(d tree) { d.remove(manyShelf); must(d.t, os.Mkdir(d.path(manyShelf), 0o700)) },
			want:   []string{"/extra-fx/many-fx.txt unreadable fatal"}, text: "not a regular file",
		},

		"space id lost": {
			damage: func(d tree) { d.strip(posixAdmin, attrSpaceID) },
			want:   []string{"Admin broken fatal"}, text: "has lost its extended attribute user.oc.space.id",
		},
		"space name lost": {
			damage: func(d tree) { d.strip("projects/1846b8a2-50c8-44ad-8509-91b99060018e", attrSpaceName) },
			want:   []string{" broken fatal"}, text: "has lost user.oc.space.name",
		},
		"owner lost": {
			damage: func(d tree) { d.strip(posixAdmin, attrOwnerID) },
			want:   []string{"Admin broken fatal"}, text: "nobody may open it",
		},
		"a space copied": {
			damage: func(d tree) {
				d.copy("projects/1846b8a2-50c8-44ad-8509-91b99060018e", "projects/copy")
			},
			want: []string{"Project fx broken"}, text: "a copy of it?",
		},
		"a space that was being purged": {
			damage: func(d tree) {
				d.unlist("project", "1846b8a2-50c8-44ad-8509-91b99060018e")
				d.stripAll("projects/1846b8a2-50c8-44ad-8509-91b99060018e")
			},
			want: []string{" broken"}, text: "a space that it was removing",
		},
		"a space that has lost all attributes": {
			damage: func(d tree) { d.stripAll("projects/1846b8a2-50c8-44ad-8509-91b99060018e") },
			want:   []string{" broken fatal", "/plan-fx.dat broken fatal"}, text: "has lost its extended attribute user.oc.space.id",
		},
		"a damaged index of spaces": {
			damage: func(d tree) { d.write("indexes/by-type/project.mpk", "\x81") },
			want:   []string{"Project fx unreadable", "Alan Turing unreadable", "Carol fx unreadable", "Many 14 fx unreadable", "Admin unreadable", "Disabled fx unreadable"}, text: "OpenCloud's index of spaces can't be read: indexes/by-type/project.mpk",
		},
		"a space that is gone": {
			damage: func(d tree) { d.remove("projects/1846b8a2-50c8-44ad-8509-91b99060018e") },
			want:   []string{"1846b8a2-50c8-44ad-8509-91b99060018e broken"}, text: "removed behind OpenCloud's back",
		},
		"a space behind a symbolic link": {
			damage: func(d tree) {
				other := d.t.TempDir()
				must(d.t, os.Rename(d.path("projects"), other+"/projects"))
				must(d.t, os.Symlink(other+"/projects", d.path("projects")))
			},
			want: []string{"1846b8a2-50c8-44ad-8509-91b99060018e broken fatal", "d8c4bbbd-9716-4071-aad4-1e2485d02d93 broken fatal"}, text: "which the backup does not follow",
		},
		"a copy of a space without attributes": {
			damage: func(d tree) {
				must(d.t, os.Mkdir(d.path("projects/copy"), 0o700))
				d.write("projects/copy/file.txt", "text")
			},
			want: []string{" broken", "/file.txt broken"}, text: "or a copy of one?",
		},

		"a folder that can't be listed": {
			damage: func(tree) {}, fail: failing{list: map[string]bool{posixAdmin + "/docs-fx/deep": true}},
			want: []string{"/docs-fx/deep unreadable fatal"}, text: "permission denied",
		},
		"attributes that can't be read": {
			damage: func(tree) {}, fail: failing{attrs: map[string]bool{manyFile: true}},
			want: []string{"/extra-fx/many-fx.txt unreadable fatal"}, text: "permission denied",
		},
		"a space that can't be listed": {
			damage: func(tree) {}, fail: failing{list: map[string]bool{"projects/1846b8a2-50c8-44ad-8509-91b99060018e": true}},
			want: []string{"Project fx unreadable fatal"}, text: "can't be listed",
		},
		"a trash that can't be listed": {
			damage: func(tree) {}, fail: failing{list: map[string]bool{posixAdmin + "/.Trash/files": true}},
			want: []string{"Admin unreadable fatal", "trash:/extra-fx/gone-fx broken", "trash:/trashed-fx.txt broken"}, text: "the trash can't be listed",
		},
		"versions that can't be listed": {
			damage: func(tree) {}, fail: failing{list: map[string]bool{posixAdmin + "/.oc-nodes/54/8b/3c/5e": true}},
			want: []string{"/extra-fx/a/chain-fx.txt unreadable fatal"}, text: "its versions can't be listed",
		},

		"an id twice": {
			damage: func(d tree) { d.copy(chainFile, posixAdmin+"/extra-fx/a/chain-fx.txt.copy") },
			want:   []string{"/extra-fx/a/chain-fx.txt.copy broken"}, text: "has the id of another",
		},
		"a folder copied": {
			damage: func(d tree) { d.copy(posixAdmin+"/shared-fx", posixAdmin+"/shared-fx.copy") },
			want:   []string{"/shared-fx.copy broken", "/shared-fx.copy/inside-fx.txt broken"}, text: "takes it for a copy",
		},
		"moved on disk": {
			damage: func(d tree) { d.rename(chainFile, posixAdmin+"/docs-fx/chain-fx.txt") },
			want:   []string{"/docs-fx/chain-fx.txt broken"}, text: "moved behind OpenCloud's back",
		},
		"renamed on disk": {
			damage: func(d tree) { d.rename(chainFile, posixAdmin+"/extra-fx/a/other.txt") },
			want:   []string{"/extra-fx/a/other.txt broken"}, text: "renamed behind OpenCloud's back",
		},
		"a parent that is not there": {
			damage: func(d tree) { d.set(chainFile, attrParentID, "00000000-0000-4000-8000-000000000000") },
			want:   []string{"/extra-fx/a/chain-fx.txt broken fatal"}, text: "which is not there",
		},
		"its own parent": {
			damage: func(d tree) {
				d.set(posixAdmin+"/extra-fx/a", attrParentID, d.get(posixAdmin+"/extra-fx/a", attrID))
			},
			want: []string{"/extra-fx/a broken fatal"}, text: "lies in itself",
		},
		"a circle of parents": {
			damage: func(d tree) {
				d.set(posixAdmin+"/extra-fx", attrParentID, d.get(posixAdmin+"/extra-fx/a/b", attrID))
			},
			want: []string{"/extra-fx broken fatal"}, text: "lies in itself",
		},

		"put there by hand": {
			damage: func(d tree) {
				must(d.t, os.MkdirAll(d.path(posixAdmin+"/by/hand"), 0o700))
				d.write(posixAdmin+"/by/hand/new.txt", "new")
			},
			want: []string{"/by broken", "/by/hand broken", "/by/hand/new.txt broken"}, text: "has not met it yet",
		},
		"edited on disk": {
			damage: func(d tree) { d.write(manyFile, "edited by hand, and longer") },
			want:   []string{"/extra-fx/many-fx.txt broken"}, text: "was changed on disk",
		},
		"symbolic link, pipe": {
			damage: func(d tree) {
				must(d.t, os.Symlink("/", d.path(posixAdmin+"/link")))
				must(d.t, unix.Mkfifo(d.path(posixAdmin+"/pipe"), 0o600))
			},
			want: []string{"/link broken", "/pipe broken"}, text: "a symbolic link: OpenCloud does not show it",
		},
		"locks, and what is being written": {
			damage: func(d tree) {
				for _, name := range []string{"/a.mlock", "/docs-fx/b.flock", "/.oc-tmp/upload", "/.oc-nodes/54/8b/3c/5e/-79a6-4ece-b67e-465e4d5fce64.REV.x.mlock"} {
					d.write(posixAdmin+name, "")
				}
			},
		},

		"trash info gone": {
			damage: func(d tree) { d.remove(trashNote) },
			want:   []string{"trash:/f58d7ba3-b0c7-4d00-bebb-57aa6bf47226 broken fatal"}, text: "does not list it in the trash",
		},
		"trash info of nothing": {
			damage: func(d tree) { d.write(trashNote, "x") },
			want:   []string{"trash:/f58d7ba3-b0c7-4d00-bebb-57aa6bf47226 broken fatal"}, text: "does not tell where it was",
		},
		"trash info that leads out": {
			damage: func(d tree) {
				d.write(trashNote, "[Trash Info]\nPath=../../etc/passwd\nDeletionDate=2026-11-23T04:13:04")
			},
			want: []string{"trash:/f58d7ba3-b0c7-4d00-bebb-57aa6bf47226 broken fatal"}, text: "does not tell where it was",
		},
		"trash info without a date": {
			damage: func(d tree) { d.write(trashNote, "[Trash Info]\nPath=trashed-fx.txt") },
			want:   []string{"trash:/trashed-fx.txt broken"}, text: "when it was deleted",
		},
		"a malformed date": {
			damage: func(d tree) { d.write(trashNote, "[Trash Info]\nPath=trashed-fx.txt\nDeletionDate=yesterday") },
			want:   []string{"trash:/trashed-fx.txt broken fatal"}, text: "malformed date",
		},
		"an item of the trash gone": {
			damage: func(d tree) { d.remove(inTrash) },
			want:   []string{"trash:/trashed-fx.txt broken"}, text: "nothing is left",
		},
		"an item of the trash without an id": {
			damage: func(d tree) { d.strip(inTrash, attrID) },
			want:   []string{"trash:/trashed-fx.txt broken fatal"}, text: "can't restore it",
		},
		"something else in the trash": {
			damage: func(d tree) { d.write(posixAdmin+"/.Trash/files/other", "other") },
			want:   []string{"trash:/other broken"}, text: "did not put it there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := tree{t, recorded(t, "opencloud-4.0-posix")}
			tc.damage(d)
			tc.fail.Tree = Disk(d.root)
			res := readTree(t, Options{Tree: tc.fail, Driver: opencloud.Posix})
			if got := res.problems(); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			if !strings.Contains(res.texts(), tc.text) || strings.Contains(res.texts(), d.root) {
				t.Errorf("the words are %s", res.texts())
			}
		})
	}
}

// TestPosixEdited: of a file that was changed on disk the catalog has what is there, as
// OpenCloud will; a file system that keeps less of times is no change.
func TestPosixEdited(t *testing.T) {
	d := tree{t, recorded(t, "opencloud-4.0-posix")}
	d.write(manyFile, "edited by hand, and longer")
	coarse := time.Date(2026, 11, 23, 4, 13, 21, 0, time.UTC)
	must(t, os.Chtimes(d.path(chainFile), coarse, coarse))
	res := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
	if n := res.node(t, "/extra-fx/many-fx.txt"); n.Size != 26 || n.SHA1+n.MD5+n.Adler32 != "" || time.Since(n.MTime) > time.Hour {
		t.Errorf("got %+v", n)
	}
	if n := res.node(t, "/extra-fx/a/chain-fx.txt"); n.SHA1 == "" || n.Problem != nil {
		t.Errorf("got %+v", n)
	}
}

// TestPosixCopied: versions belong to one file, not to its copies as well.
func TestPosixCopied(t *testing.T) {
	d := tree{t, recorded(t, "opencloud-4.0-posix")}
	d.copy(chainFile, posixAdmin+"/extra-fx/a/chain-fx.txt.copy")
	res := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
	for _, n := range res.nodes {
		if n.Version != "" && n.Path == "/extra-fx/a/chain-fx.txt.copy" {
			t.Errorf("a copy has the version %s", n.Version)
		}
	}
}

// node is the live node of a path, in any space.
func (r *result) node(t *testing.T, path string) *catalog.Node {
	t.Helper()
	for i := range r.nodes {
		if n := &r.nodes[i]; n.Path == path && n.Trash == "" && n.Version == "" {
			return n
		}
	}
	t.Fatalf("no node %q", path)
	return nil
}

// What lies beside the spaces and is none is nobody's loss: files of an admin's, the
// directories of file systems and of snapshots. A README beside them hides no space.
func TestPosixForeignDirectories(t *testing.T) {
	root := recorded(t, "opencloud-4.0-posix")
	want := readTree(t, Options{Tree: Disk(root), Driver: opencloud.Posix})
	for _, name := range []string{"odd/plain", "lost+found/#17", ".snapshots/1/users/x/file", "users/README", "README"} {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte("text"), 0o600))
	}
	got := readTree(t, Options{Tree: Disk(root), Driver: opencloud.Posix})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the catalog has changed: %d spaces (%d), %d nodes (%d), %v", len(got.spaces), len(want.spaces), len(got.nodes), len(want.nodes), got.problems())
	}
}

// Templates may name the directory of a space by its user, who may have any name.
func TestPosixHiddenSpace(t *testing.T) {
	d := tree{t, recorded(t, "opencloud-4.0-posix")}
	want := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
	d.rename(posixAdmin, "users/.admin")
	got := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
	if len(got.spaces) != len(want.spaces) || len(got.nodes) != len(want.nodes) || len(got.problems()) > 0 {
		t.Errorf("%d spaces (%d), %d nodes (%d), %v", len(got.spaces), len(want.spaces), len(got.nodes), len(want.nodes), got.problems())
	}
}

// Every space has an id of its own, whatever directories are called.
func TestPosixSpaceIDs(t *testing.T) {
	d := tree{t, recorded(t, "opencloud-4.0-posix")}
	const project = "projects/1846b8a2-50c8-44ad-8509-91b99060018e"
	d.set(project, attrSpaceID, "projects/lost")
	for _, dir := range []string{"projects/lost", "projects/a\xfe", "projects/a\xff"} {
		must(t, os.Mkdir(d.path(dir), 0o700))
		d.write(dir+"/file.txt", "text")
	}
	res := readTree(t, Options{Tree: Disk(d.root), Driver: opencloud.Posix})
	ids := map[string]string{}
	for _, s := range res.spaces {
		ids[s.Dir] = s.ID
	}
	for dir, id := range map[string]string{
		project: "projects/lost", "projects/lost": "projects/lost~", "projects/a\xfe": "projects/a\uFFFD", "projects/a\xff": "projects/a\uFFFD~",
	} {
		if ids[dir] != id {
			t.Errorf("%q has the id %q, want %q", dir, ids[dir], id)
		}
	}
}
