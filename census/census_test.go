package census

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// age makes everything look old enough to be remembered, for one test.
func age(t *testing.T) {
	t.Helper()
	clock = func() time.Time { return time.Now().Add(time.Hour) }
	t.Cleanup(func() { clock = time.Now })
}

func count(t *testing.T, root string, f Filter) (Sum, *Known) {
	t.Helper()
	res, err := Count(context.Background(), root, f, 3)
	must(t, err)
	return res.Sum, res.Known
}

func setxattr(t *testing.T, path, name, value string) {
	t.Helper()
	if err := unix.Lsetxattr(path, name, []byte(value), 0); errors.Is(err, unix.ENOTSUP) {
		t.Skipf("no extended attributes on the file system of %s", path)
	} else if err != nil {
		t.Fatalf("set %s on %s: %v", name, path, err)
	}
}

// makeTree makes a small tree with one of everything that is counted.
func makeTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{root, root + "/a", root + "/a/b", root + "/c"} {
		must(t, os.Mkdir(d, 0o750))
		must(t, os.Chmod(d, 0o750))
	}
	for i := range 20 {
		p := fmt.Sprintf("%s/a/b/file %d", root, i)
		must(t, os.WriteFile(p, []byte(strings.Repeat("x", i)), 0o640))
		must(t, os.Chmod(p, 0o640))
		setxattr(t, p, "user.oc.name", fmt.Sprint("name ", i))
		setxattr(t, p, "user.oc.binary", "\x00\xff")
		setxattr(t, p, "user.oc.empty", "")
	}
	must(t, os.Link(root+"/a/b/file 7", root+"/c/link to file 7"))
	must(t, os.Symlink("../a/b/file 1", root+"/c/symlink"))
	must(t, unix.Mkfifo(root+"/c/fifo", 0o600))
	setxattr(t, root+"/a", "user.oc.id", "directory")
	setxattr(t, root, "user.oc.id", "root")
	return root
}

// TestCountTree pins the numbers and the digest: restored trees are compared with
// digests from other machines and older versions.
func TestCountTree(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the digest is that of a tree owned by root")
	}
	sum, _ := count(t, makeTree(t), nil)
	want := Sum{Files: 23, Regular: 21, Dirs: 4, Bytes: 190 + 7, Xattrs: 21*3 + 2, Digest: "6f4088d85bef0b8f30ce96e489a5929d"}
	if sum != want {
		t.Errorf("got  %+v\nwant %+v", sum, want)
	}
}

func TestCountIsTheSameForACopy(t *testing.T) {
	root := makeTree(t)
	copied := filepath.Join(t.TempDir(), "elsewhere")
	if out, err := exec.Command("cp", "-a", root, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	a, _ := count(t, root, nil)
	b, _ := count(t, copied, nil)
	if d := a.Diff(b); len(d) > 0 {
		t.Errorf("a copy differs: %q", d)
	}
}

// TestEveryLossIsSeen damages a tree in each way that a bad restore may.
func TestEveryLossIsSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(root string) error
		says   string
	}{
		{"an attribute is lost", func(r string) error { return unix.Removexattr(r+"/a/b/file 3", "user.oc.name") }, "65 extended attributes expected, 64 found"},
		{"a value differs", func(r string) error { return unix.Setxattr(r+"/a/b/file 3", "user.oc.name", []byte("name 4"), 0) }, "attribute values differ"},
		{"two values are swapped", func(r string) error {
			return errors.Join(unix.Setxattr(r+"/a/b/file 3", "user.oc.name", []byte("name 4"), 0),
				unix.Setxattr(r+"/a/b/file 4", "user.oc.name", []byte("name 3"), 0))
		}, "attribute values differ"},
		{"an attribute of the root", func(r string) error { return unix.Setxattr(r, "user.oc.id", []byte("other"), 0) }, "attribute values differ"},
		{"a mode", func(r string) error { return os.Chmod(r+"/a/b/file 3", 0o644) }, "modes"},
		{"a directory's mode", func(r string) error { return os.Chmod(r+"/a", os.ModeSetgid|0o750) }, "modes"},
		{"an owner", func(r string) error { return os.Chown(r+"/a/b/file 3", 1000, -1) }, "owners"},
		{"a group", func(r string) error { return os.Chown(r+"/a/b/file 3", -1, 1000) }, "owners"},
		{"a link's target", func(r string) error {
			return errors.Join(os.Remove(r+"/c/symlink"), os.Symlink("../a/b/file 2", r+"/c/symlink"))
		}, "link targets"},
		{"a file is cut", func(r string) error { return os.Truncate(r+"/a/b/file 9", 3) }, "197 bytes in files expected, 191 found"},
		{"a file is missing", func(r string) error { return os.Remove(r + "/c/fifo") }, "23 files expected, 22 found"},
		{"a directory is missing", func(r string) error { return os.RemoveAll(r + "/c") }, "4 directories expected, 3 found"},
		{"the root is a link", func(r string) error { return errors.Join(os.RemoveAll(r), os.Symlink("/etc", r)) }, "4 directories expected, 0 found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := makeTree(t)
			before, _ := count(t, root, nil)
			must(t, c.damage(root))
			after, _ := count(t, root, nil)
			if got := strings.Join(before.Diff(after), "; "); !strings.Contains(got, c.says) {
				t.Errorf("got %q, want %q", got, c.says)
			}
		})
	}
}

