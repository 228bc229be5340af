package s3mirror

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/google/uuid"
)

// Each set is told what it needs, and what only it needs; the pool what nobody does.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	space := uuid.NewString()
	both, first, second, changed, odd := newKey(space), newKey(space), newKey(uuid.NewString()), newKey(space), "Odd one/ü"
	objects := map[string][]byte{both: newContent(1), first: newContent(20), changed: newContent(300), odd: newContent(4000), "top": newContent(5)}
	w.put(objects)
	one := w.keepSet("one", objects)
	w.server.Delete(t, testBucket, first)
	w.server.Delete(t, testBucket, odd)
	later := map[string][]byte{second: newContent(60000), changed: newContent(301)}
	w.put(later)
	delete(objects, first)
	delete(objects, odd)
	maps.Copy(objects, later)
	two := w.keepSet("two", objects)
	again := two
	again.Set = "two, again"

	u := w.usage(one, two)
	if want := []SetUsage{{"one", 5, 4326, 3, 4320}, {"two", 4, 60307, 2, 60301}}; !slices.Equal(u.Sets, want) {
		t.Errorf("sets %+v, want %+v", u.Sets, want)
	}
	if u.Objects != 7 || u.Bytes != 64627 || u.Held != 7 || u.HeldBytes != u.Bytes || u.Unreferenced != 0 || len(u.Lost) != 0 {
		t.Errorf("usage %+v", u)
	}
	if u := w.usage(two, again); u.Sets[0].Only != 0 || u.Sets[1].Objects != 4 || u.Unreferenced != 3 || u.UnreferencedBytes != 4320 {
		t.Errorf("of sets that need the same, without the first: %+v", u)
	}
	again.Digest = ""
	if u := w.usage(two, again); u.Sets[0].Only != 0 || u.Objects != 4 {
		t.Errorf("of sets that need the same: %+v", u)
	}

	w.spoil(both, func([]byte) []byte { return nil })
	w.spoil(second, func(b []byte) []byte { return b[1:] })
	u = w.usage(one, two)
	lost := map[string]string{}
	for _, f := range u.Lost {
		lost[f.Key] = f.Kind
	}
	if want := map[string]string{both: Lost, second: Damaged}; !maps.Equal(lost, want) {
		t.Errorf("lost %v, want %v", u.Lost, want)
	}

	// An inventory that was not read in full counts nothing.
	for name, s := range map[string]SetInventory{
		"another than the set's": {Set: "x", Open: one.Open, Digest: sum([]byte("x"))},
		"broken":                 {Set: "x", Open: broken},
	} {
		if u, err := w.pool().Usage(t.Context(), []SetInventory{two.SetInventory, s}, UsageOptions{}); err == nil || !strings.Contains(err.Error(), "set x") {
			t.Errorf("an inventory that is %s: %+v, %v", name, u, err)
		}
	}
}

func (w *world) usage(sets ...testSet) *Usage {
	w.t.Helper()
	u, err := w.pool().Usage(w.t.Context(), inventories(sets...), UsageOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// Whatever sets name, folding them gives each path once, in order, with who wants it.
func TestRefs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		files, err := newScratch("")
		if err != nil {
			rt.Fatal(err)
		}
		defer files.close()
		key := rapid.SampledFrom([]string{"a", "b", "a/x", "a/y", "a-b/x", "a/x/y", "b/x", "Q/x", "a b/x"})
		want := map[string]int{}
		r := &refs{files: files}
		for i := range rapid.IntRange(0, 5).Draw(rt, "sets") {
			set := map[string]Object{}
			for _, k := range rapid.SliceOfN(key, 0, 9).Draw(rt, "keys") {
				o := Object{Key: k, Size: int64(len(k)), At: place(k)}
				if rapid.IntRange(0, 3).Draw(rt, "changed") == 0 {
					o.At = changedDir + "/" + digestOf(k)[:8]
				}
				set[k] = o
			}
			text := ""
			for _, k := range slices.SortedFunc(maps.Keys(set), compare) {
				o := set[k]
				line, _ := encode(nil, &o)
				text += string(line)
				want[o.Path()]++
			}
			if _, _, err := r.fold(newReader(strings.NewReader(text), "set"), i, 1); err != nil {
				rt.Fatal(err)
			}
		}
		all, done, err := r.all()
		if err != nil {
			rt.Fatal(err)
		}
		defer done()
		got := map[string]int{}
		for all = all.ordered("refs"); ; {
			e, err := all()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				rt.Fatal(err)
			}
			got[e.Path] = e.sets
		}
		if !maps.Equal(got, want) {
			rt.Fatal(fmt.Sprintf("got %v, want %v", got, want))
		}
	})
}
