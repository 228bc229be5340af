package storedtree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud/nodes"
	"github.com/ocbackup/ocbackup/repo"
)

// counted counts restic's processes by command.
type counted struct {
	*repo.Repo
	ls, cat, dump, restore atomic.Int32
}

func (c *counted) Ls(ctx context.Context, snapshot, dir string, fn func(repo.Node) error) error {
	c.ls.Add(1)
	return c.Repo.Ls(ctx, snapshot, dir, fn)
}

func (c *counted) EachInTree(ctx context.Context, snapshot, dir string, fn func(*repo.TreeNode) error) error {
	c.cat.Add(1)
	return c.Repo.EachInTree(ctx, snapshot, dir, fn)
}

func (c *counted) Dump(ctx context.Context, snapshot, file string, w io.Writer) error {
	c.dump.Add(1)
	return c.Repo.Dump(ctx, snapshot, file, w)
}

func (c *counted) Restore(ctx context.Context, s repo.RestoreSpec) (repo.RestoreSummary, error) {
	c.restore.Add(1)
	return c.Repo.Restore(ctx, s)
}

func (c *counted) String() string {
	return fmt.Sprintf("ls %d, cat %d, dump %d, restore %d", c.ls.Load(), c.cat.Load(), c.dump.Load(), c.restore.Load())
}

func eachRestic(t *testing.T, f func(t *testing.T, binary string)) {
	t.Parallel()
	for _, v := range []string{"0.18", "0.19"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			f(t, env.Restic(t, v))
		})
	}
}

// newRepo makes a repository whose key costs nothing to derive: see package repo.
func newRepo(t *testing.T, binary string) *counted {
	t.Helper()
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "repo"), os.DirFS("../repo/testdata/repo")))
	for _, d := range []string{"data", "index", "locks", "snapshots"} {
		check(t, os.Mkdir(filepath.Join(dir, "repo", d), 0o700))
	}
	check(t, os.WriteFile(filepath.Join(dir, "password"), []byte("correct horse\n"), 0o600))
	return &counted{Repo: repo.New(repo.Options{
		Binary: binary, Location: filepath.Join(dir, "repo"), PasswordFile: filepath.Join(dir, "password"), CacheDir: filepath.Join(dir, "cache"),
	})}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a tree on disk, and how it was when it was stored.
type site struct {
	t            *testing.T
	live, stored string
}

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	s := &site{t: t, live: filepath.Join(dir, "storage", "users"), stored: filepath.Join(dir, "stored")}
	check(t, os.MkdirAll(s.live, 0o700))
	err := unix.Setxattr(s.live, "user.oc.id", []byte("root"), 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("the temporary folder's file system takes no user xattrs: set TMPDIR to one that does")
	}
	check(t, err)
	return s
}

func (s *site) path(rel string) string { return filepath.Join(s.live, rel) }

// write writes a file, with attributes.
func (s *site) write(rel, content string, attrs ...string) {
	s.t.Helper()
	check(s.t, os.MkdirAll(filepath.Dir(s.path(rel)), 0o700))
	check(s.t, os.WriteFile(s.path(rel), []byte(content), 0o600))
	s.set(rel, attrs...)
}

// set sets attributes: names and values.
func (s *site) set(rel string, attrs ...string) {
	s.t.Helper()
	for i := 0; i < len(attrs); i += 2 {
		check(s.t, unix.Setxattr(s.path(rel), attrs[i], []byte(attrs[i+1]), 0))
	}
}