// TestWhatDoesNotCount changes what a restore can't or need not bring back.
func TestWhatDoesNotCount(t *testing.T) {
	root := makeTree(t)
	before, _ := count(t, root, nil)
	old := time.Unix(1e9, 0)
	must(t, os.Chtimes(root+"/a/b/file 3", old, old))
	l, err := net.Listen("unix", root+"/c/socket")
	must(t, err)
	defer l.Close()
	if os.Getuid() == 0 {
		setxattr(t, root+"/a/b/file 3", "trusted.overlay.opaque", "y")
		setxattr(t, root+"/a/b/file 3", "security.selinux", "system_u:object_r:tmp_t:s0")
	}
	after, _ := count(t, root, nil)
	if d := before.Diff(after); len(d) > 0 {
		t.Errorf("differs: %q", d)
	}
}

func TestWhatCountsBesideUserAttributes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to set them")
	}
	for name, value := range map[string]string{
		"trusted.oc":              "x",
		"security.capability":     "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"system.posix_acl_access": "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t)
			before, _ := count(t, root, nil)
			setxattr(t, root+"/a/b/file 3", name, value)
			after, _ := count(t, root, nil)
			if after.Xattrs != before.Xattrs+1 {
				t.Errorf("%d attributes before, %d after", before.Xattrs, after.Xattrs)
			}
		})
	}
}

func TestLongValuesAndManyNames(t *testing.T) {
	root := t.TempDir()
	setxattr(t, root, "user.long", strings.Repeat("v", 2000))
	for i := range 40 {
		setxattr(t, root, fmt.Sprintf("user.name-%s-%d", strings.Repeat("n", 20), i), "")
	}
	a, _ := count(t, root, nil)
	if a.Xattrs != 41 {
		t.Errorf("%d attributes, want 41", a.Xattrs)
	}
	setxattr(t, root, "user.long", strings.Repeat("v", 1999)+"w")
	if b, _ := count(t, root, nil); a.Digest == b.Digest {
		t.Error("the end of a long value does not count")
	}
}

func TestFilterLeavesOut(t *testing.T) {
	root := makeTree(t)
	var below []string
	sum, _ := count(t, root, func(rel string, isDir bool) bool {
		if strings.HasPrefix(rel, "a/") {
			below = append(below, rel)
		}
		return rel != "a" || !isDir
	})
	if sum.Files != 3 || sum.Dirs != 2 || len(below) > 0 {
		t.Errorf("got %+v; asked for %q", sum, below)
	}
}

// TestLargeDirectory has more entries than one piece of work and one read hold.
func TestLargeDirectory(t *testing.T) {
	root := t.TempDir()
	const n = 5000
	for i := range n {
		must(t, os.WriteFile(fmt.Sprintf("%s/a file with a long name %d", root, i), nil, 0o600))
	}
	for _, workers := range []int{1, 4} {
		res, err := Count(context.Background(), root, nil, workers)
		must(t, err)
		if res.Sum.Files != n {
			t.Errorf("%d workers: %d files, want %d", workers, res.Sum.Files, n)
		}
	}
}

func TestRootMayBeAFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(p, []byte("abc"), 0o600))
	sum, _ := count(t, p, nil)
	if sum.Files != 1 || sum.Dirs != 0 || sum.Bytes != 3 {
		t.Errorf("got %+v", sum)
	}
}

