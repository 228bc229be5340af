package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
)

// stored is a set with a catalog, in a repository whose restic is a script: it writes
// a line to calls whenever it is run.
type stored struct {
	set   *Set
	repo  *repo.Repo
	path  string // what restic dumps
	calls string
}

func store(t *testing.T) *stored {
	t.Helper()
	dir := t.TempDir()
	s := &stored{path: filepath.Join(dir, "catalog"), calls: filepath.Join(dir, "calls")}
	w, err := catalog.Create(s.path, opencloud.Posix)
	if err != nil {
		t.Fatal(err)
	}
	section, err := w.Section(catalog.Space{Kind: catalog.KindSpace, ID: "s1", Name: "Sales", Dir: "projects/s1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(section.Add(&catalog.Node{Kind: catalog.KindFile, Space: "s1", Path: "/a", ID: "a", Size: 1}), section.Close()); err != nil {
		t.Fatal(err)
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho >>%s\ncat %s || { echo 'Fatal: cannot dump file: path \"/x\" not found in snapshot' >&2; exit 1; }\n", s.calls, s.path)
	restic, password := filepath.Join(dir, "restic"), filepath.Join(dir, "password")
	for name, text := range map[string]string{restic: script, password: "x"} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.repo = repo.New(repo.Options{Binary: restic, Location: dir, PasswordFile: password})
	s.set = &Set{ID: "20261121T000000Z-aaaa", Snapshot: "abc", Manifest: &Manifest{Catalog: &sum}}
	return s
}

// opens asserts that the catalog can be read, after so many calls of restic in all.
func (s *stored) opens(t *testing.T, cacheDir string, calls int) {
	t.Helper()
	var done, total uint64
	f, err := OpenCatalog(t.Context(), s.repo, s.set, cacheDir, func(d, all uint64) { done, total = d, all })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Lookup("s1", "/a"); err != nil || n.ID != "a" {
		t.Errorf("%v, %v", n, err)
	}
	log, err := os.ReadFile(s.calls)
	if err != nil || len(log) != calls {
		t.Errorf("restic was run %d times, want %d (%v)", len(log), calls, err)
	}
	if size := s.set.Manifest.Catalog.Size; done > 0 && (done != size || total != size) {
		t.Errorf("progress: %d of %d", done, total)
	}
}

func TestOpenCatalog(t *testing.T) {
	s, cache := store(t), t.TempDir()
	cached := catalogPath(cache, s.set.Manifest.Catalog)
	if CachedCatalog(s.set, cache) != nil {
		t.Error("it is in an empty cache")
	}
	s.opens(t, cache, 1)
	s.opens(t, cache, 1)
	if f := CachedCatalog(s.set, cache); f == nil {
		t.Error("it is not in the cache")
	} else {
		f.Close()
	}
	good, err := os.ReadFile(cached)
	if err != nil {
		t.Fatal(err)
	}
	for i, damage := range []func() error{
		func() error { return os.Truncate(cached, int64(len(good)-1)) },
		func() error { return os.Truncate(cached, int64(bytes.LastIndexByte(good[:len(good)-1], '\n')+1)) },
		func() error { return os.WriteFile(cached, make([]byte, len(good)), 0o600) },
		func() error { return errors.Join(os.Remove(cached), os.Mkdir(cached, 0o700)) },
		func() error { return os.Remove(cached) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		s.opens(t, cache, 2+i)
	}
	if !DropCatalog(s.set, cache) || DropCatalog(s.set, cache) {
		t.Error("it can be dropped twice, or never")
	}
	s.opens(t, cache, 7)
}

// Without a cache, or where it can't be written, it is a temporary file that is gone
// at once: what is open lives on.
func TestOpenCatalogWithoutCache(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := store(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.opens(t, "", 1)
	s.opens(t, file, 2)
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOpenCatalogFailures(t *testing.T) {
	s, cache := store(t), t.TempDir()
	good, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{"a bit": flipped, "longer": append(slices.Clone(good), '\n'), "shorter": good[:len(good)-1], "nothing": {}} {
		if err := os.WriteFile(s.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCatalog(t.Context(), s.repo, s.set, cache, nil); fail.CodeOf(err) != fail.Inconsistent || !strings.Contains(err.Error(), s.set.ID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCatalog(t.Context(), s.repo, s.set, cache, nil); fail.CodeOf(err) != fail.Inconsistent {
		t.Errorf("it is not in the snapshot: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(cache, "catalogs")); err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
	future := *s.set.Manifest.Catalog
	future.Format++
	for name, set := range map[string]*Set{
		"no catalog":     {ID: "x", Manifest: &Manifest{}},
		"another format": {ID: "x", Manifest: &Manifest{Catalog: &future}},
	} {
		if _, err := OpenCatalog(t.Context(), s.repo, set, cache, nil); fail.CodeOf(err) != fail.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenCatalog(t.Context(), s.repo, &Set{ID: "x", Err: errors.New("torn")}, cache, nil); fail.CodeOf(err) != fail.Inconsistent {
		t.Errorf("a damaged manifest: %v", err)
	}
	// What is too long is not taken to its end.
	var taken bytes.Buffer
	a := &arrival{to: &taken, sum: sha256.New(), want: 3}
	if _, err := a.Write([]byte("four")); !errors.Is(err, errOtherCatalog) || taken.Len() > 0 {
		t.Errorf("%v, %q", err, taken.String())
	}
	// A digest never leads out of the cache.
	evil := catalog.Summary{Format: catalog.Format, Digest: "../../x", Size: uint64(len(good))}
	if err := KeepCatalog(cache, s.calls, &evil); err != nil {
		t.Error(err)
	}
	if found, err := filepath.Glob(filepath.Join(filepath.Dir(cache), "x*")); err != nil || len(found) > 0 {
		t.Errorf("written outside: %v", found)
	}
}

// That a temporary file can't be made here says nothing about the repository.
func TestOpenCatalogNoTemporaryFile(t *testing.T) {
	s := store(t)
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "gone"))
	if _, err := OpenCatalog(t.Context(), s.repo, s.set, "", nil); err == nil || fail.CodeOf(err) == fail.Inconsistent {
		t.Errorf("%v (code %d), which is no damage", err, fail.CodeOf(err))
	}
}

func TestKeepCatalog(t *testing.T) {
	s, cache := store(t), t.TempDir()
	if err := KeepCatalog(cache, s.path, s.set.Manifest.Catalog); err != nil {
		t.Fatal(err)
	}
	if err := KeepCatalog(cache, s.path, s.set.Manifest.Catalog); err != nil {
		t.Errorf("it is there already: %v", err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	f, err := OpenCatalog(t.Context(), s.repo, s.set, cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := os.Stat(s.calls); err == nil {
		t.Error("the repository was asked")
	}
	if left, err := os.ReadDir(filepath.Join(cache, "catalogs")); err != nil || len(left) != 1 {
		t.Errorf("in the cache: %v, %v", left, err)
	}
}

func TestEvict(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{
		"a.jsonl": 4 * time.Hour, "b.jsonl": time.Hour, "c.jsonl": 3 * time.Hour, "new.jsonl": 5 * time.Hour,
		".1.tmp": time.Hour, ".2.tmp": 25 * time.Hour, "other": 99 * time.Hour,
	} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(p, make([]byte, 10), 0o600), os.Chtimes(p, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	for _, step := range []struct {
		limit int64
		want  string
	}{
		{40, ".1.tmp a.jsonl b.jsonl c.jsonl new.jsonl other"},
		{39, ".1.tmp b.jsonl c.jsonl new.jsonl other"},
		{20, ".1.tmp b.jsonl new.jsonl other"},
		{5, ".1.tmp new.jsonl other"}, // the one that is wanted now stays, whatever its size
	} {
		if evict(dir, "new.jsonl", step.limit); left() != step.want {
			t.Errorf("limit %d: %s", step.limit, left())
		}
	}
}

// Using a catalog keeps it.
func TestUseCounts(t *testing.T) {
	s, cache := store(t), t.TempDir()
	s.opens(t, cache, 1)
	cached := catalogPath(cache, s.set.Manifest.Catalog)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(cached, old, old); err != nil {
		t.Fatal(err)
	}
	s.opens(t, cache, 1)
	if st, err := os.Stat(cached); err != nil || time.Since(st.ModTime()) > time.Minute {
		t.Errorf("%v, %v", st, err)
	}
}

func TestCachedSets(t *testing.T) {
	cache := t.TempDir()
	if got := CachedSets(cache); len(got) != 0 {
		t.Errorf("%v", got)
	}
	for snapshot, text := range map[string]string{
		"2": `{"format":1,"set":"20261122T000000Z-bbbb","roots":[{}]}`,
		"1": `{"format":1,"set":"20261121T000000Z-aaaa","roots":[{}]}`,
		"3": `{"format":1,`,
	} {
		remember(filepath.Join(cache, "manifests", snapshot+".json"), []byte(text))
	}
	got := CachedSets(cache)
	if len(got) != 2 || got[0].ID != "20261121T000000Z-aaaa" || got[0].Snapshot != "1" || got[1].Snapshot != "2" {
		t.Errorf("%+v", got)
	}
	if got := CachedSets(""); got != nil {
		t.Errorf("%v", got)
	}
}
