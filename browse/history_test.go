package browse

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

var at = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// blobs counts contents: equal ones have blobs of their own.
var blobs int

// file is a file with some content, version one of it before.
func file(path, content string) catalog.Node {
	blobs++
	return catalog.Node{
		Kind: catalog.KindFile, Path: path, ID: "id" + path, Size: int64(len(content)), MTime: at,
		Blob: fmt.Sprint("b", blobs), SHA1: fmt.Sprintf("%040x", content),
	}
}

func version(path, content, key string) catalog.Node {
	n := file(path, content)
	n.Kind, n.Version = catalog.KindVersion, key
	return n
}

func folder(path string) catalog.Node {
	return catalog.Node{Kind: catalog.KindFolder, Path: path, ID: "id" + path, MTime: at}
}

func deleted(n catalog.Node, key string, item bool) catalog.Node {
	n.Trash, n.Deleted, n.Item = key, at, item
	return n
}

// write makes a catalog of one space.
func write(t *testing.T, space catalog.Space, nodes ...catalog.Node) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.jsonl")
	w, err := catalog.Create(path, opencloud.Decomposed)
	if err != nil {
		t.Fatal(err)
	}
	space.Kind, space.Dir = catalog.KindSpace, "spaces/"+space.ID
	s, err := w.Section(space)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.Space = space.ID
		if err := s.Add(&n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

var sales = catalog.Space{ID: "s1", Name: "Sales", Type: "project"}

// past is what each of some sets has, oldest first: the path of its catalog, or an error.
type past []any

func (p past) history(t *testing.T, place string) (*Trail, error) {
	t.Helper()
	var sets []manifest.Set
	for i := range p {
		sets = append(sets, manifest.Set{ID: fmt.Sprint("set", i)})
	}
	at, err := ParsePlace(place)
	if err != nil {
		t.Fatal(err)
	}
	return historyOf(t, sets, at, p, nil)
}

func historyOf(t *testing.T, sets []manifest.Set, at Place, p past, lost map[string]*certificate.Certificate) (*Trail, error) {
	t.Helper()
	return History(t.Context(), sets, at, Sources{Certificate: func(s *manifest.Set) (*certificate.Certificate, error) { return lost[s.ID], nil }, Open: func(s *manifest.Set) (*catalog.File, error) {
		i := slices.IndexFunc(sets, func(x manifest.Set) bool { return x.ID == s.ID })
		if err, bad := p[i].(error); bad {
			return nil, err
		}
		return catalog.Open(p[i].(string))
	}})
}

// A set that has lost a content is not named as one to get it from.
func TestHistoryOfLost(t *testing.T) {
	const p = "/o.odt"
	sets := past{write(t, sales, file(p, "a")), write(t, sales, file(p, "bb"), version(p, "a", "v1")), write(t, sales, file(p, "bb"), version(p, "a", "v1"))}
	finding := func(kind catalog.Kind, path, version string) certificate.Finding {
		return certificate.Finding{Class: certificate.Missing, Fatal: true, Space: "s1", Path: path, Kind: kind, Version: version}
	}
	var list []manifest.Set
	for i := range sets {
		list = append(list, manifest.Set{ID: fmt.Sprint("set", i), Manifest: &manifest.Manifest{Certificate: &manifest.Proof{}}})
	}
	list[1].Manifest.Certificate.Fatal, list[2].Manifest.Certificate.Fatal = 1, 3
	got, err := historyOf(t, list, Place{Space: "Sales", Path: p}, sets, map[string]*certificate.Certificate{
		"set1": {Findings: []certificate.Finding{finding(catalog.KindFile, p, "")}},
		"set2": {Findings: []certificate.Finding{finding(catalog.KindFile, p, ""), finding(catalog.KindVersion, p, "v1"), finding(catalog.KindFile, "/other", "")}},
	})
	want := []string{"- 0 current 2: ", "set0-set1 2 version 1: set1 Sales:" + p + " --version v1"}
	if err != nil || !slices.Equal(lines(got), want) || got.Contents[0].Lost != "set2" || got.Contents[1].Lost != "set2" {
		t.Errorf("%v\n%s\n%+v", err, strings.Join(lines(got), "\n"), got.Contents)
	}
}

// lines shows contents by what a person is told.
func lines(tr *Trail) (out []string) {
	for _, c := range tr.Contents {
		out = append(out, fmt.Sprintf("%s-%s %d %s %d: %s", c.First, c.Last, c.Sets, c.Where, c.Size, strings.Join(c.Get, " ")))
	}
	return out
}

func TestHistory(t *testing.T) {
	renamed := sales
	renamed.Name = "Sales 2026"
	const p = "/Offers/o.odt"
	old := fail.Usagef("", "it has no catalog")
	sets := past{
		old,
		write(t, sales, folder("/Offers"), file(p, "a")),
		write(t, sales, folder("/Offers"), file(p, "a")),
		write(t, sales, folder("/Offers"), file(p, "bb"), version(p, "a", "2026-11-20")),
		write(t, sales, folder("/Offers"), deleted(file(p, "bb"), "k1", true), deleted(version(p, "a", "2026-11-20"), "k1", false)),
		write(t, renamed, folder("/Offers"), file(p, "ccc"), file(p+"x", "no"), deleted(file(p, "bb"), "k1", true), deleted(version(p, "a", "2026-11-20"), "k1", false)),
	}
	got, err := sets.history(t, "Sales 2026:"+p)
	want := []string{
		"set5-set5 1 current 3: set5 Sales 2026:" + p,
		"set3-set5 3 trash 2: set5 Sales 2026:" + p + " --trash --item k1",
		"set1-set5 5 trash 1: set5 Sales 2026:" + p + " --trash --item k1 --version 2026-11-20",
	}
	if err != nil || !slices.Equal(lines(got), want) || got.Searched != 5 || got.Damage != nil {
		t.Fatalf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
	if len(got.Skipped) != 1 || got.Skipped[0].Set != "set0" {
		t.Errorf("skipped: %+v", got.Skipped)
	}
	// By the name that the space had once: the id tells that it is the same.
	got, err = sets[:5].history(t, "sales:"+p)
	if err != nil || len(got.Contents) != 2 || got.Contents[1].Where != Trash || got.Contents[1].First != "set1" {
		t.Errorf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
	got, err = sets[1:3].history(t, "Sales:"+p)
	if err != nil || !slices.Equal(lines(got), []string{"set0-set1 2 current 1: set1 Sales:" + p}) {
		t.Errorf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
	// Only what has the name now is called by it in older sets.
	got, err = past{sets[1], sets[5]}.history(t, "Sales 2026:"+p)
	if err != nil || len(got.Contents) != 3 || got.Contents[2].Last != "set1" {
		t.Errorf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
	if got, err = (past{sets[1], write(t, renamed)}).history(t, "Sales 2026:"+p); err != nil || len(got.Contents) != 1 || got.Contents[0].Get[1] != "s1:"+p {
		t.Errorf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
	if got, err = sets.history(t, "s1:/Offers"); err != nil || !slices.Equal(lines(got), []string{"set1-set5 5 current 0: set5 s1:/Offers"}) {
		t.Errorf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
	if got, err = sets.history(t, "s1:/none"); err != nil || len(got.Contents) != 0 || got.Searched != 5 {
		t.Errorf("%v, %+v", err, got)
	}
}

// The content of a version, that came back as the current one: one content.
func TestHistoryOfWhatCameBack(t *testing.T) {
	sets := past{
		write(t, sales, file("/f", "a")),
		write(t, sales, file("/f", "bb"), version("/f", "a", "v1")),
		write(t, sales, file("/f", "a"), version("/f", "bb", "v2"), version("/f", "a", "v1")),
	}
	got, err := sets.history(t, "Sales:/f")
	if err != nil || !slices.Equal(lines(got), []string{"set0-set2 3 current 1: set2 Sales:/f", "set1-set2 2 version 2: set2 Sales:/f --version v2"}) {
		t.Errorf("%v\n%s", err, strings.Join(lines(got), "\n"))
	}
}

func TestHistoryFailures(t *testing.T) {
	good := write(t, sales, file("/f", "a"))
	damage := fail.New(fail.Inconsistent, "torn", "")
	got, err := past{good, damage}.history(t, "Sales:/f")
	if err != nil || len(got.Contents) != 1 || fail.CodeOf(got.Damage) != fail.Inconsistent || len(got.Skipped) != 1 {
		t.Errorf("a damaged set: %v, %+v", err, got)
	}
	network := errors.New("no route to host")
	if _, err := (past{network, good}).history(t, "Sales:/f"); !errors.Is(err, network) {
		t.Errorf("the repository went away: %v", err)
	}
	var unknown *catalog.NotFoundError
	if _, err := (past{good, good}).history(t, "Sals:/f"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "set1") || !strings.Contains(err.Error(), "Sales") {
		t.Errorf("no such space: %v", err)
	}
	if _, err := (past{damage, fail.Usagef("", "no catalog")}).history(t, "Sales:/f"); fail.CodeOf(err) != fail.Usage {
		t.Errorf("nothing to look into: %v", err)
	}
}

func TestRefs(t *testing.T) {
	refs := RefsOf([]catalog.Space{
		{ID: "1", Name: "Alan", Alias: "personal/alan"},
		{ID: "2", Name: "Alan", Alias: "personal/alan2"},
		{ID: "3", Name: "Sales", Alias: "project/sales"},
		{ID: "4", Name: "3", Alias: "project/three"},
		{ID: "5", Name: "-x"},
		{ID: "6", Name: "a:/b", Alias: "project/ab"},
		{ID: "7"},
		{ID: "8", Name: "sales"},
	})
	for id, want := range map[string]string{"1": "personal/alan", "2": "personal/alan2", "3": "Sales", "4": "project/three", "5": "5", "6": "project/ab", "7": "7", "8": "sales", "9": "9"} {
		if got := refs.Place(id, "/x"); got != want+":/x" {
			t.Errorf("space %s is called %s, want %s", id, got, want)
		}
	}
}
