package extract

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
)

// random is content that can't be compressed.
func random(size int) string {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	return string(b)
}

// What is damaged is named and not put in place; the rest is.
func TestDamage(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		w.folder("/d")
		for _, name := range []string{"a", "m", "z"} {
			w.file("/d/"+name, name)
		}
		w.file("/d/hash", "other content").SHA1 = strings.Repeat("0", 40)
		w.file("/d/longer", "1234").Size = 3
		w.file("/d/shorter", "1234").Size = 5
		w.file("/d/nowhere", "1234").At = ""
		w.file("/d/outside", "1234").At = "../outside"
		missing := w.file("/d/missing", "1234")
		w.must(os.Remove(w.stored(missing)))
		link := w.file("/d/link", "1234")
		w.must(os.Remove(w.stored(link)))
		w.must(os.Symlink("/etc/passwd", w.stored(link)))
		if w.driver == opencloud.DecomposedS3 {
			w.must(os.Remove(w.stored(link)))
			w.objects = w.objects[:len(w.objects)-2]
		}
		w.file("/d/negative", "1234").Size = -1
		// Its metadata are lost: nothing is known of it, which is not that it is empty.
		lost := w.file("/d/unreadable", "1234")
		lost.At, lost.Blob, lost.Size, lost.SHA1 = "", "", 0, ""
		lost.Problem = &catalog.Problem{Class: "unreadable", Fatal: true, Text: "its metadata is missing"}
		w.store()
		want := map[string]Class{
			"/d/hash": HashMismatch, "/d/longer": SizeMismatch, "/d/shorter": SizeMismatch, "/d/nowhere": Missing, "/d/outside": Missing,
			"/d/missing": Missing, "/d/link": Missing, "/d/negative": Unreadable, "/d/unreadable": Unreadable,
		}
		o := w.get("/d")
		res, err := Run(context.Background(), o)
		if fail.CodeOf(err) != fail.Inconsistent {
			t.Errorf("%+v, %v", res, err)
		}
		files := map[string]string{"d": "folder", "d/a": "a", "d/m": "m", "d/z": "z"}
		expect(t, o.To, files)
		for _, s := range res.Skipped {
			if want[s.Path] != s.Class {
				t.Errorf("%s: %s (%s), want %s", s.Path, s.Class, s.Reason, want[s.Path])
			}
			delete(want, s.Path)
		}
		for p := range want {
			t.Errorf("%s is not told of", p)
		}
		if int(res.Files)+len(res.Skipped) != 12 {
			t.Errorf("%+v", res)
		}
		// The same of single files, which are read in another way.
		for path, class := range map[string]Class{"/d/missing": Missing, "/d/link": Missing, "/d/hash": HashMismatch, "/d/longer": SizeMismatch} {
			o := w.get(path)
			res, err := Run(context.Background(), o)
			if fail.CodeOf(err) != fail.Inconsistent || len(res.Skipped) != 1 || res.Skipped[0].Class != class || len(tree(t, o.To)) > 0 {
				t.Errorf("%s: %+v, %v", path, res, err)
			}
		}
	})
}

// An object of the pool that was changed, cut off or lost.
func TestDamagedPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.DecomposedS3)
	w.folder("/d")
	for name, content := range map[string]string{"ok": "ok", "flipped": "content", "cut": "content", "gone": "content"} {
		w.file("/d/"+name, content)
	}
	w.store()
	for _, n := range w.nodes {
		switch n.Path {
		case "/d/flipped":
			w.must(os.WriteFile(w.stored(n), []byte("Content"), 0o600))
		case "/d/cut":
			w.must(os.WriteFile(w.stored(n), []byte("con"), 0o600))
		case "/d/gone":
			w.must(os.Remove(w.stored(n)))
		}
	}
	o := w.get("/d")
	res, err := Run(context.Background(), o)
	if fail.CodeOf(err) != fail.Inconsistent || len(res.Skipped) != 3 || res.Files != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	expect(t, o.To, map[string]string{"d": "folder", "d/ok": "ok"})
	for _, s := range res.Skipped {
		if want := map[string]Class{"/d/flipped": Unreadable, "/d/cut": Unreadable, "/d/gone": Missing}[s.Path]; s.Class != want {
			t.Errorf("%+v, want %s", s, want)
		}
	}
	// A pool that is gone altogether is no matter of single objects.
	w.must(os.Rename(w.at("pool"), w.at("elsewhere")))
	if res, err := Run(context.Background(), w.get("/d")); fail.CodeOf(err) != fail.Repository {
		t.Errorf("no pool: %+v, %v", res, err)
	}
}

// pack is the largest pack file of the repository.
func (w *world) pack() (path string, size int64) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.options.Location, "data/*/*"))
	w.must(err)
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && st.Size() > size {
			path, size = f, st.Size()
		}
	}
	return path, size
}