// keep remembers how the tree is now.
func (s *site) keep() {
	s.t.Helper()
	if out, err := exec.Command("cp", "-a", "--reflink=auto", s.live, s.stored).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// same compares a tree with how it was when it was stored.
func (s *site) same(tree nodes.Tree) {
	s.t.Helper()
	want := nodes.Disk(s.stored)
	n := 0
	var compare func(p string)
	compare = func(p string) {
		n++
		a, err := want.List(s.t.Context(), p)
		check(s.t, err)
		b, err := tree.List(s.t.Context(), p)
		if err != nil {
			s.t.Errorf("list %q: %v", p, err)
			return
		}
		if !slices.EqualFunc(a, b, func(a, b nodes.Entry) bool {
			return a.Name == b.Name && a.Type == b.Type && a.MTime.Equal(b.MTime) && (a.Size == b.Size || !a.Type.IsRegular())
		}) {
			s.t.Errorf("list %q:\n got %v\nwant %v", p, b, a)
		}
		s.sameAttrs(want, tree, p)
		for _, e := range a {
			at := path.Join(p, e.Name)
			switch {
			case e.Type.IsDir():
				compare(at)
			case e.Type.IsRegular():
				s.sameAttrs(want, tree, at)
				x, err1 := want.Read(s.t.Context(), at, 8<<20)
				y, err2 := tree.Read(s.t.Context(), at, 8<<20)
				if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
					s.t.Errorf("read %q: %.40q, %v, want %.40q, %v", at, y, err2, x, err1)
				}
			case e.Type == fs.ModeSymlink:
				x, err1 := want.Link(s.t.Context(), at)
				y, err2 := tree.Link(s.t.Context(), at)
				if err1 != nil || err2 != nil || x != y {
					s.t.Errorf("link %q: %q, %v, want %q, %v", at, y, err2, x, err1)
				}
			}
		}
	}
	compare(".")
	if n < 5 {
		s.t.Errorf("only %d directories were compared", n)
	}
}

func (s *site) sameAttrs(want, tree nodes.Tree, p string) {
	s.t.Helper()
	all := func(name string) bool { return name != "user.oc.unwanted" }
	x, err1 := want.Attrs(s.t.Context(), p, all)
	y, err2 := tree.Attrs(s.t.Context(), p, all)
	if err1 != nil || err2 != nil || fmt.Sprintf("%q", x) != fmt.Sprintf("%q", y) {
		s.t.Errorf("attributes of %q: %.200q, %v, want %.200q, %v", p, y, err2, x, err1)
	}
}

// sameFiles compares Files.
func (s *site) sameFiles(tree *Tree) {
	s.t.Helper()
	want, got := map[string]int64{}, map[string]int64{}
	check(s.t, filepath.WalkDir(s.stored, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			st, err := d.Info()
			check(s.t, err)
			rel, _ := filepath.Rel(s.stored, p)
			want[rel] = st.Size()
		}
		return err
	}))
	check(s.t, tree.Files(func(rel string, size int64) error {
		if _, ok := got[rel]; ok {
			s.t.Errorf("%q comes twice", rel)
		}
		got[rel] = size
		return nil
	}))
	if !maps.Equal(want, got) {
		s.t.Errorf("files:\n got %#v\nwant %#v", got, want)
	}
}

func (s *site) open(r Repo, stored ...Stored) *Tree {
	s.t.Helper()
	tree, err := Open(s.t.Context(), Options{Repo: r, Stored: stored, Live: s.live, TempDir: s.t.TempDir()})
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, tree.Close()) })
	return tree
}

// later gives the tree's inodes other ctimes than what is changed next: both could
// fall into one tick of the kernel's clock, which a stopped server's never do.
func (s *site) later() {
	s.t.Helper()
	probe := filepath.Join(s.t.TempDir(), "probe")
	ctime := func() int64 {
		check(s.t, os.WriteFile(probe, nil, 0o600))
		check(s.t, os.Chmod(probe, 0o600))
		var st unix.Stat_t
		check(s.t, unix.Stat(probe, &st))
		return st.Ctim.Nano()
	}
	for first := ctime(); ctime() == first; {
		// until the clock has moved on
	}
}