// TestUnreadable has a path that is too long for any syscall, which not even root can read.
func TestUnreadable(t *testing.T) {
	root := makeTree(t)
	good, _ := count(t, root, nil)
	name := strings.Repeat("d", 250)
	fd, err := unix.Open(root, unix.O_DIRECTORY, 0)
	must(t, err)
	for range 20 {
		must(t, unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	res, err := Count(context.Background(), root, nil, 2)
	var bad *UnreadableError
	if !errors.Is(err, unix.ENAMETOOLONG) || !errors.As(err, &bad) || !strings.HasPrefix(bad.Items[0].Path, root) {
		t.Errorf("error is %v", err)
	}
	if res.Sum.Files != good.Files {
		t.Errorf("%d files, want the %d that can be read", res.Sum.Files, good.Files)
	}
}

func TestMissingRoot(t *testing.T) {
	_, err := Count(context.Background(), filepath.Join(t.TempDir(), "missing"), nil, 1)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("error is %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Count(ctx, makeTree(t), nil, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// TestRecountSeesChanges compares a Recount after each kind of change with a fresh Count.
func TestRecountSeesChanges(t *testing.T) {
	age(t)
	root := makeTree(t)
	_, known := count(t, root, nil)
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"nothing", func() error { return nil }},
		{"an attribute", func() error { return unix.Setxattr(root+"/a/b/file 3", "user.oc.name", []byte("new"), 0) }},
		{"a mode", func() error { return os.Chmod(root+"/a/b/file 4", 0o600) }},
		{"a new file", func() error { return os.WriteFile(root+"/new", []byte("new"), 0o600) }},
		{"a file replaced by a rename", func() error { return os.Rename(root+"/new", root+"/a/b/file 5") }},
		{"a removed file", func() error { return os.Remove(root + "/a/b/file 6") }},
		{"the root's attribute", func() error { return unix.Setxattr(root, "user.oc.id", []byte("new"), 0) }},
	} {
		must(t, c.change())
		got, err := known.Recount(context.Background(), root, nil, 2)
		must(t, err)
		if want, _ := count(t, root, nil); got.Sum != want {
			t.Errorf("%s: got %+v, want %+v", c.name, got.Sum, want)
		}
		if none := got.Changes.Inodes == 0; none != (c.name == "nothing") {
			t.Errorf("%s: %+v", c.name, got.Changes)
		}
	}
}

// TestChanges: how much has changed, and when.
func TestChanges(t *testing.T) {
	age(t)
	root := makeTree(t)
	_, known := count(t, root, nil)
	name := root + "/a/b/file 3"
	must(t, os.WriteFile(name, []byte("seventeen letters"), 0o600))
	must(t, os.Remove(root+"/a/b/file 4"))
	got, err := known.Recount(context.Background(), root, nil, 2)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(root+"/a/b", &st)) // the last that changed
	want := Changes{Inodes: 2, Bytes: 17, Newest: time.Unix(0, st.Ctim.Nano())}
	if got.Changes != want {
		t.Errorf("got %+v, want the file and the directory that lost one, %+v", got.Changes, want)
	}
}

// TestSnapshotIsKnown: a snapshot of the tree has the same inodes on another device.
func TestSnapshotIsKnown(t *testing.T) {
	age(t)
	root := makeTree(t)
	_, known := count(t, root, nil)
	for i := range known.inodes {
		if known.inodes[i].dev != 0 {
			t.Fatalf("inode %d is remembered with the device of the tree", known.inodes[i].ino)
		}
	}
}

// TestRecountReadsOnlyWhatChanged plants a wrong hash for an inode: it comes back
// for as long as the inode has not changed.
func TestRecountReadsOnlyWhatChanged(t *testing.T) {
	age(t)
	root := makeTree(t)
	sum, known := count(t, root, nil)
	var st unix.Stat_t
	must(t, unix.Lstat(root+"/a/b/file 3", &st))
	entry, ok := known.find(inode{ino: st.Ino, ctime: st.Ctim.Nano()})
	if !ok {
		t.Fatal("file 3 is not known")
	}
	entry.hash.lo++
	recount := func() string {
		got, err := known.Recount(context.Background(), root, nil, 2)
		must(t, err)
		return got.Sum.Digest
	}
	if recount() == sum.Digest {
		t.Error("an unchanged inode was read again")
	}
	must(t, os.Chmod(root+"/a/b/file 3", 0o640)) // the same mode, a new ctime
	if recount() != sum.Digest {
		t.Error("a changed inode was not read again")
	}
}

// TestRecountDoesNotTrustFreshInodes: a change in the same tick of the clock can't be told by the ctime.
func TestRecountDoesNotTrustFreshInodes(t *testing.T) {
	_, known := count(t, makeTree(t), nil)
	if len(known.inodes) > 0 {
		t.Errorf("%d inodes of a tree just made are trusted", len(known.inodes))
	}
}

func TestNilKnown(t *testing.T) {
	root := makeTree(t)
	want, _ := count(t, root, nil)
	var k *Known
	got, err := k.Recount(context.Background(), root, nil, 0)
	must(t, err)
	if got.Sum != want {
		t.Errorf("got %+v, want %+v", got.Sum, want)
	}
}
