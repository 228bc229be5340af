package verify

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
)

// Whatever a tree is like, each file belongs to one unit of one part, no unit lies in
// another, and none is larger than it has to be.
func TestUnits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		driver := rapid.SampledFrom([]opencloud.Driver{opencloud.Posix, opencloud.Decomposed}).Draw(rt, "driver")
		step := rapid.SampledFrom([]string{"a", "b", "c", "d-e", "blobs", ".oc-nodes", "spaces", "\xff"})
		size := rapid.SampledFrom([]int64{0, 1, 1 << 20, unitLeast, unitBytes / 3, unitBytes + 1, unitMost})
		files := map[string]int64{}
		for range rapid.IntRange(1, 60).Draw(rt, "folders") {
			dir := strings.Join(rapid.SliceOfN(step, 1, 9).Draw(rt, "dir"), "/")
			for i := range rapid.SampledFrom([]int{1, 3, int(unitFiles), int(unitFiles) + 1}).Draw(rt, "files") {
				files[fmt.Sprintf("%s/f%d", dir, i)] = size.Draw(rt, "size")
			}
		}
		u := newUnits(driver)
		for at, size := range files {
			u.add(at, size)
		}
		parts := rapid.IntRange(1, 12).Draw(rt, "parts")
		found, direct := map[string]int64{}, map[string]int{}
		for at, size := range files {
			unit, whole := u.of(at)
			if whole && unit != "." && !strings.HasPrefix(at, unit+"/") || !whole && unit != at {
				rt.Fatalf("%q belongs to %q", at, unit)
			}
			found[unit] += size
			direct[parent(at)]++
			in := 0
			for n := 1; n <= parts; n++ {
				if (Part{N: n, T: parts}).holds(unit) {
					in++
				}
			}
			if in != 1 {
				rt.Fatalf("%q is in %d parts", unit, in)
			}
		}
		list := slices.Sorted(maps.Keys(found))
		for _, a := range list {
			for _, b := range list {
				if a != b && (a == "." || strings.HasPrefix(b, a+"/")) {
					rt.Fatalf("%q lies in %q", b, a)
				}
			}
			if _, file := files[a]; !file && found[a] > unitMost && direct[a] == 0 && !strings.Contains("/"+a+"/", "/blobs/") && !strings.Contains("/"+a, "/.oc-nodes/") {
				rt.Fatalf("%q was not cut: %d bytes", a, found[a])
			}
		}
	})
}

// Over all parts, every content is read once, and so it is with objects.
func TestEveryContentOnce(t *testing.T) {
	b, l := unitBytes, unitLeast
	t.Cleanup(func() { unitBytes, unitLeast = b, l })
	unitBytes, unitLeast = 1000, 1
	for _, d := range []opencloud.Driver{opencloud.Posix, opencloud.DecomposedS3} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d)
			for i := range 4 {
				w.file(fmt.Sprintf("/folder %d/file", i), 600)
			}
			at := w.at("/folder 3/file")
			if d == opencloud.Posix {
				w.held[at] = flipped(w.held[at])
			}
			w.store()
			if d == opencloud.DecomposedS3 {
				w.object(at, flipped)
			}
			var read uint64
			found := 0
			for range 2 {
				rep := w.verify("next/2")
				if !rep.Sound {
					found++
				}
				if n := rep.Sets[0].Read; n == 12 {
					t.Errorf("all were read for %s", rep.ReadData)
				}
				read += rep.Sets[0].Read
			}
			if read != 12 || found != 1 {
				t.Errorf("%d contents were read, want 12; the fault was found %d times, want once", read, found)
			}
		})
	}
}

// A named set is read in turns of its own: those of the newest miss nothing for it.
func TestTurnsOfNamedSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, opencloud.Posix)
	named := w.store()
	sets := []manifest.Set{{ID: named}}
	for i, c := range []struct {
		set  string
		want int
	}{{"", 1}, {named, 1}, {manifest.Latest, 2}, {named[:12], 2}, {"", 3}} {
		o := w.options("next/3")
		o.Set = c.set
		of, err := o.turn(t.Context(), sets)
		if err != nil || o.Part.N != c.want {
			t.Errorf("turn %d is of part %d, want %d (%v)", i, o.Part.N, c.want, err)
		}
		if err := remember(w.state, of, o.Part, time.Date(2026, 11, 1, i, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParsePart(t *testing.T) {
	for s, want := range map[string]Part{
		"": {}, "1/1": {N: 1, T: 1}, "3/10": {N: 3, T: 10}, "next/30": {T: 30}, "256/256": {N: 256, T: 256}, "5%": {Percent: "5%"}, "0.5%": {Percent: "0.5%"}, "100%": {Percent: "100%"},
	} {
		if got, err := ParsePart(s); err != nil || got != want || got.String() != s {
			t.Errorf("%q: %+v (%s), %v", s, got, got, err)
		}
	}
	for _, s := range []string{"0/1", "2/1", "1/0", "1/257", "next/0", "next", "1", "%", "0%", "101%", "-1/2", "1/2/3", "a/b", "99999999999999999999/1", "5 %"} {
		if got, err := ParsePart(s); fail.CodeOf(err) != fail.Usage {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// The part that was read longest ago is next, of each repository for itself; a file
// that can't be understood counts as none.
func TestRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	next := func(repository string, parts int) int {
		r, err := readRotation(dir)
		if err != nil {
			t.Fatal(err)
		}
		return r.next(repository, parts)
	}
	for i, n := range []int{1, 2, 3, 1, 2, 3} {
		if got := next("a", 3); got != n {
			t.Errorf("turn %d is of part %d, want %d", i, got, n)
		}
		if err := remember(dir, "a", Part{N: n, T: 3}, now.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if next("b", 3) != 1 || next("a", 4) != 1 {
		t.Error("another repository or number of parts has no turns of its own")
	}
	if err := os.WriteFile(filepath.Join(dir, RotationFile), []byte(`{"format":1,"read":{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if next("a", 3) != 1 {
		t.Error("a damaged file was understood")
	}
	// Without a place to remember it, nothing is next.
	o := Options{Part: Part{T: 3}}
	if _, err := o.turn(t.Context(), nil); fail.CodeOf(err) != fail.Usage {
		t.Errorf("without a state directory: %v", err)
	}
}