func (s *site) posix() {
	s.set(".", "user.oc.id", "root", "user.oc.unwanted", "x")
	for i := range 12 {
		f := fmt.Sprintf("users/alan/docs/file %02d.odt", i)
		s.write(f, strings.Repeat("x", i*100), "user.oc.id", fmt.Sprint("id", i), "user.oc.blobsize", fmt.Sprint(i*100), "user.oc.bin", "\x00\xff\n", "user.other", "no")
	}
	s.set("users/alan/docs", "user.oc.id", "docs", "user.oc.name", "docs")
	s.set("users/alan", "user.oc.id", "alan", "user.oc.empty", "")
	s.write("users/alan/caf\xe9/menu \xff.txt", "lossy", "user.oc.id", "m1")
	s.write("users/alan/caf\xe9/menu \xfe.txt", "lossy too", "user.oc.id", "m2")
	s.write("users/alan/caf\xe8/other.txt", "of the same form", "user.oc.id", "m3", "user.oc.long", strings.Repeat("v", 1500))
	s.set("users/alan/caf\xe9", "user.oc.id", "c1")
	s.set("users/alan/caf\xe8", "user.oc.id", "c2")
	s.write("users/alan/real \uFFFD", "no lossy name")
	s.write("users/alan/odd/new\nline [*] \\ $HOME? ", "odd", "user.oc.id", "odd")
	s.write("users/alan/odd/"+strings.Repeat("é", 127), "long", "user.oc.id", "long")
	s.write("users/alan/odd/aä", "ae", "user.oc.id", "ae")
	s.write("users/alan/odd/a/b", "before its sibling", "user.oc.id", "b")
	s.write("users/alan/odd/a-b", "a-b", "user.oc.id", "a-b")
	s.write("users/alan/big/large.bin", strings.Repeat("0123456789abcdef", (bulkFile+100)/16), "user.oc.id", "large")
	s.write("users/bob/keep.txt", "kept", "user.oc.id", "keep")
	s.write("users/bob/.oc-nodes/ab/cd/node.mpk", "\x81\xa1x", "user.oc.id", "mpk")
	s.write("users/bob/.Trash/info/1.trashinfo", "[Trash Info]\nPath=x\n")
	s.write("users/bob/.Trash/files/1", "deleted", "user.oc.id", "trash")
	check(s.t, os.MkdirAll(s.path("users/bob/empty"), 0o700))
	s.set("users/bob/empty", "user.oc.id", "empty")
	check(s.t, os.MkdirAll(s.path("indexes/by-type"), 0o700))
	check(s.t, os.Symlink("../../nodes/ab/cd", s.path("indexes/by-type/one")))
	check(s.t, os.Symlink("to \xff", s.path("indexes/by-type/two")))
	check(s.t, unix.Mkfifo(s.path("indexes/fifo"), 0o600))
	check(s.t, os.Chtimes(s.path("users/alan/docs/file 03.odt"), time.Time{}, time.Unix(1234567890, 123456789)))
}

