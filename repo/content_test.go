package repo

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDumpTarAndCatTree read a tree of names and attributes of all kinds, in two ways.
func TestDumpTarAndCatTree(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		root := filepath.Join(dir, "src", "users")
		makeTree(t, root)
		odd := []string{"bytes \xff\xfe", "new\nline", `quote " back \ slash`, "ü", "*", strings.Repeat("x", 255)}
		for _, n := range odd {
			write(t, filepath.Join(root, "odd \xff: dir", n), n)
		}
		if err := os.Symlink("to \xff", filepath.Join(root, "odd \xff: dir", "link")); err != nil {
			t.Fatal(err)
		}
		sum := backup(t, r, BackupSpec{Dir: filepath.Dir(root), Targets: []string{"users"}})

		var got []string
		err := r.DumpTar(ctx(t), sum.SnapshotID, "/users", func(h *tar.Header, content io.Reader) error {
			s := string(h.Typeflag) + " " + h.Name
			if h.Typeflag == tar.TypeReg && h.Size < 1000 {
				b, err := io.ReadAll(content)
				if err != nil {
					return err
				}
				s += " = " + string(b)
			}
			if h.Name == "a/f" {
				st, err := os.Stat(filepath.Join(root, "a/f"))
				if err != nil || !h.ModTime.Equal(st.ModTime().Round(time.Second)) || h.PAXRecords["SCHILY.xattr.user.oc.blobid"] != "\x00\xff\xfe\x01binary" {
					t.Errorf("a/f: %v, %q, %v", h.ModTime, h.PAXRecords, err)
				}
			}
			got = append(got, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"5 a", "0 a/empty = ", "5 a/emptydir", "0 a/f = content", "0 a/hard = content", "2 a/link",
			"2 dangling", "5 odd \xff: dir", "2 odd \xff: dir/link", "0 sparse",
		}
		for _, n := range odd {
			want = append(want, "0 odd \xff: dir/"+n+" = "+n)
		}
		sort.Strings(got)
		sort.Strings(want)
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("archive:\n got %q\nwant %q", got, want)
		}

		// A folder whose name is no UTF-8 and has a colon.
		nodes, err := r.CatTree(ctx(t), sum.SnapshotID, "users/odd \xff: dir")
		if err != nil || len(nodes) != len(odd)+1 {
			t.Fatalf("tree: %+v, %v", nodes, err)
		}
		seen := map[string]TreeNode{}
		for _, n := range nodes {
			seen[n.Name] = n
		}
		for _, n := range odd {
			if seen[n].Type != "file" || seen[n].Size != uint64(len(n)) {
				t.Errorf("%q: %+v", n, seen[n])
			}
		}
		if seen["link"].Target != "to \xff" {
			t.Errorf("link to %q", seen["link"].Target)
		}
		nodes, err = r.CatTree(ctx(t), sum.SnapshotID, "/users/a")
		if err != nil || len(nodes) != 6 || nodes[3].Name != "fifo" && nodes[2].Name != "f" {
			t.Fatalf("tree: %+v, %v", nodes, err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, "a/f"), &st); err != nil {
			t.Fatal(err)
		}
		f := nodes[2]
		if f.Name != "f" || f.Inode != st.Ino || f.CTime.UnixNano() != st.Ctim.Nano() || string(f.XAttrs["user.oc.blobid"]) != "\x00\xff\xfe\x01binary" ||
			f.XAttrs["user.oc.empty"] == nil || len(f.XAttrs["user.oc.long"]) != 2000 {
			t.Errorf("a/f: %+v", f)
		}
		if top, err := r.CatTree(ctx(t), sum.SnapshotID, ""); err != nil || len(top) != 1 || top[0].Name != "users" || top[0].Type != "dir" {
			t.Errorf("top: %+v, %v", top, err)
		}
		if none, err := r.CatTree(ctx(t), sum.SnapshotID, "users/a/emptydir"); err != nil || len(none) != 0 {
			t.Errorf("an empty folder: %+v, %v", none, err)
		}

		for _, dir := range []string{"/users/no", "/users/a/f", "/no/where"} {
			if _, err := r.CatTree(ctx(t), sum.SnapshotID, dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("tree %s: %v", dir, err)
			}
			if err := r.DumpTar(ctx(t), sum.SnapshotID, dir, func(*tar.Header, io.Reader) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("archive %s: %v", dir, err)
			}
		}
		enough := errors.New("enough")
		n := 0
		err = r.DumpTar(ctx(t), sum.SnapshotID, "", func(*tar.Header, io.Reader) error { n++; return enough })
		if !errors.Is(err, enough) || n != 1 {
			t.Errorf("ended by its caller: %v after %d", err, n)
		}
		if err := r.EachInTree(ctx(t), sum.SnapshotID, "users", func(*TreeNode) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("ended by its caller: %v", err)
		}
	})
}

