package extract

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
)

// small is a set of a folder with two files.
func small(t *testing.T) *world {
	w := newWorld(t, opencloud.Posix)
	w.folder("/d")
	w.folder("/d/e")
	w.file("/d/a", "set a")
	w.file("/d/e/b", "set b")
	return w.store()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, then, then)); err != nil {
		t.Fatal(err)
	}
}

// What is there is not touched, unless that was asked for.
func TestNothingIsOverwritten(t *testing.T) {
	t.Parallel()
	w := small(t)
	for _, c := range []struct {
		name, path string
		there      map[string]string
	}{
		{"a file", "/d/a", map[string]string{"a": "mine"}},
		{"a folder", "/d", map[string]string{"d/own": "mine"}},
		{"a file in place of a folder", "/d", map[string]string{"d": "mine"}},
		{"a folder in place of a file", "/d/a", map[string]string{"a/own": "mine"}},
	} {
		o := w.get(c.path)
		for rel, text := range c.there {
			write(t, filepath.Join(o.To, rel), text)
		}
		before := tree(t, o.To)
		res, err := Run(context.Background(), o)
		if res != nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), filepath.Join(o.To, filepath.Base(c.path))) {
			t.Errorf("%s: %+v, %v", c.name, res, err)
		}
		expect(t, o.To, before)
	}
}

func TestOverwrite(t *testing.T) {
	t.Parallel()
	w := small(t)
	o := w.get("/d")
	o.Overwrite = true
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "not to be touched")
	write(t, filepath.Join(o.To, "d/own"), "mine")
	if err := errors.Join(os.Symlink(secret, filepath.Join(o.To, "d/a"))); err != nil {
		t.Fatal(err)
	}
	if res := w.run(o); res.Files != 2 {
		t.Errorf("%+v", res)
	}
	expect(t, o.To, map[string]string{"d": "folder (of another time)", "d/own": "mine", "d/a": "set a", "d/e": "folder", "d/e/b": "set b"})
	if b, err := os.ReadFile(secret); err != nil || string(b) != "not to be touched" {
		t.Errorf("written through a link: %q, %v", b, err)
	}
	// Again, over what it has written itself.
	w.run(o)

	// A folder where a file has to be stays, and everything else comes.
	if err := os.Remove(filepath.Join(o.To, "d/a")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(o.To, "d/a/own"), "mine")
	res, err := Run(context.Background(), o)
	if fail.CodeOf(err) != fail.Incomplete || len(res.Skipped) != 1 || res.Skipped[0].Class != Exists || res.Files != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if got := tree(t, o.To); got["d/a/own"] != "mine" || got["d/e/b"] != "set b" {
		t.Errorf("%v", got)
	}
	for _, path := range []string{"/d/a", "/d"} {
		o := w.get(path)
		o.Overwrite = true
		if name := filepath.Base(path); path == "/d" {
			write(t, filepath.Join(o.To, name), "a file")
		} else {
			write(t, filepath.Join(o.To, name, "in a folder"), "x")
		}
		if res, err := Run(context.Background(), o); res != nil || fail.CodeOf(err) != fail.Usage {
			t.Errorf("%s over something of another kind: %+v, %v", path, res, err)
		}
	}
}

// Links that somebody has planted lead nowhere, be it out of the directory or within.
func TestPlantedLinks(t *testing.T) {
	t.Parallel()
	w := small(t)
	for _, within := range []bool{false, true} {
		o := w.get("/d")
		o.Overwrite = true
		outside := filepath.Join(t.TempDir(), "outside")
		if within {
			outside = filepath.Join(o.To, "elsewhere")
		}
		if err := errors.Join(os.MkdirAll(filepath.Join(o.To, "d"), 0o700), os.Mkdir(outside, 0o700), os.Symlink(outside, filepath.Join(o.To, "d/e"))); err != nil {
			t.Fatal(err)
		}
		res, err := Run(context.Background(), o)
		if fail.CodeOf(err) != fail.Incomplete || len(res.Skipped) != 2 || res.Files != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		if got := tree(t, outside); len(got) != 0 {
			t.Errorf("written outside: %v", got)
		}
	}
}