// change does to the tree what a running server, and an admin, may.
func (s *site) change() {
	docs := "users/alan/docs/"
	s.write(docs+"file 01.odt", "other content", "user.oc.id", "id1x")
	s.set(docs+"file 02.odt", "user.oc.blobsize", "7") // attributes only
	check(s.t, unix.Removexattr(s.path(docs+"file 03.odt"), "user.oc.id"))
	check(s.t, os.Remove(s.path(docs+"file 04.odt")))
	check(s.t, os.Rename(s.path(docs+"file 05.odt"), s.path(docs+"file 06.odt")))
	// Replaced by one of the same size and mtime.
	var st unix.Stat_t
	check(s.t, unix.Stat(s.path(docs+"file 07.odt"), &st))
	s.write(docs+"tmp", strings.Repeat("y", 700), "user.oc.id", "id7")
	check(s.t, os.Chtimes(s.path(docs+"tmp"), time.Time{}, time.Unix(st.Mtim.Unix())))
	check(s.t, os.Rename(s.path(docs+"tmp"), s.path(docs+"file 07.odt")))
	// A folder, a link, a pipe where a file was.
	for i, f := range []string{"file 08.odt", "file 09.odt", "file 10.odt"} {
		check(s.t, os.Remove(s.path(docs+f)))
		switch i {
		case 0:
			s.write(docs+f+"/x", "x")
		case 1:
			check(s.t, os.Symlink("/etc/passwd", s.path(docs+f)))
		case 2:
			check(s.t, unix.Mkfifo(s.path(docs+f), 0o600))
		}
	}
	s.write(docs+"new.odt", "new", "user.oc.id", "new")
	s.set("users/alan/docs", "user.oc.name", "renamed")
	s.set("users/alan/caf\xe9/menu \xff.txt", "user.oc.id", "m1x")
	s.write("users/alan/caf\xe8/other.txt", "changed")
	s.write("users/alan/odd/new\nline [*] \\ $HOME? ", "changed")
	s.write("users/alan/odd/aä", "ch")
	s.set("users/alan/big/large.bin", "user.oc.id", "largex")
	s.set("users/alan/big", "user.oc.id", "bigx")
	s.write("users/bob/.oc-nodes/ab/cd/node.mpk", "\x82\xa1x")
	check(s.t, os.Remove(s.path("users/bob/.Trash/info/1.trashinfo")))
	check(s.t, os.Remove(s.path("users/bob/.Trash/files/1")))
	s.set("users/bob/empty", "user.oc.id", "emptyx")
	s.write("users/bob/empty/no longer", "x")
	check(s.t, os.Remove(s.path("indexes/by-type/one")))
	check(s.t, os.Symlink("../../nodes/xx", s.path("indexes/by-type/one")))
	check(s.t, os.Remove(s.path("indexes/by-type/two")))
	s.set(".", "user.oc.id", "rootx")
}

func (s *site) backup(r *counted, targets []string, exclude ...string) string {
	s.t.Helper()
	sum, err := r.Backup(s.t.Context(), repo.BackupSpec{Dir: filepath.Dir(s.live), Targets: targets, Exclude: exclude})
	check(s.t, err)
	return sum.SnapshotID
}

func TestPosix(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, s := newRepo(t, binary), newSite(t)
		s.posix()
		s.keep()
		id := s.backup(r, []string{"users"})
		s.later()

		quiet := s.open(r, Stored{Snapshot: id, Entry: "users"})
		s.same(quiet)
		s.sameFiles(quiet)
		// caf\xe9, alan (two folders of one form), and the file with a real U+FFFD.
		if r.ls.Load() != 1 || r.cat.Load() > 2 || r.dump.Load()+r.restore.Load() > 0 {
			t.Errorf("processes for a tree that has not changed: %s", r)
		}

		s.change()
		s.same(quiet)
		busy := s.open(r, Stored{Snapshot: id, Entry: "users"})
		r.cat.Store(0)
		r.dump.Store(0)
		r.restore.Store(0)
		s.same(busy)
		s.sameFiles(busy)
		if r.restore.Load() != 1 || r.dump.Load() > 1 || r.cat.Load() > 5 {
			t.Errorf("processes for a tree that has changed: %s", r)
		}

		// Nothing is left of it on disk: all comes from the repository.
		check(t, os.Rename(s.live, s.live+".away"))
		s.same(s.open(r, Stored{Snapshot: id, Entry: "users"}))
	})
}

// TestWithoutBulk can bring nothing at once.
func TestWithoutBulk(t *testing.T) {
	t.Parallel()
	r, s := newRepo(t, env.Restic(t, "0.18")), newSite(t)
	s.posix()
	s.keep()
	id := s.backup(r, []string{"users"})
	s.later()
	s.change()
	broken := &noRestore{r}
	tree := s.open(broken, Stored{Snapshot: id, Entry: "users"})
	s.same(tree)
	before := r.String()
	if r.cat.Load() > 18 || r.dump.Load() > 20 { // a process for a directory, not for each file in it
		t.Errorf("processes: %s", before)
	}
	s.same(tree)
	if now := r.String(); now != before {
		t.Errorf("read from the repository again: %s, then %s", before, now)
	}
}

type noRestore struct{ *counted }

func (*noRestore) Restore(context.Context, repo.RestoreSpec) (repo.RestoreSummary, error) {
	return repo.RestoreSummary{}, errors.New("no space left on device")
}

