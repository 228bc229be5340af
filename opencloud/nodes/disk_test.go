package nodes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/opencloud"
)

// newDisk makes a tree beside a directory that no path may lead to.
func newDisk(t *testing.T) (root string, d *disk) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	must(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "outside/secret"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "a/b/file"), []byte("content"), 0o600))
	must(t, os.Symlink("../../outside", filepath.Join(root, "a/out")))
	must(t, os.Symlink("b", filepath.Join(root, "a/in")))
	must(t, os.Symlink("file", filepath.Join(root, "a/b/link")))
	must(t, unix.Mkfifo(filepath.Join(root, "a/b/pipe"), 0o600))
	return root, Disk(root).(*disk)
}

func TestDisk(t *testing.T) {
	ctx := context.Background()
	root, d := newDisk(t)
	stamp := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	must(t, os.Chtimes(filepath.Join(root, "a/b/file"), stamp, stamp))
	list, err := d.List(ctx, "a/b")
	must(t, err)
	if len(list) != 3 || list[0] != (Entry{Name: "file", Size: 7, MTime: stamp}) || list[1].Type != fs.ModeSymlink || list[2].Type != fs.ModeNamedPipe {
		t.Errorf("got %+v", list)
	}
	quick, err := d.Names(ctx, "a/b")
	must(t, err)
	for i := range list {
		if quick[i].Name != list[i].Name || quick[i].Type != list[i].Type {
			t.Errorf("Names: got %+v", quick)
		}
	}
	if b, err := d.Read(ctx, "a/b/file", 7); err != nil || string(b) != "content" {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := d.Read(ctx, "a/b/file", 6); !errors.Is(err, unix.EFBIG) {
		t.Errorf("more than the limit: got %q, %v", b, err)
	}
	if to, err := d.Link(ctx, "a/out"); err != nil || to != "../../outside" {
		t.Errorf("got %q, %v", to, err)
	}
	if _, err := d.List(ctx, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Disk(filepath.Join(root, "none")).List(ctx, "."); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestDiskStaysInside: neither a link nor a path leads out of the tree, or anywhere else.
func TestDiskStaysInside(t *testing.T) {
	ctx := context.Background()
	root, d := newDisk(t)
	all := func(string) bool { return true }
	for _, p := range []string{"a/out/secret", "a/in/file", "a/b/link", "../outside/secret", "a/../../outside/secret", filepath.Dir(root) + "/outside/secret", "a/b/pipe", "a/b"} {
		if b, err := d.Read(ctx, p, 100); err == nil {
			t.Errorf("Read(%q) = %q", p, b)
		}
		if p == "a/b" || p == "a/b/pipe" || p == "a/b/link" {
			continue // has attributes of its own
		}
		if a, err := d.Attrs(ctx, p, all); err == nil {
			t.Errorf("Attrs(%q) = %q", p, a)
		}
		if l, err := d.List(ctx, filepath.Dir(p)); err == nil {
			t.Errorf("List(%q) = %v", filepath.Dir(p), l)
		}
	}
	dir, err := os.Open(root)
	must(t, err)
	defer dir.Close()
	for p, ok := range map[string]bool{".": true, "a/b/file": true, "a/out/secret": false, "a/in/file": false, "a/b/link": false, "../outside": false, "a//b": false} {
		fd, err := openSteps(int(dir.Fd()), p, unix.O_RDONLY)
		if (err == nil) != ok {
			t.Errorf("openSteps(%q): %v", p, err)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}

// TestDiskAttrs: on new and on older kernels.
func TestDiskAttrs(t *testing.T) {
	ctx := context.Background()
	root, d := newDisk(t)
	if opencloud.XattrSupport(root) != nil {
		t.Skipf("%s takes no user extended attributes; set TMPDIR to a directory that does", root)
	}
	long := strings.Repeat("v", 3000)
	setAll(t, filepath.Join(root, "a/b/file"), map[string]string{attrID: "id", attrName: long, attrType: "", "user.other": "x", attrMTime: "unwanted"})
	setAll(t, root, map[string]string{attrID: "root"})
	defer older.Store(older.Load())
	for _, old := range []bool{false, true} {
		older.Store(old)
		a, err := d.Attrs(ctx, "a/b/file", func(name string) bool { return name != attrMTime })
		if err != nil || len(a) != 3 || string(a[attrID]) != "id" || string(a[attrName]) != long || a[attrType] == nil {
			t.Errorf("got %q, %v", a, err)
		}
		if a, err := d.Attrs(ctx, ".", wantNode); err != nil || string(a[attrID]) != "root" {
			t.Errorf("of the root: got %q, %v", a, err)
		}
		if a, err := d.Attrs(ctx, "a/b/link", wantNode); err != nil || len(a) != 0 {
			t.Errorf("of a link: got %q, %v", a, err)
		}
		if _, err := d.Attrs(ctx, "a/b/none", wantNode); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of nothing: got %v", err)
		}
	}
	// More directories than are kept open.
	for i := range 3 * cachedDirs {
		dir := filepath.Join("many", strings.Repeat("x", i+1))
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o700))
		must(t, os.WriteFile(filepath.Join(root, dir, "f"), nil, 0o600))
		if _, err := d.Attrs(ctx, dir+"/f", wantNode); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.dirs.byPath); n > cachedDirs {
		t.Errorf("%d directories are open", n)
	}
}

func TestHoldsBlob(t *testing.T) {
	yes := map[opencloud.Driver][]string{
		opencloud.Posix: {
			"users/admin/a.txt", "users/admin/.oc-nodes/aa/bb/cc/dd/-x.REV.2026-01-01T00:00:00Z", "users/admin/.Trash/files/k.trashitem",
			"users/admin/.Trash/files/k.trashitem/sub/f", "projects/p/indexes/x", "users/admin/uploads",
		},
		opencloud.Decomposed:   {"spaces/ab/cdef/blobs/aa/bb/cc/dd/-rest"},
		opencloud.DecomposedS3: {"space/aa/bb/cc/dd/-rest"},
	}
	no := map[opencloud.Driver][]string{
		opencloud.Posix: {
			"indexes/by-type/project.mpk", "uploads/x", "uploads/x.info", ".migrations", "users/admin.mlock", "users/admin/docs/x.flock",
			"users/admin/.oc-nodes/aa/bb/cc/dd/-x.mpk", "users/admin/.oc-nodes/locks/x.mlock", "users/admin/.oc-tmp/x",
			"users/admin/.Trash/info/k.trashinfo", "users/admin/.oc-nodes/locks/x.REV.2026.mlock", "changes/x",
		},
		opencloud.Decomposed:   {"spaces/ab/cdef/nodes/aa/bb/cc/dd/-rest.mpk", "spaces/ab/cdef/blobs", "indexes/x", "uploads/blobs"},
		opencloud.DecomposedS3: {"stray"},
	}
	for driver, paths := range yes {
		for _, p := range paths {
			if !HoldsBlob(driver, p) {
				t.Errorf("%s: %s is none", driver, p)
			}
		}
		for _, p := range no[driver] {
			if HoldsBlob(driver, p) {
				t.Errorf("%s: %s is one", driver, p)
			}
		}
	}
}

// TestDiskReleases: nothing keeps a snapshot from being unmounted.
func TestDiskReleases(t *testing.T) {
	root := recorded(t, "opencloud-4.0-posix")
	readTree(t, Options{Tree: Disk(root), Driver: opencloud.Posix})
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, root) {
			t.Errorf("%s is open", to)
		}
	}
}