// A sink is safe by itself, whatever it is told to write.
func TestDirectoryIsNotLeft(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	d := &directory{path: filepath.Join(base, "to"), sel: &selection{}, uid: -1, gid: -1, made: map[string]bool{".": true}}
	if err := d.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for _, rel := range []string{"../evil", "a/../../evil", "/evil", "..", "a/../../to/../evil"} {
		it := &item{rel: rel, path: rel}
		var f *fault
		out, err := d.create(t.Context(), it)
		if err == nil {
			err = out.commit()
			out.discard()
		}
		if !errors.As(err, &f) {
			t.Errorf("file %q: %v", rel, err)
		}
		if err := d.folder(t.Context(), &item{rel: rel, folder: true}); !errors.As(err, &f) {
			t.Errorf("folder %q: %v", rel, err)
		}
	}
	for rel := range tree(t, base) {
		if rel != "to" {
			t.Errorf("%s was written", rel)
		}
	}
}

// Errors of the place end it all; those of one item do not.
func TestJudge(t *testing.T) {
	d := &directory{path: "/x"}
	for _, c := range []struct {
		err error
		one bool
	}{
		{syscall.ENOSPC, false},
		{syscall.EDQUOT, false},
		{syscall.EROFS, false},
		{syscall.EIO, false},
		{syscall.EEXIST, true},
		{syscall.EACCES, true},
		{syscall.ENAMETOOLONG, true},
		{syscall.EILSEQ, true},
	} {
		var f *fault
		err := d.judge(&os.PathError{Op: "write", Path: "p", Err: c.err})
		if errors.As(err, &f) != c.one {
			t.Errorf("%v: %v", c.err, err)
		}
		if _, _, hint := fail.Details(err); !c.one && (hint == "" || fail.CodeOf(err) != fail.Failed) {
			t.Errorf("%v: %v, hint %q", c.err, err, hint)
		}
	}
}

// A new directory is closed to others; files and folders in it are as the umask says.
func TestModes(t *testing.T) {
	t.Parallel()
	w := small(t)
	o := w.get("/d")
	o.To = filepath.Join(o.To, "deeper")
	w.run(o)
	umask := syscall.Umask(0o022)
	syscall.Umask(umask)
	for rel, want := range map[string]os.FileMode{".": 0o700, "..": 0o700, "d": 0o777 &^ os.FileMode(umask), "d/e/b": 0o666 &^ os.FileMode(umask)} {
		if st, err := os.Stat(filepath.Join(o.To, rel)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", rel, st.Mode(), err, want)
		}
	}
}

// Root gives it to whom the directory belongs.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	t.Parallel()
	w := small(t)
	o := w.get("/d")
	home := filepath.Dir(o.To)
	if err := os.Chown(home, 1234, 1235); err != nil {
		t.Fatal(err)
	}
	w.run(o)
	for _, rel := range []string{"to", "to/d", "to/d/a", "to/d/e", "to/d/e/b"} {
		st, err := os.Lstat(filepath.Join(home, rel))
		if err != nil {
			t.Fatal(err)
		}
		if s := st.Sys().(*syscall.Stat_t); s.Uid != 1234 || s.Gid != 1235 {
			t.Errorf("%s belongs to %d:%d", rel, s.Uid, s.Gid)
		}
	}
}

// Whoever ends it is left with whole files and no others.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := small(t)
	w.fake(`printf 'set'; exec sleep 60`)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := errors.New("ended by the test")
	o := w.get("/d/a")
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, o)
		done <- err
	}()
	env.Eventually(t, 30*time.Second, "a temporary file", func() bool {
		found, err := filepath.Glob(filepath.Join(o.To, ".ocbackup-*"))
		return err == nil && len(found) > 0
	})
	cancel(ended)
	if err := <-done; !errors.Is(err, ended) {
		t.Errorf("%v", err)
	}
	expect(t, o.To, map[string]string{})
}

