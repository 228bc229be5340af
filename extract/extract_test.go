package extract

import (
	"bytes"
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
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
)

var long = strings.Repeat("n", 255)

// full makes a set of all that there can be.
func full(w *world) *world {
	w.file("/offer.odt", "now")
	w.version("/offer.odt", "2026-11-20T10:00:00.5Z", "before")
	w.version("/offer.odt", "2026-10-01T10:00:00.5Z", "long before")
	w.file("/empty", "")
	w.folder("/a")
	w.folder("/a/none in it")
	w.file("/a/it's \n\"odd\"", "odd")
	w.version("/a/it's \n\"odd\"", "2026-10-02T10:00:00.5Z", "not wanted")
	w.file("/a/\xff\xfe", "no UTF-8")
	w.file("/a/"+long, "long")
	w.folder("/a/b")
	w.file("/a/b/deep", "deep")
	w.file("/a/b/-dash", "dash")
	w.folder("/ab")
	w.file("/ab/beside", "beside")
	old := then.Add(-48 * time.Hour)
	w.trash(&catalog.Node{Kind: catalog.KindFile, Path: "/gone.txt", Trash: "k-first", Deleted: old}, "", "first")
	w.trash(&catalog.Node{Kind: catalog.KindFile, Path: "/gone.txt", Trash: "j-last", Deleted: then}, "", "last")
	w.trash(&catalog.Node{Kind: catalog.KindVersion, Path: "/gone.txt", Trash: "j-last", Deleted: then, Version: "2026-01-01T00:00:00Z"}, "", "last before")
	w.trash(&catalog.Node{Kind: catalog.KindFolder, Path: "/a", Trash: "t-folder", Deleted: then}, "", "")
	w.trash(&catalog.Node{Kind: catalog.KindFile, Path: "/a/thrown", Trash: "t-folder", Deleted: then}, "/thrown", "away")
	w.trash(&catalog.Node{Kind: catalog.KindFile, Path: "/a/b/deep", Trash: "u-deep", Deleted: then}, "", "deeper")
	return w.store()
}

// What is got is what was there: names, contents, times.
func TestWhatComesBack(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		full(w)
		a := map[string]string{
			"a": "folder", "a/none in it": "folder", "a/it's \n\"odd\"": "odd", "a/\xff\xfe": "no UTF-8", "a/" + long: "long",
			"a/b": "folder", "a/b/deep": "deep", "a/b/-dash": "dash",
		}
		all := map[string]string{"Marketing": "folder (of another time)", "Marketing/offer.odt": "now", "Marketing/empty": "", "Marketing/ab": "folder", "Marketing/ab/beside": "beside"}
		for rel, text := range a {
			all["Marketing/"+rel] = text
		}
		for _, c := range []struct {
			name                 string
			change               func(*Options)
			path                 string
			want                 map[string]string
			files, folders, sums uint64
		}{
			{name: "a file", path: "/offer.odt", want: map[string]string{"offer.odt": "now"}, files: 1, sums: 1},
			{name: "an empty file", path: "/empty", want: map[string]string{"empty": ""}, files: 1, sums: 1},
			{name: "an odd name", path: "/a/it's \n\"odd\"", want: map[string]string{"it's \n\"odd\"": "odd"}, files: 1, sums: 1},
			{name: "no UTF-8", path: "/a/\xff\xfe", want: map[string]string{"\xff\xfe": "no UTF-8"}, files: 1, sums: 1},
			{name: "a folder", path: "/a", want: a, files: 5, folders: 3, sums: 5},
			{name: "the space", path: "/", want: all, files: 8, folders: 5, sums: 8},
			{
				name: "the newest version", path: "/offer.odt", change: func(o *Options) { o.Version = "1" },
				want: map[string]string{"offer.odt": "before"}, files: 1, sums: 1,
			},
			{
				name: "a version by its key", path: "/offer.odt", change: func(o *Options) { o.Version = "2026-10" },
				want: map[string]string{"offer.odt": "long before"}, files: 1, sums: 1,
			},
			{
				name: "what was deleted last", path: "/gone.txt", change: func(o *Options) { o.Trash = true },
				want: map[string]string{"gone.txt": "last"}, files: 1, sums: 1,
			},
			{
				name: "what was deleted before", path: "/gone.txt", change: func(o *Options) { o.Trash, o.Item = true, "k-" },
				want: map[string]string{"gone.txt": "first"}, files: 1, sums: 1,
			},
			{
				name: "a version of what was deleted", path: "/gone.txt", change: func(o *Options) { o.Trash, o.Version = true, "1" },
				want: map[string]string{"gone.txt": "last before"}, files: 1, sums: 1,
			},
			{
				name: "a deleted folder", path: "/a", change: func(o *Options) { o.Trash = true },
				want: map[string]string{"a": "folder", "a/thrown": "away"}, files: 1, folders: 1, sums: 1,
			},
			{
				name: "in a deleted folder", path: "/a/thrown", change: func(o *Options) { o.Trash = true },
				want: map[string]string{"thrown": "away"}, files: 1, sums: 1,
			},
		} {
			o := w.get(c.path)
			if c.change != nil {
				c.change(&o)
			}
			res := w.run(o)
			expect(t, o.To, c.want)
			var bytes uint64
			for rel, text := range c.want {
				if st, err := os.Lstat(filepath.Join(o.To, rel)); err == nil && st.Mode().IsRegular() {
					bytes += uint64(len(text))
				}
			}
			if res.Files != c.files || res.Folders != c.folders || res.Checked != c.sums || res.Bytes != bytes {
				t.Errorf("%s: %+v, want %d bytes", c.name, res, bytes)
			}
			var from uint64
			for _, s := range res.Sources {
				from += s.Bytes
			}
			if from != bytes {
				t.Errorf("%s: %d bytes came from somewhere, of %d", c.name, from, bytes)
			}
			if t.Failed() {
				t.Fatal(c.name)
			}
		}
	})
}

