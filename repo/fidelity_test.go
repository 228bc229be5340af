package repo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFidelity stores and restores everything that a server's tree is made of.
func TestFidelity(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		src := filepath.Join(dir, "src", "users")
		makeTree(t, src)
		sum := backup(t, r, BackupSpec{Dir: filepath.Dir(src), Targets: []string{"users"}})
		want := describe(t, src)

		whole := filepath.Join(dir, "whole")
		res, err := r.Restore(ctx(t), RestoreSpec{Snapshot: sum.SnapshotID, Target: whole, Verify: true})
		if err != nil {
			t.Fatal(err)
		}
		if res.FilesRestored != res.TotalFiles || res.BytesRestored != res.TotalBytes || res.TotalFiles == 0 {
			t.Errorf("summary: %+v", res)
		}
		same(t, want, describe(t, filepath.Join(whole, "users")))

		// Over a tree that has changed, from a subfolder, back to what it was.
		part := filepath.Join(whole, "users", "a")
		write(t, filepath.Join(part, "f"), "changed")
		write(t, filepath.Join(part, "new"), "not in the snapshot")
		for _, overwrite := range []string{"if-changed", "always"} {
			res, err = r.Restore(ctx(t), RestoreSpec{
				Snapshot: sum.SnapshotID, Subfolder: "/users/a", Target: part, Delete: true, Overwrite: overwrite,
			})
			if err != nil {
				t.Fatal(err)
			}
			if overwrite == "if-changed" && (res.FilesDeleted != 1 || res.FilesSkipped == 0) {
				t.Errorf("summary: %+v", res)
			}
		}
		got := describe(t, filepath.Join(whole, "users"))
		for _, m := range []map[string]string{want, got} {
			delete(m, "a") // the subfolder itself: restic leaves it alone
		}
		same(t, want, got)

		// A restore that cannot write everything says so.
		blocked := filepath.Join(dir, "blocked")
		if err := os.MkdirAll(filepath.Join(blocked, "f", "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, err = r.Restore(ctx(t), RestoreSpec{Snapshot: sum.SnapshotID, Subfolder: "/users/a", Target: blocked, Include: []string{"/f"}})
		var failed *RestoreError
		if !errors.As(err, &failed) || failed.Items[0].Path != "/f" {
			t.Errorf("a folder where a file belongs: %v", err)
		}
		// Nothing is touched that is there.
		res, err = r.Restore(ctx(t), RestoreSpec{Snapshot: sum.SnapshotID, Target: whole, Overwrite: "never"})
		if err != nil || res.FilesSkipped == 0 {
			t.Errorf("overwrite never: %+v, %v", res, err)
		}
		if _, err := r.Restore(ctx(t), RestoreSpec{Snapshot: sum.SnapshotID, Subfolder: "/no", Target: whole}); err == nil {
			t.Error("restored a folder that is not in the snapshot")
		}
	})
}

// TestConcurrent runs several calls on one Repo at once.
func TestConcurrent(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		var wg sync.WaitGroup
		for i := range 3 {
			name := fmt.Sprintf("root%d", i)
			write(t, filepath.Join(dir, "src", name, "f"), name)
			wg.Go(func() {
				sum, err := r.Backup(ctx(t), BackupSpec{Dir: filepath.Join(dir, "src"), Targets: []string{name}, Tags: []string{name}})
				if err != nil || sum.FilesNew != 1 {
					t.Errorf("%s: %+v, %v", name, sum, err)
				}
				l, err := r.Snapshots(ctx(t), name)
				if err != nil || len(l) != 1 || l[0].ID != sum.SnapshotID {
					t.Errorf("%s: %+v, %v", name, l, err)
				}
			})
		}
		wg.Wait()

		// A power loss left the cache's version empty: the cache is done without.
		v, err := filepath.Glob(filepath.Join(r.opt.CacheDir, "*", "version"))
		if err != nil || len(v) != 1 {
			t.Fatalf("cache: %q, %v", v, err)
		}
		write(t, v[0], "")
		if l, err := r.Snapshots(ctx(t)); err != nil || len(l) != 3 {
			t.Errorf("with a broken cache: %+v, %v", l, err)
		}
	})
}

func makeTree(t *testing.T, root string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "a", "f"), "content")
	write(t, filepath.Join(root, "a", "empty"), "")
	check(os.Mkdir(filepath.Join(root, "a", "emptydir"), 0o711))
	check(os.Link(filepath.Join(root, "a", "f"), filepath.Join(root, "a", "hard")))
	check(os.Symlink("f", filepath.Join(root, "a", "link")))
	check(os.Symlink("/no/where", filepath.Join(root, "dangling")))
	mkfifo(t, filepath.Join(root, "a", "fifo"))
	sparse, err := os.Create(filepath.Join(root, "sparse"))
	check(err)
	check(sparse.Truncate(32 << 20))
	_, err = sparse.WriteAt([]byte("end"), 16<<20)
	check(err)
	check(sparse.Close())
	attrs := map[string]string{
		"user.oc.id": "7e7f9d8c", "user.oc.blobid": "\x00\xff\xfe\x01binary", "user.oc.empty": "",
		"user.oc.long": strings.Repeat("x", 2000),
	}
	for name, value := range attrs {
		for _, p := range []string{"a", "a/f", "sparse"} {
			err := unix.Setxattr(filepath.Join(root, p), name, []byte(value), 0)
			if errors.Is(err, unix.ENOTSUP) {
				t.Skip("the temporary folder's file system takes no user xattrs: set TMPDIR to one that does")
			}
			check(err)
		}
	}
	if os.Geteuid() == 0 {
		check(os.Chown(filepath.Join(root, "a", "f"), 1234, 5678))
		check(os.Lchown(filepath.Join(root, "a", "link"), 1234, 5678))
	}
	check(os.Chmod(filepath.Join(root, "a"), 0o750|fs.ModeSetgid))
	check(os.Chmod(filepath.Join(root, "a", "f"), 0o640))
	then := time.Date(2021, 3, 4, 5, 6, 7, 123456789, time.UTC)
	for _, p := range []string{"a/f", "a/empty", "a/emptydir", "sparse", "a", ""} {
		check(os.Chtimes(filepath.Join(root, p), then, then))
	}
}

// describe says everything about a tree that has to come back, by path.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	d := map[string]string{}
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		s := fmt.Sprintf("%v %d:%d links=%d", st.Mode(), sys.Uid, sys.Gid, sys.Nlink)
		switch {
		case st.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %d bytes %x, sparse: %v, at %v", len(b), sha256.Sum256(b), sys.Blocks*512 < st.Size()/2, st.ModTime().UnixNano())
			if first, ok := inodes[sys.Ino]; ok {
				s += " same as " + first
			}
			inodes[sys.Ino] = rel
		case st.IsDir():
			s += fmt.Sprintf(" at %v", st.ModTime().UnixNano())
		case st.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			s += " -> " + to
		}
		d[rel] = s + attributes(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// attributes lists the user xattrs of a path.
func attributes(t *testing.T, path string) string {
	t.Helper()
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		t.Fatal(err)
	}
	var l []string
	for _, name := range strings.Split(string(names[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, fmt.Sprintf(" %s=%q", name, value[:n]))
	}
	sort.Strings(l)
	return strings.Join(l, "")
}

func same(t *testing.T, want, got map[string]string) {
	t.Helper()
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s:\n got %s\nwant %s", p, got[p], w)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s came from nowhere", p)
		}
	}
}