func TestTargetIsAFile(t *testing.T) {
	w := small(t)
	o := w.get("/d")
	write(t, o.To, "a file")
	if res, err := Run(context.Background(), o); res != nil || fail.CodeOf(err) != fail.Usage {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"Marketing": "Marketing", "a/b": "a_b", "..": "id", ".": "id", "": "id", " ": "id", "tab\tbell\x07": "tab_bell_", "\xff": "_",
		"ünï": "ünï", strings.Repeat("ü", 200): strings.Repeat("ü", 127), "nul\x00": "nul_",
	} {
		if got := safeName(name, "id"); got != want || badName(got) != "" {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := safeName("..", "../.."); badName(got) != "" {
		t.Errorf("%q", got)
	}
	// A space of an odd name.
	w := newWorld(t, opencloud.Posix)
	w.space.Name = "../Sales / Support"
	w.file("/f", "f")
	w.store()
	o := w.get("/")
	w.run(o)
	expect(t, o.To, map[string]string{".._Sales _ Support": "folder (of another time)", ".._Sales _ Support/f": "f"})
}

// Folders are read whole where that is less work than one process for each file.
func TestPlan(t *testing.T) {
	const mib = 1 << 20
	blobs := func(size int64, at ...string) (list []*blob) {
		for _, a := range at {
			list = append(list, &blob{at: a, items: []*item{{size: size}}})
		}
		return list
	}
	posix := planner{opencloud.Posix, catalog.Space{Dir: "p/s", Counts: catalog.Counts{Bytes: 10 * mib, VersionBytes: 10000 * mib}}}
	spread := planner{opencloud.Decomposed, catalog.Space{Dir: "spaces/aa/b", Counts: catalog.Counts{Bytes: 10 * mib, VersionBytes: 990 * mib}}}
	var many []string
	for i := range 100 {
		many = append(many, "spaces/aa/b/blobs/"+string("0123456789abcdef"[i%16])+string("0123456789abcdef"[i/16])+"/x")
	}
	for _, c := range []struct {
		name  string
		p     planner
		blobs []*blob
		want  []string // the folders; "" of one file
	}{
		{"one file", posix, blobs(1, "p/s/a"), []string{""}},
		{"a folder", posix, blobs(1, "p/s/d/a", "p/s/d/b"), []string{"p/s/d"}},
		{"folders in a folder", posix, blobs(1, "p/s/d/a", "p/s/d/e/b", "p/s/d/f/g/h"), []string{"p/s/d"}},
		{"a space full of versions", posix, blobs(1, "p/s/a/1", "p/s/a/2", "p/s/b/1", "p/s/b/2", "p/s/c"), []string{"p/s/a", "p/s/b", ""}},
		{"big files", posix, blobs(1000*mib, "p/s/d/a", "p/s/d/b"), []string{"p/s/d"}},
		{"few blobs among many", spread, blobs(1, many[:3]...), []string{"", "", ""}},
		{"most blobs", spread, blobs(1, many...), []string{"spaces/aa/b/blobs"}},
	} {
		sortBlobs(c.blobs)
		units, _ := c.p.plan(c.blobs)
		var got []string
		n := 0
		for _, u := range units {
			n += len(u.blobs)
			if u.single() {
				got = append(got, "")
			} else {
				got = append(got, u.dir)
			}
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") || n != len(c.blobs) {
			t.Errorf("%s: %q of %d blobs, want %q", c.name, got, n, c.want)
		}
	}
}

// A name that is taken while the file is being written is not taken over, and what
// could not be placed is gone.
func TestSomebodyIsFaster(t *testing.T) {
	t.Parallel()
	d := &directory{path: filepath.Join(t.TempDir(), "to"), sel: &selection{}, uid: -1, gid: -1, made: map[string]bool{".": true}}
	if err := d.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	f, err := d.create(t.Context(), &item{rel: "f"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("ours")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.path, "f"), "theirs")
	var taken *fault
	if err = f.commit(); !errors.As(err, &taken) || taken.class != Exists {
		t.Errorf("%v", err)
	}
	f.discard()
	expect(t, d.path, map[string]string{"f": "theirs"})
}