// Of several things that were deleted from one path the last is got, and the others
// are named.
func TestSeveralInTheTrash(t *testing.T) {
	w := full(newWorld(t, "posix"))
	o, n := w.get("/gone.txt"), &notes{Reporter: progress.Discard}
	o.Trash, o.Report = true, n
	if res := w.run(o); res.Item != "j-last" || !strings.Contains(n.text, "k-first") || strings.Contains(n.text, "j-last") {
		t.Errorf("%+v; %s", res, n.text)
	}
}

// What can't be meant is an error that says what can, and nothing is written.
func TestNothingOfTheKind(t *testing.T) {
	w := full(newWorld(t, "posix"))
	for _, c := range []struct {
		name, path, version, item string
		trash, stdout             bool
		want                      string
	}{
		{name: "no such path", path: "/no", want: "has no Marketing:/no"},
		{name: "a part of a name", path: "/off", want: "has no"},
		{name: "only in the trash", path: "/gone.txt", want: "in the trash only"},
		{name: "not in the trash", path: "/offer.odt", trash: true, want: "the trash of set"},
		{name: "all of the trash", path: "/", trash: true, want: "one item"},
		{name: "a version of a folder", path: "/a", version: "1", want: "only files"},
		{name: "a number too high", path: "/offer.odt", version: "3", want: "2 versions"},
		{name: "version 0", path: "/offer.odt", version: "0", want: "from 1"},
		{name: "a key of no version", path: "/offer.odt", version: "1999-", want: "2026-11-20"},
		{name: "the beginning of two keys", path: "/offer.odt", version: "2026-1", want: "and of"},
		{name: "no versions", path: "/empty", version: "1", want: "no versions"},
		{name: "a key of no item", path: "/gone.txt", trash: true, item: "zzz", want: "k-first"},
		{name: "a key without --trash", path: "/gone.txt", item: "k", want: "--item"},
		{name: "a folder to standard output", path: "/a", stdout: true, want: "standard output"},
	} {
		o := w.get(c.path)
		o.Version, o.Item, o.Trash = c.version, c.item, c.trash
		if c.stdout {
			o.Stdout = &bytes.Buffer{}
		}
		res, err := Run(context.Background(), o)
		_, hint, _ := fail.Details(err)
		_ = hint
		if res != nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, res, err)
		}
		if len(tree(t, filepath.Dir(o.To))) > 0 {
			t.Errorf("%s: something was written", c.name)
		}
	}
}

func TestStandardOutput(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		w.file("/f", "content")
		bad := w.file("/bad", "other than the metadata says")
		bad.SHA1 = strings.Repeat("0", 40)
		w.store()
		var b bytes.Buffer
		o := w.get("/f")
		o.To, o.Stdout = "", &b
		if w.run(o); b.String() != "content" {
			t.Errorf("%q", b.String())
		}
		o.Path = "/bad"
		if _, err := Run(context.Background(), o); fail.CodeOf(err) != fail.Inconsistent {
			t.Errorf("wrong content: %v", err)
		}
	})
}

// Whoever reads it may have had enough: what says so arrives as it is.
func TestNobodyReadsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	w.file("/a", "content")
	w.store()
	o := w.get("/a")
	r, p, err := os.Pipe()
	w.must(err)
	defer p.Close()
	w.must(r.Close())
	o.To, o.Stdout = "", p
	if _, err := Run(t.Context(), o); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v", err)
	}
}

