package treecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/integration/env"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// acl is an access control list in the kernel's form (linux/posix_acl_xattr.h): version
// 2, then tag, permissions and id of each entry. This one gives user 1234 all.
const acl = "\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + // owner
	"\x02\x00\x07\x00\xd2\x04\x00\x00" + // user 1234
	"\x04\x00\x05\x00\xff\xff\xff\xff" + // group
	"\x10\x00\x07\x00\xff\xff\xff\xff" + // mask
	"\x20\x00\x00\x00\xff\xff\xff\xff" // others

// capability is cap_net_bind_service=ep (linux/capability.h, revision 2).
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// tree makes one of everything, and many files.
func tree(t *testing.T, dir string) {
	t.Helper()
	p := func(rel string) string { return filepath.Join(dir, rel) }
	must(t, os.MkdirAll(p("a/b/c"), 0o755), os.Mkdir(p("many"), 0o755), os.Mkdir(p("out"), 0o755), os.Mkdir(p("empty"), 0o711))
	for i := range 1000 {
		must(t, os.WriteFile(p(fmt.Sprintf("many/%d", i)), []byte(strings.Repeat("x", i*10)), 0o640))
	}
	must(t,
		os.WriteFile(p("a/file"), []byte(strings.Repeat("content ", 100_000)), 0o600),
		os.WriteFile(p("a/none"), nil, 0o400),
		os.WriteFile(p("a/b/\xff\n name"), []byte("any bytes"), 0o644),
		os.WriteFile(p("a/b/suid"), []byte("#!"), 0o755),
		os.WriteFile(p("out/secret"), []byte("x"), 0o644),
		os.Link(p("a/file"), p("a/b/c/again")), os.Link(p("a/file"), p("out/too")),
		os.Symlink("../nowhere \xfe", p("a/link")),
		unix.Mkfifo(p("a/fifo"), 0o620), unix.Mknod(p("a/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mknod(p("a/socket"), unix.S_IFSOCK|0o666, 0),
		os.Lchown(p("a/link"), 7, 8), os.Chown(p("a/b/suid"), 1234, 1235), os.Chown(p("a/b"), 1, 2), os.Chown(p("a/fifo"), 3, 4),
		unix.Chmod(p("a/b/suid"), 0o6755), unix.Chmod(p("a/b"), 0o3770),
		unix.Setxattr(p("a/file"), "user.oc.id", []byte("1\x002"), 0), unix.Setxattr(p("a/file"), "user.long", []byte(strings.Repeat("v", 2000)), 0),
		unix.Setxattr(p("a/file"), "system.posix_acl_access", []byte(acl), 0),
		unix.Setxattr(p("a/b/suid"), "security.capability", []byte(capability), 0),
		unix.Setxattr(p("a"), "user.oc.name", []byte("a"), 0), unix.Setxattr(p("a"), "trusted.x", []byte("y"), 0),
		// What is made below this one inherits the list; what is copied to it does not.
		unix.Setxattr(p("a/b"), "system.posix_acl_default", []byte(acl), 0),
		unix.Lsetxattr(p("a/link"), "trusted.link", []byte("z"), 0),
	)
	f, err := os.Create(p("a/sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("in the midst"), 32<<20)
	must(t, err, f.Truncate(64<<20), f.Close())
	old := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for i, rel := range []string{"a/file", "a/b/c", "a/b", "a/fifo", "many/7", "many", "a", "empty", ""} {
		must(t, os.Chtimes(p(rel), old, old.Add(time.Duration(i)*time.Hour)))
	}
	ts := unix.NsecToTimespec(old.UnixNano())
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p("a/link"), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

func filter(rel string, _ bool) bool { return rel != "out" }

func count(t *testing.T, root string, f census.Filter) census.Sum {
	t.Helper()
	res, err := census.Count(t.Context(), root, f, 0)
	must(t, err)
	return res.Sum
}

// wantSame compares what a filter takes of two trees, in all that a copy has to bring.
func wantSame(t *testing.T, src, dst string) {
	t.Helper()
	want := count(t, src, filter)
	got := count(t, dst, nil)
	if want != got {
		t.Errorf("the census differs: %v", want.Diff(got))
	}
	must(t, filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(src, p)
		if !filter(rel, d.IsDir()) {
			return fs.SkipDir
		}
		if d.Type() == fs.ModeSocket {
			return nil
		}
		a, err := os.Lstat(p)
		must(t, err)
		b, err := os.Lstat(filepath.Join(dst, rel))
		must(t, err)
		if !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%q: time %v, want %v", rel, b.ModTime(), a.ModTime())
		}
		if a.Mode().IsRegular() {
			x, err := os.ReadFile(p)
			must(t, err)
			y, err := os.ReadFile(filepath.Join(dst, rel))
			must(t, err)
			if string(x) != string(y) {
				t.Errorf("%q: other content", rel)
			}
		}
		return nil
	}))
}

// allocated is how many bytes of a file are on disk.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks * 512
}

func TestCopy(t *testing.T) {
	for _, c := range []struct {
		fsType string
		shares bool
	}{{"btrfs", true}, {"xfs", true}, {"ext4", false}} {
		t.Run(c.fsType, func(t *testing.T) {
			at := env.FileSystem(t, c.fsType, 512)
			src, dst := filepath.Join(at, "src"), filepath.Join(at, "place/dst")
			must(t, os.Mkdir(src, 0o750), os.Mkdir(filepath.Join(at, "place"), 0o755))
			tree(t, src)
			// The place hands down a list that the tree does not have.
			must(t, unix.Setxattr(filepath.Join(at, "place"), "system.posix_acl_default", []byte(acl), 0))
			stats, err := Copy(t.Context(), src, dst, Options{Filter: filter})
			must(t, err)
			wantSame(t, src, dst)
			if _, err := os.Lstat(filepath.Join(dst, "out")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what the filter refuses is there: %v", err)
			}
			a, _ := os.Stat(filepath.Join(dst, "a/file"))
			b, _ := os.Stat(filepath.Join(dst, "a/b/c/again"))
			if !os.SameFile(a, b) {
				t.Error("a hard link has become a copy")
			}
			sum := count(t, dst, nil)
			if want := sum.Bytes - 800_000; stats.Files != sum.Files || stats.Dirs != sum.Dirs || stats.Bytes != want {
				t.Errorf("%+v, want %d files, %d directories, %d bytes", stats, sum.Files, sum.Dirs, want)
			}
			if shared := stats.Shared == stats.Bytes; shared != c.shares || !c.shares && stats.Shared != 0 {
				t.Errorf("%d bytes of %d are said to be shared", stats.Shared, stats.Bytes)
			}
			if got := extentsShared(t, filepath.Join(dst, "a/file")); got != c.shares {
				t.Errorf("shared with the source: %v, want %v", got, c.shares)
			}
			if got := Shares(src, filepath.Join(at, "place")); got != c.shares {
				t.Errorf("it is said that copies share contents: %v", got)
			}
			if n := allocated(t, filepath.Join(dst, "a/sparse")); n > 1<<20 {
				t.Errorf("the holes of a file take up %d bytes", n)
			}
		})
	}
}

// extentsShared tells whether the content of a file is another's as well (filefrag of
// e2fsprogs shows the flag FIEMAP_EXTENT_SHARED).
func extentsShared(t *testing.T, path string) bool {
	t.Helper()
	unix.Sync() // what is still to be written has no extent yet
	out, err := exec.Command("filefrag", "-v", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Contains(string(out), "shared")
}

// From one file system to another.
func TestCopyElsewhere(t *testing.T) {
	src, dst := filepath.Join(env.FileSystem(t, "btrfs", 512), "src"), filepath.Join(env.FileSystem(t, "ext4", 512), "dst")
	must(t, os.Mkdir(src, 0o755))
	tree(t, src)
	must(t, unix.Setxattr(filepath.Join(src, "a/file"), "btrfs.compression", []byte("zlib"), 0)) // means nothing there
	// The census counts no property of a file system.
	stats, err := Copy(t.Context(), src, dst, Options{Filter: filter})
	must(t, err)
	wantSame(t, src, dst)
	if stats.Shared != 0 || Shares(src, filepath.Dir(dst)) {
		t.Errorf("shared across file systems: %+v", stats)
	}
}

// A root that is nested in another is there already when that one is copied.
func TestCopyAround(t *testing.T) {
	at := env.FileSystem(t, "btrfs", 512)
	src, dst := filepath.Join(at, "src"), filepath.Join(at, "dst")
	must(t, os.Mkdir(src, 0o755))
	tree(t, src)
	must(t, os.MkdirAll(filepath.Join(dst, "a"), 0o700), unix.Setxattr(filepath.Join(dst, "a"), "user.stale", []byte("x"), 0),
		unix.Setxattr(filepath.Join(dst, "a"), "system.posix_acl_default", []byte(acl), 0))
	_, err := Copy(t.Context(), filepath.Join(src, "a/b"), filepath.Join(dst, "a/b"), Options{})
	must(t, err)
	_, err = Copy(t.Context(), src, dst, Options{Filter: func(rel string, dir bool) bool { return rel != "a/b" && filter(rel, dir) }})
	must(t, err)
	must(t, os.Remove(filepath.Join(src, "a/b/c/again")), os.Remove(filepath.Join(dst, "a/b/c/again")),
		os.Chtimes(filepath.Join(src, "a/b/c"), time.Time{}, time.Unix(1, 0)), os.Chtimes(filepath.Join(dst, "a/b/c"), time.Time{}, time.Unix(1, 0)))
	wantSame(t, src, dst)
}

func TestCopySingle(t *testing.T) {
	at := env.FileSystem(t, "btrfs", 512)
	src := filepath.Join(at, "src")
	must(t, os.Mkdir(src, 0o755))
	tree(t, src)
	for _, rel := range []string{"a/b/suid", "a/file", "a/link", "empty"} {
		dst := filepath.Join(at, "to-"+filepath.Base(rel))
		_, err := Copy(t.Context(), filepath.Join(src, rel), dst, Options{})
		must(t, err)
		want := count(t, filepath.Join(src, rel), nil)
		got := count(t, dst, nil)
		if want != got {
			t.Errorf("%s: %v", rel, want.Diff(got))
		}
	}
}

// Nothing is overwritten, nothing is passed over.
func TestCopyFails(t *testing.T) {
	at := env.FileSystem(t, "ext4", 512)
	src := filepath.Join(at, "src")
	must(t, os.Mkdir(src, 0o755))
	tree(t, src)
	taken := filepath.Join(at, "taken")
	must(t, os.MkdirAll(filepath.Join(taken, "many"), 0o755), os.WriteFile(filepath.Join(taken, "many/7"), []byte("mine"), 0o600))
	big := filepath.Join(at, "big")
	must(t, os.Mkdir(big, 0o755), os.WriteFile(filepath.Join(big, "zeros"), make([]byte, 300<<20), 0o600))
	bare := t.TempDir() // a file system that holds no extended attributes
	must(t, unix.Mount("none", bare, "ramfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(bare, 0)) })

	ended, cancel := context.WithCancelCause(t.Context())
	why := errors.New("that is enough")
	cancel(why)
	for name, c := range map[string]struct {
		ctx           context.Context
		src, dst, err string
		is            error
	}{
		"a file is there": {nil, src, taken, taken + "/many/7", fs.ErrExist},
		"no source":       {nil, at + "/none", at + "/x", at + "/none", fs.ErrNotExist},
		"no place":        {nil, src, at + "/none/x", at + "/none/x", fs.ErrNotExist},
		"no room":         {nil, big, at + "/y", at + "/y/zeros", unix.ENOSPC},
		"no attributes":   {nil, src, bare + "/z", bare + "/z", unix.ENOTSUP},
		"it is ended":     {ended, src, at + "/w", "", why},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			_, err := Copy(c.ctx, c.src, c.dst, Options{})
			if c.dst != taken {
				must(t, os.RemoveAll(c.dst))
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v", err)
			}
		})
	}
	if b, err := os.ReadFile(filepath.Join(taken, "many/7")); err != nil || string(b) != "mine" {
		t.Errorf("overwritten: %q, %v", b, err)
	}
}

// It can be seen how far a copy is.
func TestProgress(t *testing.T) {
	at := env.FileSystem(t, "ext4", 512)
	src := filepath.Join(at, "src")
	must(t, os.MkdirAll(filepath.Join(src, "dir"), 0o755), os.WriteFile(filepath.Join(src, "first"), []byte("12345"), 0o600),
		os.WriteFile(filepath.Join(src, "dir/last"), nil, 0o600))
	told := make(chan struct{}, 1)
	_, err := Copy(t.Context(), src, filepath.Join(at, "dst"), Options{
		Filter: func(rel string, _ bool) bool {
			if rel == "dir/last" { // is not looked at until the first has been told of
				select {
				case <-told:
				case <-time.After(20 * time.Second):
					t.Error("nothing is told")
				}
			}
			return true
		},
		OnProgress: func(files, bytes uint64) {
			if files == 1 && bytes == 5 {
				select {
				case told <- struct{}{}:
				default:
				}
			}
		},
	})
	must(t, err)
}