// TestErr has a repository that goes away once it has been listed.
func TestErr(t *testing.T) {
	t.Parallel()
	r, s := newRepo(t, env.Restic(t, "0.18")), newSite(t)
	s.write("a/file", "content", "user.oc.id", "1")
	id := s.backup(r, []string{"users"})
	s.later()
	gone := &goneRepo{noRestore{r}}
	tree := s.open(gone, Stored{Snapshot: id, Entry: "users"})
	all := func(string) bool { return true }
	check(t, second(tree.Attrs(t.Context(), "a/file", all)))
	if err := second(tree.Attrs(t.Context(), "a/none", all)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	check(t, tree.Err())
	s.write("a/file", "changed", "user.oc.id", "2")
	for _, err := range []error{second(tree.Attrs(t.Context(), "a/file", all)), second(tree.Read(t.Context(), "a/file", 1<<10)), tree.Err()} {
		if !errors.Is(err, errGone) {
			t.Errorf("%v", err)
		}
	}
}

type goneRepo struct{ noRestore }

var errGone = errors.New("connection refused")

func (*goneRepo) EachInTree(context.Context, string, string, func(*repo.TreeNode) error) error {
	return errGone
}

func (*goneRepo) Dump(context.Context, string, string, io.Writer) error { return errGone }

// TestDecomposed has the blobs in a snapshot of their own, stored by many targets.
func TestDecomposed(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, s := newRepo(t, binary), newSite(t)
		var blobs []string
		for i := range 2 {
			space := fmt.Sprintf("spaces/a%d/cdef-%d", i, i)
			for k := range 12 {
				node := fmt.Sprintf("%s/nodes/%02d/aa/bb/cc/-rest", space, k)
				s.write(node+".mpk", fmt.Sprintf("\x81 node %d", k))
				s.write(node+".mlock", "")
				check(t, os.MkdirAll(s.path(node), 0o700))
				check(t, os.Symlink("../../../../xx/-child", s.path(node+"/name.txt")))
				s.write(fmt.Sprintf("%s/blobs/%02d/aa/bb/cc/-rest", space, k), strings.Repeat("b", k))
			}
			blobs = append(blobs, "users/"+space+"/blobs")
		}
		s.write("indexes/by-user-id/u.mpk", "\x80")
		s.keep()
		id := s.backup(r, []string{"users"}, s.live+"/spaces/*/*/blobs")
		blobsID := s.backup(r, blobs)
		s.later()
		for i := range 2 {
			space := fmt.Sprintf("spaces/a%d/cdef-%d", i, i)
			s.write(space+"/nodes/03/aa/bb/cc/-rest.mpk", "\x82 node, changed")
			check(t, os.Remove(s.path(space+"/nodes/04/aa/bb/cc/-rest.mpk")))
			check(t, os.Remove(s.path(space+"/nodes/05/aa/bb/cc/-rest/name.txt")))
			s.write(space+"/nodes/77/aa/bb/cc/-rest.mpk", "\x81 new")
		}
		check(t, os.RemoveAll(s.path("spaces/a0/cdef-0/blobs/06")))
		s.write("indexes/by-user-id/u.mpk", "\x81")
		tree := s.open(r, Stored{Snapshot: "", Entry: "users"}, Stored{Snapshot: id, Entry: "users"}, Stored{Snapshot: blobsID, Entry: "users"})
		s.sameFiles(tree)
		if r.ls.Load() != 2 || r.cat.Load()+r.dump.Load()+r.restore.Load() > 0 {
			t.Errorf("processes for a list: %s", r)
		}
		tree = s.open(r, Stored{Snapshot: id, Entry: "users"}, Stored{Snapshot: blobsID, Entry: "users"})
		for i := range 2 {
			for k := range 12 {
				p := fmt.Sprintf("spaces/a%d/cdef-%d/nodes/%02d/aa/bb/cc/-rest.mpk", i, i, k)
				if b, err := tree.Read(t.Context(), p, 100); err != nil || string(b) != fmt.Sprintf("\x81 node %d", k) {
					t.Errorf("%s: %q, %v", p, b, err)
				}
			}
		}
		if r.cat.Load()+r.dump.Load() > 0 || r.restore.Load() != 1 {
			t.Errorf("processes for metadata that has changed: %s", r)
		}
		s.same(tree)
		// Changed after the others were brought.
		late := "spaces/a1/cdef-1/nodes/11/aa/bb/cc/-rest.mpk"
		s.write(late, "\x82 later")
		if b, err := tree.Read(t.Context(), late, 100); err != nil || string(b) != "\x81 node 11" || r.dump.Load() == 0 {
			t.Errorf("%q, %v, %s", b, err, r)
		}
	})
}

