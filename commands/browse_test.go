package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/browse"
	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/extract"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// browsed makes a set with these spaces and nodes, which name their spaces by id.
func browsed(t *testing.T, id string, spaces []catalog.Space, nodes []catalog.Node) *opened {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog")
	w, err := catalog.Create(path, opencloud.Posix)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range spaces {
		s.Kind, s.Dir = catalog.KindSpace, "projects/"+s.ID
		section, err := w.Section(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.Space == s.ID {
				if n.MTime = noon; n.ID == "" {
					n.ID = "id" + n.Path
				}
				if err := section.Add(&n); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := section.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	f, err := catalog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &opened{
		env: &env{ctx: t.Context(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}, catalog: f,
		set: &manifest.Set{ID: id, Manifest: &manifest.Manifest{Catalog: &sum}},
	}
}

// printed returns what was printed since it was called last.
func (o *opened) printed() string {
	b := o.out.(*bytes.Buffer)
	defer b.Reset()
	return b.String()
}

var (
	someSpaces = []catalog.Space{
		{ID: "p1", Name: "Alan", Type: "personal", Alias: "personal/alan", Owner: "u1"},
		{ID: "s1", Name: "Sales Team", Type: "project", Alias: "project/sales", Owner: "s1"},
		{ID: "s2", Name: "Old", Type: "project", Owner: "s2", Disabled: noon},
	}
	someNodes = []catalog.Node{
		{Space: "p1", Kind: catalog.KindFile, Path: "/note.txt", Size: 3},
		{Space: "s1", Kind: catalog.KindFolder, Path: "/Offers"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/Offers/it's.odt", Size: 2048},
		{Space: "s1", Kind: catalog.KindVersion, Path: "/Offers/it's.odt", Size: 1024, Version: "v2"},
		{Space: "s1", Kind: catalog.KindVersion, Path: "/Offers/it's.odt", Size: 1023, Version: "v1"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/bad\n\xff", Problem: &catalog.Problem{Class: "broken", Text: "odd"}},
		{Space: "s1", Kind: catalog.KindFolder, Path: "/Offers/old", Trash: "k1", Deleted: noon.Add(time.Hour), Item: true},
		{Space: "s1", Kind: catalog.KindFile, Path: "/Offers/old/note.txt", Size: 5, Trash: "k1", Deleted: noon},
	}
)

func TestLs(t *testing.T) {
	t.Setenv("TZ", "UTC")
	o := browsed(t, "set1", someSpaces, someNodes)
	for _, tc := range []struct {
		name, space, path string
		l                 lister
		want              string
	}{
		{"a folder", "s1", "/", lister{}, "Offers/\n$'bad\\n\\xff'\n"},
		{"below", "s1", "/Offers", lister{}, `'it'\''s.odt'` + "\n"},
		{"a file", "s1", "/Offers/it's.odt", lister{}, `'Sales Team:/Offers/it'\''s.odt'` + "\n"},
		{"its versions", "s1", "/Offers/it's.odt", lister{versions: true}, `'Sales Team:/Offers/it'\''s.odt'
'Sales Team:/Offers/it'\''s.odt' --version v2
'Sales Team:/Offers/it'\''s.odt' --version v1
`},
		{"all", "s1", "/", lister{recursive: true}, `'Sales Team:/Offers/'
'Sales Team:/Offers/it'\''s.odt'
$'Sales Team:/bad\n\xff'
`},
		{"all, long", "s1", "/", lister{recursive: true, long: true}, "" +
			"           " + clock(noon) + "        'Sales Team:/Offers/'\n" +
			"  2.0 KiB  " + clock(noon) + "    +2  'Sales Team:/Offers/it'\\''s.odt'\n" +
			"      0 B  " + clock(noon) + "        $'Sales Team:/bad\\n\\xff'   # broken: odd\n"},
		{"long", "s1", "/Offers", lister{long: true}, "  2.0 KiB  " + clock(noon) + "    +2  'it'\\''s.odt'\n"},
		{"trash", "s1", "/", lister{trash: true}, "'Sales Team:/Offers/old/' --trash --item k1\n"},
		{"trash and what is in it", "s1", "/Offers", lister{trash: true, recursive: true}, "'Sales Team:/Offers/old/' --trash --item k1\n'Sales Team:/Offers/old/note.txt' --trash --item k1\n"},
		{"trash, long", "s1", "/", lister{trash: true, long: true}, "           " + clock(noon.Add(time.Hour)) + "        'Sales Team:/Offers/old/' --trash --item k1\n"},
		{"no trash", "p1", "/", lister{trash: true}, ""},
		{"another space", "p1", "/", lister{}, "note.txt\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.l.opened = o
			err := tc.l.list(&catalog.Space{ID: tc.space}, tc.path)
			if got := o.printed(); err != nil || got != tc.want {
				t.Errorf("%v\n%q, want\n%q", err, got, tc.want)
			}
		})
	}
	l := lister{opened: o}
	err := l.list(&catalog.Space{ID: "s1"}, "/Offers/x y")
	_, _, hint := fail.Details(err)
	if fail.CodeOf(err) != fail.Usage || !strings.Contains(hint, "ocbackup history 'Sales Team:/Offers/x y'") {
		t.Errorf("%v; %s", err, hint)
	}
}

func TestLsJSON(t *testing.T) {
	o := browsed(t, "set1", someSpaces, someNodes)
	o.json = true
	l := &lister{opened: o, recursive: true}
	if err := l.list(&catalog.Space{ID: "s1"}, "/"); err != nil {
		t.Fatal(err)
	}
	var got listing
	text := o.printed()
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got.Set != "set1" || got.Place != "Sales Team:/" || len(got.Nodes) != 3 || got.Nodes[1].Versions != 2 || got.Nodes[1].Place != "Sales Team:/Offers/it's.odt" {
		t.Errorf("%s", text)
	}
	if bad := got.Nodes[2]; bad.Raw != "L2JhZAr/" || bad.Problem == nil {
		t.Errorf("%+v", bad)
	}
	l = &lister{opened: o, trash: true}
	if err := l.list(&catalog.Space{ID: "p1"}, "/"); err != nil {
		t.Fatal(err)
	}
	if text := o.printed(); json.Unmarshal([]byte(text), &got) != nil || got.Nodes == nil {
		t.Errorf("an empty list: %s", text)
	}
}

func TestFind(t *testing.T) {
	o := browsed(t, "set1", someSpaces, someNodes)
	for _, tc := range []struct {
		name, pattern, space string
		l                    lister
		want                 string
	}{
		{"a part of the name", "NOTE", "", lister{}, "Alan:/note.txt\n"},
		{"in the trash too", "note", "", lister{trash: true}, "Alan:/note.txt\n'Sales Team:/Offers/old/note.txt' --trash --item k1\n"},
		{"in one space", "note", "project/sales", lister{trash: true}, "'Sales Team:/Offers/old/note.txt' --trash --item k1\n"},
		{"versions", "*.odt", "", lister{versions: true}, `'Sales Team:/Offers/it'\''s.odt'
'Sales Team:/Offers/it'\''s.odt' --version v2
'Sales Team:/Offers/it'\''s.odt' --version v1
`},
		{"without versions", "*.odt", "", lister{}, `'Sales Team:/Offers/it'\''s.odt'` + "\n"},
		{"folders", "offers", "", lister{}, "'Sales Team:/Offers/'\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			match, err := browse.Matcher(tc.pattern, false)
			if err != nil {
				t.Fatal(err)
			}
			tc.l.opened = o
			err = tc.l.find(tc.pattern, tc.space, match)
			if got := o.printed(); err != nil || got != tc.want {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
	none := func(string) bool { return false }
	l := &lister{opened: o}
	if err := l.find("x", "", none); err != nil || o.printed() != "" || !strings.Contains(o.err.(*bytes.Buffer).String(), "Nothing found") {
		t.Errorf("%v, %v", err, o.err)
	}
	if err := l.find("x", "Salse Team", none); fail.CodeOf(err) != fail.Usage {
		t.Errorf("%v", err)
	}
	o.json = true
	if err := l.find("x", "", none); err != nil || !strings.Contains(o.printed(), `"nodes": []`) {
		t.Errorf("%v", err)
	}
}

// Two spaces of one name: the candidates are named, with what tells them apart.
func TestAmbiguousSpace(t *testing.T) {
	o := browsed(t, "set1", []catalog.Space{{ID: "p1", Name: "Alan", Type: "personal"}, {ID: "p2", Name: "Alan", Type: "project"}}, nil)
	_, err := o.space("Alan")
	if fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "p1") || !strings.Contains(err.Error(), "p2") {
		t.Errorf("%v", err)
	}
	if err := o.listSpaces(false); err != nil || o.printed() != "p1:/\np2:/\n" {
		t.Errorf("%v", err)
	}
}

func TestSpaces(t *testing.T) {
	o := browsed(t, "set1", someSpaces, someNodes)
	if err := o.listSpaces(true); err != nil {
		t.Fatal(err)
	}
	text := o.printed()
	for _, want := range []string{"personal/alan", "Sales Team", "2, 2.0 KiB", "disabled " + clock(noon), "1 with problems"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if err := o.listSpaces(false); err != nil {
		t.Error(err)
	}
	if got := o.printed(); got != "Alan:/\n'Sales Team:/'\nOld:/\n" {
		t.Errorf("%s", got)
	}
	o.json = true
	if err := o.listSpaces(true); err != nil {
		t.Error(err)
	}
	var got spacesView
	if text := o.printed(); json.Unmarshal([]byte(text), &got) != nil || len(got.Spaces) != 3 || got.Spaces[1].Versions != 2 || got.Spaces[1].Place != "Sales Team:/" {
		t.Errorf("%s", text)
	}
}

func TestDiff(t *testing.T) {
	before := []catalog.Node{
		{Space: "s1", Kind: catalog.KindFolder, Path: "/Offers"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/Offers/a b", Size: 10, ID: "1", SHA1: "11"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/Offers/c", Size: 10, ID: "2", SHA1: "22"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/gone", Size: 7, ID: "3", SHA1: "33"},
		{Space: "s2", Kind: catalog.KindFile, Path: "/x", Size: 1, ID: "4"},
	}
	after := []catalog.Node{
		{Space: "p1", Kind: catalog.KindFile, Path: "/new", Size: 2048, ID: "5"},
		{Space: "s1", Kind: catalog.KindFolder, Path: "/Offers"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/Offers/a b", Size: 12, ID: "1", SHA1: "12"},
		{Space: "s1", Kind: catalog.KindFile, Path: "/moved", Size: 10, ID: "2", SHA1: "22"},
	}
	a, b := browsed(t, "set1", someSpaces[1:], before), browsed(t, "set2", someSpaces[:2], after)
	run := func(space string, asJSON bool) (string, error) {
		var out bytes.Buffer
		d := &differ{env: &env{ctx: t.Context(), out: &out, json: asJSON}, from: *a, to: *b, space: space}
		err := d.run()
		return out.String(), err
	}
	text, err := run("", false)
	for _, want := range []string{
		"+ Alan:/   # a space\n", "+ Alan:/new   # 2.0 KiB\n", "- 'Sales Team:/gone'   # 7 B\n", "~ 'Sales Team:/Offers/a b'   # 10 B, now 12 B\n",
		"> 'Sales Team:/moved'   # from 'Sales Team:/Offers/c'\n", "- Old:/   # a space\n", "- Old:/x   # 1 B\n",
		"set1 to set2: 1 added (2.0 KiB), 2 removed (8 B), 1 changed (12 B), 1 moved.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); err != nil || n != 8 {
		t.Errorf("%v: %d lines\n%s", err, n, text)
	}
	if text, err := run("Old", false); err != nil || strings.Count(text, "\n") != 3 || !strings.Contains(text, "1 removed") {
		t.Errorf("%v\n%s", err, text)
	}
	var got struct {
		diffView
		diffEnd
	}
	text, err = run("", true)
	if err != nil || json.Unmarshal([]byte(text), &got) != nil || len(got.Changes) != 7 || got.From != "set1" || got.To != "set2" {
		t.Errorf("%v\n%s", err, text)
	}
	if s := got.Summary; s.Added != 1 || s.RemovedBytes != 8 || len(s.SpacesAdded) != 1 || s.SpacesRemoved[0] != "s2" {
		t.Errorf("%+v", s)
	}
	if _, err := run("Nothing", false); fail.CodeOf(err) != fail.Usage {
		t.Errorf("%v", err)
	}
	b = a
	if text, err := run("", false); err != nil || text != "Nothing differs between set1 and set1.\n" {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestPrintTrail(t *testing.T) {
	var out, errOut bytes.Buffer
	e := &env{ctx: t.Context(), out: &out, err: &errOut}
	trail := &browse.Trail{Place: "M:/a b", Searched: 3, Skipped: []browse.Skipped{{Set: "set0", Reason: "no catalog"}}, Contents: []*browse.Content{
		{Kind: catalog.KindFile, Size: 2048, First: "set1", Last: "set3", Sets: 3, Where: browse.Current, Get: []string{"set3", "M:/a b"}},
		{Kind: catalog.KindFile, Size: 5, First: "set2", Last: "set2", Sets: 1, Where: browse.Trash, Deleted: noon, Get: []string{"set2", "M:/a b", "--trash", "--item", "k"}},
	}}
	err := e.printTrail(trail)
	for _, want := range []string{"set3    2.0 KiB", "current, in 3 sets from set1 on", "ocbackup get set3 'M:/a b' --to DIR", "in the trash, deleted " + clock(noon), "get set2 'M:/a b' --trash --item k --to DIR"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if err != nil || !strings.Contains(errOut.String(), "set0: no catalog") {
		t.Errorf("%v, %s", err, errOut.String())
	}
	trail.Damage = fail.New(fail.Inconsistent, "torn", "")
	out.Reset()
	e.json = true
	var told *reportedError
	if err := e.printTrail(trail); fail.CodeOf(err) != fail.Inconsistent || !errors.As(err, &told) || json.Unmarshal(out.Bytes(), &browse.Trail{}) != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	errOut.Reset()
	e.json = false
	if err := e.printTrail(&browse.Trail{Place: "M:/x", Searched: 2}); err != nil || !strings.Contains(errOut.String(), "None of 2 sets has M:/x") {
		t.Errorf("%v, %s", err, errOut.String())
	}
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, fmt.Errorf("write: %w", syscall.EPIPE) }

// "| head" is no failure; an interruption is one.
func TestNobodyReadsOn(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		o := browsed(t, "set1", someSpaces, someNodes)
		o.out, o.json = gone{}, asJSON
		l := &lister{opened: o}
		if err := l.list(&catalog.Space{ID: "s1"}, "/"); err != nil {
			t.Errorf("%v", err)
		}
	}
	o := browsed(t, "set1", someSpaces, someNodes)
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errInterrupted)
	o.ctx = ctx
	l := &lister{opened: o}
	searched := false
	err := l.find("x", "", func(string) bool { searched = true; return false })
	if fail.CodeOf(err) != fail.Interrupted || o.printed() != "" || searched {
		t.Errorf("%v, searched on: %v", err, searched)
	}
}

// What get tells is one object, and its error is not told again in JSON.
func TestGetTells(t *testing.T) {
	o := browsed(t, "set1", someSpaces, someNodes)
	lost := fail.New(fail.Inconsistent, "one thing was not brought", "")
	res := &extract.Result{Path: "/a", Files: 2, Checked: 1, Skipped: []extract.Skipped{{Path: "/b", Class: extract.Refused, Reason: "\x1b[2J"}}}
	if err := o.printResult(res, lost); !errors.Is(err, lost) || strings.Contains(o.printed(), "\x1b") {
		t.Errorf("%v", err)
	}
	o.json = true
	var told *reportedError
	if err := o.printResult(res, lost); !errors.As(err, &told) || fail.CodeOf(err) != fail.Inconsistent || json.Unmarshal([]byte(o.printed()), res) != nil {
		t.Errorf("%v", err)
	}
	if err := o.printResult(nil, lost); errors.As(err, &told) || o.printed() != "" {
		t.Errorf("nothing was begun, and that is told: %v", err)
	}
}

// A copy in the cache that turns out to be damaged is removed: the next command reads
// it from the repository.
func TestDamagedCopy(t *testing.T) {
	o := browsed(t, "set1", someSpaces, someNodes)
	o.cfg = &config.Config{StateDir: t.TempDir()}
	text := `{"catalog":1,"driver":"posix"}` + "\n" + `{"kind":"space","space":"s1","name":"Sales","type":"project","dir":"x","counts":{}}` + "\nnonsense\n"
	path := filepath.Join(t.TempDir(), "catalog")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.set.Manifest.Catalog.Size = uint64(len(text))
	if err := manifest.KeepCatalog(o.cacheDir(), path, o.set.Manifest.Catalog); err != nil {
		t.Fatal(err)
	}
	if o.catalog = manifest.CachedCatalog(o.set, o.cacheDir()); o.catalog == nil {
		t.Fatal("it is not in the cache")
	}
	defer o.catalog.Close()
	l := &lister{opened: o}
	err := l.find("x", "", func(string) bool { return true })
	if _, _, hint := fail.Details(err); fail.CodeOf(err) != fail.Inconsistent || !strings.Contains(hint, "run it again") {
		t.Errorf("%v; %s", err, hint)
	}
	if manifest.CachedCatalog(o.set, o.cacheDir()) != nil {
		t.Error("it is still in the cache")
	}
}