// TestDumpTarOfDamage loses the contents in one pack of several.
func TestDumpTarOfDamage(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		src := filepath.Join(dir, "src")
		write(t, filepath.Join(src, "root", "a"), "sound")
		backup(t, r, BackupSpec{Dir: src, Targets: []string{"root"}})
		before := packs(t, dir)
		write(t, filepath.Join(src, "root", "b"), "to be damaged")
		sum := backup(t, r, BackupSpec{Dir: src, Targets: []string{"root"}})
		for p := range packs(t, dir) {
			// The trees of the second snapshot are in restic's cache; its data are not.
			if !before[p] {
				damage(t, p)
			}
		}
		var got []string
		err := r.DumpTar(ctx(t), sum.SnapshotID, "root", func(h *tar.Header, content io.Reader) error {
			b, err := io.ReadAll(content)
			if err == nil {
				got = append(got, h.Name+"="+string(b))
			}
			return err
		})
		if !errors.Is(err, ErrDamaged) || fmt.Sprint(got) != "[a=sound]" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func packs(t *testing.T, dir string) map[string]bool {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "repo", "data", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]bool{}
	for _, p := range l {
		m[p] = true
	}
	return m
}

// TestNotAsRestic are outputs that the real restic doesn't give.
func TestNotAsRestic(t *testing.T) {
	tree := func(script string) error {
		_, err := fakeRestic(t, script).CatTree(ctx(t), "s", "d")
		return err
	}
	for _, s := range []string{"", "[]", `{"nodes":7}`, `{"nodes":[{"name":"a"}`, `{"nodes":[{"name":"\\x"}]}`, `{"other":[]}`} {
		contains(t, tree("printf '%s' '"+s+"'"), "understand restic's tree of d")
	}
	if err := tree(`echo '{"nodes":null}'`); err != nil {
		t.Errorf("an empty tree as null: %v", err)
	}
	archive := func(script string) error {
		return fakeRestic(t, script).DumpTar(ctx(t), "s", "d", func(h *tar.Header, c io.Reader) error {
			_, err := io.Copy(io.Discard, c)
			return err
		})
	}
	contains(t, archive("head -c 5000 /dev/zero | tr '\\0' x"), "understand restic's archive of d")
	contains(t, archive("cd /; tar -cf - etc/passwd | head -c 700"), "d", "unexpected EOF")
}

// TestSlowReader takes a child's output only after the child has ended.
func TestSlowReader(t *testing.T) {
	w := &afterEnd{}
	r := fakeRestic(t, "echo $$; head -c 60000 /dev/zero; echo end")
	if err := r.Dump(ctx(t), "s", "/f", w); err != nil || w.n < 60000 || !strings.HasSuffix(w.tail, "end\n") {
		t.Errorf("%d bytes, the last of them %q, %v", w.n, w.tail, err)
	}
}

// afterEnd is a writer that takes nothing until the process has ended whose id comes first.
type afterEnd struct {
	once sync.Once
	n    int
	tail string
}

func (w *afterEnd) Write(p []byte) (int, error) {
	var err error
	w.once.Do(func() {
		pid, _, _ := strings.Cut(string(p), "\n")
		var id int
		if id, err = strconv.Atoi(pid); err == nil {
			err = awaitEnd(id)
		}
	})
	w.n += len(p)
	w.tail = string(p)
	return len(p), err
}

func awaitEnd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