func TestErrors(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, s := newRepo(t, binary), newSite(t)
		s.write("a/f", "content")
		check(t, os.Symlink("f", s.path("a/l")))
		id := s.backup(r, []string{"users"})
		s.write("a/later", "not stored")
		tree := s.open(r, Stored{Snapshot: id, Entry: "users"})
		all := func(string) bool { return true }
		for what, c := range map[string]struct {
			err  error
			want error
		}{
			"list nothing":   {second(tree.List(t.Context(), "no")), fs.ErrNotExist},
			"list later":     {second(tree.List(t.Context(), "a/later")), fs.ErrNotExist},
			"list a file":    {second(tree.List(t.Context(), "a/f")), errNotDir},
			"below a file":   {second(tree.Read(t.Context(), "a/f/g", 10)), errNotDir},
			"upwards":        {second(tree.Read(t.Context(), "a/../a/f", 10)), fs.ErrInvalid},
			"out of it":      {second(tree.Read(t.Context(), "../users/a/f", 10)), fs.ErrInvalid},
			"absolute":       {second(tree.Read(t.Context(), "/a/f", 10)), fs.ErrInvalid},
			"read later":     {second(tree.Read(t.Context(), "a/later", 10)), fs.ErrNotExist},
			"read a folder":  {second(tree.Read(t.Context(), "a", 10)), errNotFile},
			"read a link":    {second(tree.Read(t.Context(), "a/l", 10)), errNotFile},
			"read too much":  {second(tree.Read(t.Context(), "a/f", 6)), errTooLarge},
			"attributes":     {second(tree.Attrs(t.Context(), "a/later", all)), fs.ErrNotExist},
			"link of a file": {second(tree.Link(t.Context(), "a/f")), errNotLink},
		} {
			var p *fs.PathError
			if !errors.Is(c.err, c.want) || !errors.As(c.err, &p) {
				t.Errorf("%s: %v", what, c.err)
			}
		}
		for files, whole := range map[uint64]bool{1: true, 2: false} { // the link is none
			tree, err := Open(t.Context(), Options{Repo: r, Stored: []Stored{{Snapshot: id, Entry: "users", Files: files}}, Live: s.live})
			if (err == nil) != whole {
				t.Errorf("a list of one file where %d were stored: %v", files, err)
			}
			if err == nil {
				check(t, tree.Close())
			}
		}
		if _, err := Open(t.Context(), Options{Repo: r, Stored: []Stored{{Snapshot: id, Entry: "other"}}, Live: s.live}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an entry that the snapshot lacks: %v", err)
		}
		if _, err := Open(t.Context(), Options{Repo: r, Live: s.live}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no snapshots: %v", err)
		}
		enough := errors.New("enough")
		if err := tree.Files(func(string, int64) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("ended by its caller: %v", err)
		}
		// What is gone from the disk is asked for, and the repository is gone too.
		check(t, os.RemoveAll(s.live))
		check(t, os.RemoveAll(strings.TrimPrefix(r.Location(), "local:")))
		if _, err := tree.Read(t.Context(), "a/f", 10); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a repository: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestConcurrent reads everything from several goroutines at once.
func TestConcurrent(t *testing.T) {
	r, s := newRepo(t, env.Restic(t, "0.19")), newSite(t)
	s.posix()
	s.keep()
	id := s.backup(r, []string{"users"})
	s.later()
	s.change()
	tree := s.open(r, Stored{Snapshot: id, Entry: "users"})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { s.same(tree) })
	}
	wg.Wait()
}