// Restic ends at the first thing that it can't read; what comes after is there all the same.
func TestDamagedRepository(t *testing.T) {
	for _, driver := range []opencloud.Driver{opencloud.Posix, opencloud.Decomposed} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, driver)
			w.folder("/d")
			w.folder("/d/e")
			files := map[string]string{"d": "folder", "d/e": "folder"}
			for _, name := range []string{"d/a", "d/e/a", "d/e/z", "d/z"} {
				w.file("/"+name, name)
				files[name] = name
			}
			w.file("/d/e/big", random(1<<20))
			w.store()
			pack, size := w.pack()
			f, err := os.OpenFile(pack, os.O_RDWR, 0)
			w.must(err)
			b := make([]byte, 1)
			_, err = f.ReadAt(b, size/2)
			w.must(err)
			b[0] ^= 1
			_, err = f.WriteAt(b, size/2)
			w.must(err)
			w.must(f.Close())
			o := w.get("/d")
			res, err := Run(context.Background(), o)
			if fail.CodeOf(err) != fail.Inconsistent || len(res.Skipped) != 1 || res.Skipped[0].Path != "/d/e/big" || res.Skipped[0].Class != Unreadable {
				t.Fatalf("%+v, %v", res, err)
			}
			expect(t, o.To, files)
			if !strings.Contains(res.Skipped[0].Reason, "repository") {
				t.Error(res.Skipped[0].Reason)
			}
		})
	}
}

// A folder of the snapshot that is damaged is not tried again for each of its files, and
// costs none of those beside it.
func TestDamagedFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	w.folder("/d")
	w.folder("/d/lost \"\u00fc\"")
	want := map[string]string{"d": "folder", "d/lost \"\u00fc\"": "folder"}
	for _, name := range strings.Split("abcdefghijklmnop", "") {
		w.file("/d/lost \"\u00fc\"/"+name, name)
	}
	for _, name := range []string{"before", "z/1", "z/2", "zz"} {
		w.file("/d/"+name, name)
		want["d/"+name] = name
	}
	w.folder("/d/z")
	want["d/z"] = "folder"
	w.store()
	real, log := w.options.Binary, w.at("calls")
	// It ends folders early, and says of what is in the one that it can't load that.
	w.fake(`echo "$*" >> ` + log + `
say() { echo "Fatal: cannot dump file: $1: decrypting blob <tree/ec3c2e95> from ad6a8f55 failed: ciphertext verification failed" >&2; exit 1; }
case "$*" in
*lost*) say 'cannot load subtree for "/users/projects/` + spaceID + `/d/lost \"\u00fc\""' ;;
*/d\ /) say LoadTree ;;
esac
exec ` + real + ` "$@"`)
	o := w.get("/d")
	res, err := Run(context.Background(), o)
	if fail.CodeOf(err) != fail.Inconsistent || len(res.Skipped) != 16 || res.Files != 4 {
		t.Errorf("%+v, %v", res, err)
	}
	expect(t, o.To, want)
	calls, err := os.ReadFile(log)
	if n := strings.Count(string(calls), "lost"); err != nil || n > 2 {
		t.Errorf("restic was asked %d times for what is lost, %v", n, err)
	}
	// What restic can't do at all is no damage, and ends it.
	w.fake(`echo 'Fatal: unable to open repository at x: dial tcp: connection refused' >&2; exit 1`)
	if res, err := Run(context.Background(), w.get("/d")); fail.CodeOf(err) != fail.Repository {
		t.Errorf("%+v, %v", res, err)
	}
}

// Names that can't be are refused, one by one; nothing is written outside.
func TestMaliciousCatalog(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		evil := []string{
			"/d/..", "/d/../evil", "/d/../../evil", "/d/../../../evil", "/d/.", "/d/./evil", "/d//evil", "/d/nul\x00", "/d/" + long + "n",
			"/d/x/", "/d/...//evil",
		}
		w.folder("/d")
		w.file("/d/good", "good")
		for _, p := range evil {
			if w.driver == opencloud.Posix {
				n := w.content(&catalog.Node{Kind: catalog.KindFile, Path: p}, w.space.Dir+"/d/stored", "evil")
				n.Path = p
			} else {
				w.file(p, "evil")
			}
		}
		w.folder("/d/../folder")
		// A file where a folder has to be, and the other way round.
		w.file("/d/file", "file")
		w.content(&catalog.Node{Kind: catalog.KindFile, Path: "/d/file/below"}, w.space.Dir+"/d/stored", "evil")
		w.store()
		o := w.get("/d")
		before := len(tree(t, filepath.Dir(o.To)))
		res, err := Run(context.Background(), o)
		if code := fail.CodeOf(err); code != fail.Incomplete && code != fail.Inconsistent {
			t.Errorf("%+v, %v", res, err)
		}
		got := tree(t, filepath.Dir(o.To))
		if before != 0 || got["to/d/good"] != "good" || got["to/d/file"] != "file" {
			t.Errorf("%v", got)
		}
		for rel := range got {
			if rel != "to" && rel != "to/d" && rel != "to/d/good" && rel != "to/d/file" {
				t.Errorf("%q was written", rel)
			}
		}
		if len(res.Skipped) != len(evil)+2 {
			t.Errorf("%d are named, want %d: %+v", len(res.Skipped), len(evil)+2, res.Skipped)
		}
	})
}