// Where the metadata has no hash, or only a poor one, what there is is compared.
func TestPoorMetadata(t *testing.T) {
	w := newWorld(t, "decomposed")
	w.folder("/d")
	w.file("/d/md5", "1").SHA1 = ""
	n := w.file("/d/adler", "12")
	n.SHA1, n.MD5 = "", ""
	for _, name := range []string{"/d/none", "/d/lost", "/d/short"} {
		n = w.file(name, "123")
		n.SHA1, n.MD5, n.Adler32 = "", "", ""
	}
	n.Size = 4
	lost := w.nodes[len(w.nodes)-2]
	lost.Size, lost.Problem = 0, &catalog.Problem{Class: "unreadable", Fatal: true, Text: "it has lost its metadata"}
	w.file("/d/upper", "x").SHA1 = strings.ToUpper(w.nodes[len(w.nodes)-1].SHA1)
	w.store()
	o, said := w.get("/d"), &notes{Reporter: progress.Discard}
	o.Report = said
	res, err := Run(context.Background(), o)
	if !strings.Contains(said.text, "metadata of 1 file is damaged") {
		t.Errorf("of /d/lost it is not said that nothing tells what it was: %s", said.text)
	}
	if fail.CodeOf(err) != fail.Inconsistent || res.Files != 5 || res.Checked != 3 || len(res.Skipped) != 1 || res.Skipped[0].Class != SizeMismatch {
		t.Errorf("%+v, %v", res, err)
	}
	expect(t, o.To, map[string]string{"d": "folder", "d/md5": "1", "d/adler": "12", "d/none": "123", "d/lost": "123", "d/upper": "x"})
}

// What OpenCloud was still processing need not be there, and is no damage.
func TestPendingUpload(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		w.folder("/d")
		w.file("/d/here", "whole").Pending = "u1"
		gone := w.file("/d/on its way", "not all of it")
		gone.Pending = "u2"
		w.must(os.Remove(w.stored(gone)))
		if w.driver == "decomposeds3" {
			w.objects = w.objects[:1]
		}
		w.file("/d/other", "other")
		w.store()
		o := w.get("/d")
		res, err := Run(context.Background(), o)
		if fail.CodeOf(err) != fail.Incomplete || len(res.Skipped) != 1 || res.Skipped[0].Class != Pending || !strings.Contains(res.Skipped[0].Reason, "--version 1") {
			t.Errorf("%+v, %v", res, err)
		}
		expect(t, o.To, map[string]string{"d": "folder", "d/here": "whole", "d/other": "other"})
	})
}

// One blob may be the content of several files.
func TestSharedBlob(t *testing.T) {
	eachDriver(t, func(t *testing.T, w *world) {
		w.folder("/d")
		first := w.file("/d/1", "shared")
		second := w.file("/d/2", "shared")
		second.At = first.At
		third := w.file("/d/3", "shared")
		third.At, third.SHA1 = first.At, strings.Repeat("0", 40)
		w.file("/d/4", "own")
		w.store()
		o := w.get("/d")
		res, err := Run(context.Background(), o)
		if fail.CodeOf(err) != fail.Inconsistent || res.Files != 3 || len(res.Skipped) != 1 || res.Skipped[0].Path != "/d/3" {
			t.Errorf("%+v, %v", res, err)
		}
		expect(t, o.To, map[string]string{"d": "folder", "d/1": "shared", "d/2": "shared", "d/4": "own"})
	})
}

// What was read early is taken for what it is, and for nothing else.
func TestEarly(t *testing.T) {
	t.Parallel()
	w := full(newWorld(t, opencloud.Posix))
	real := w.repo
	o := w.get("/offer.odt")
	o.Early = Begin(t.Context(), o)
	defer o.Early.Close()
	<-o.Early.done
	w.fake("echo restic is not to be asked again >&2; exit 1")
	o.Repo = w.repo
	w.run(o)
	expect(t, o.To, map[string]string{"offer.odt": "now"})

	w.repo = real
	for name, change := range map[string]func(*Early){
		"another file":       func(e *Early) { e.at += "x"; e.content.Reset() },
		"another set":        func(e *Early) { e.snapshot = "0"; e.content.Reset() },
		"it could not be":    func(e *Early) { e.err = context.Canceled; e.content.Reset() },
		"it is still asked":  func(*Early) {},
		"ended by its owner": func(e *Early) { e.Close() },
	} {
		o := w.get("/offer.odt")
		o.Early = Begin(t.Context(), o)
		if name != "it is still asked" && name != "ended by its owner" {
			<-o.Early.done
		}
		change(o.Early)
		w.run(o)
		expect(t, o.To, map[string]string{"offer.odt": "now"})
		o.Early.Close()
	}
	// What differs from the metadata is found as ever.
	o = w.get("/offer.odt")
	o.Early = Begin(t.Context(), o)
	<-o.Early.done
	o.Early.content.WriteString("!")
	if _, err := Run(t.Context(), o); fail.CodeOf(err) != fail.Inconsistent {
		t.Errorf("%v", err)
	}
	if e := Begin(t.Context(), w.get("/a")); e != nil {
		t.Error("a folder is read early")
	}
	var none *Early
	none.Close()
}