// TestLargeDirectory has more entries than a stretch of the spool takes.
func TestLargeDirectory(t *testing.T) {
	list := &listOnly{}
	const n = 60_000
	list.add("/users", "dir")
	list.add("/users/a", "dir")
	for i := range n {
		p := fmt.Sprintf("/users/a/%06d", i)
		list.add(p, "file")
		if i%1000 == 0 {
			list.add(p+"d", "dir")
			list.add(p+"d/in it", "file")
		}
	}
	list.add("/users/b", "file")
	tree, err := Open(t.Context(), Options{Repo: list, Stored: []Stored{{Snapshot: "id", Entry: "users"}}, Live: t.TempDir(), TempDir: t.TempDir()})
	check(t, err)
	defer tree.Close()
	l, err := tree.List(t.Context(), "a")
	if err != nil || len(l) != n+n/1000 || !slices.IsSortedFunc(l, func(a, b nodes.Entry) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d entries, %v", len(l), err)
	}
	if l, err := tree.List(t.Context(), fmt.Sprintf("a/%06dd", n-1000)); err != nil || len(l) != 1 || l[0].Name != "in it" {
		t.Errorf("%v, %v", l, err)
	}
	files := 0
	check(t, tree.Files(func(string, int64) error { files++; return nil }))
	if files != n+n/1000+1 {
		t.Errorf("%d files", files)
	}
	bad := &listOnly{nodes: []repo.Node{{Path: "/users/x/y", Type: "file"}}}
	if _, err := Open(t.Context(), Options{Repo: bad, Stored: []Stored{{Snapshot: "id", Entry: "users"}}}); err == nil || !strings.Contains(err.Error(), "before the folder") {
		t.Errorf("a list in disorder: %v", err)
	}
}

// listOnly is a repository that can only be listed.
type listOnly struct {
	Repo
	nodes []repo.Node
}

func (l *listOnly) add(p, kind string) {
	l.nodes = append(l.nodes, repo.Node{Path: p, Type: kind, MTime: time.Unix(1, 0), CTime: time.Unix(2, 0), Inode: uint64(len(l.nodes))})
}

func (l *listOnly) Ls(_ context.Context, _, _ string, fn func(repo.Node) error) error {
	for _, n := range l.nodes {
		if err := fn(n); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkList lists a million files of a synthetic snapshot, and goes through them. Memory
// is what the Go runtime holds at the end.
func BenchmarkList(b *testing.B) {
	for b.Loop() {
		tree, err := Open(b.Context(), Options{Repo: million{}, Stored: []Stored{{Snapshot: "id", Entry: "users"}}, Live: b.TempDir(), TempDir: b.TempDir()})
		check(b, err)
		n := 0
		check(b, tree.Files(func(string, int64) error { n++; return nil }))
		if n != 1_000_000 {
			b.Fatal(n)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB-heap")
		check(b, tree.Close())
	}
}

// million is a repository of a million files, each in a directory of its own.
type million struct{ Repo }

func (million) Ls(_ context.Context, _, _ string, fn func(repo.Node) error) error {
	at := time.Unix(1, 0)
	put := func(p, kind string) error {
		return fn(repo.Node{Path: p, Type: kind, MTime: at, CTime: at, Inode: 7, Size: 9})
	}
	if err := put("/users", "dir"); err != nil {
		return err
	}
	for i := range 1000 {
		d := fmt.Sprintf("/users/%03d", i)
		if err := put(d, "dir"); err != nil {
			return err
		}
		for k := range 1000 {
			f := fmt.Sprintf("%s/%03d", d, k)
			if err := errors.Join(put(f, "dir"), put(f+"/0b4dd9f2-8c83-4b3c-a1a2-rest.mpk", "file")); err != nil {
				return err
			}
		}
	}
	return nil
}
