package s3mirror

import (
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is uploaded, purged, backed up, forgotten and expired, in any order: every
// set that is retained can be restored, to the same bucket and to another, exactly.
func TestHistory(t *testing.T) {
	// Each history takes half a second; -rapid.checks=N tries N.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		flag.Set(f.Name, "8")
		defer flag.Set(f.Name, f.DefValue)
	}
	w := newWorld(t)
	w.onServer(w.server, w.server.Endpoint)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		w.set.StateDir = t.TempDir()
		w.target.Location = filepath.Join(t.TempDir(), "pool")
		if run%2 == 0 {
			w.target.Location = fmt.Sprintf("s3:%s/pool/%d", w.server.Endpoint, run)
		}
		w.server.Wipe(t, testBucket)
		h := &history{rt: rt, w: w, bucket: map[string][]byte{}, name: fmt.Sprintf("fresh-%d", run)}
		w.server.Bucket(t, h.name)
		rt.Repeat(map[string]func(*rapid.T){
			"upload": h.upload, "purge": h.purge, "backup": h.backup, "forget": h.forget, "expire": h.expire, "restore": h.restore,
		})
		for i := range h.sets {
			h.restoreSet(i)
		}
	})
}

// history is a bucket, and the sets that are retained of it.
type history struct {
	rt     *rapid.T
	w      *world
	name   string // of a second bucket
	bucket map[string][]byte
	sets   []testSet
	made   int
	days   int
}

var historyKeys = rapid.SampledFrom([]string{"s/a", "s/b/c", "top", "Odd/x"})

func (h *history) upload(rt *rapid.T) {
	key := historyKeys.Draw(rt, "key")
	h.bucket[key] = rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(rt, "content")
	h.w.server.Put(h.w.t, testBucket, key, h.bucket[key])
}

func (h *history) purge(rt *rapid.T) {
	key := historyKeys.Draw(rt, "key")
	h.w.server.Delete(h.w.t, testBucket, key)
	delete(h.bucket, key)
}

func (h *history) backup(rt *rapid.T) {
	h.made++
	c, err := h.w.copy(h.w.t.Context(), h.last(), CopyOptions{AcceptEmpty: true, Reconcile: rapid.IntRange(0, 3).Draw(rt, "reconcile") == 0})
	if err != nil {
		rt.Fatal(err)
	}
	for _, f := range c.Findings {
		if f.Kind != Changed {
			rt.Fatalf("%+v", f)
		}
	}
	h.sets = append(h.sets, testSet{
		SetInventory{Set: fmt.Sprint(h.made), Open: kept(h.w.t, c), Digest: c.Inventory.Digest}, maps.Clone(h.bucket), c.Findings,
	})
}

func (h *history) last() LastInventory {
	if len(h.sets) == 0 {
		return nil
	}
	return h.sets[len(h.sets)-1].Open
}

func (h *history) forget(rt *rapid.T) {
	if len(h.sets) < 2 {
		rt.Skip()
	}
	i := rapid.IntRange(0, len(h.sets)-1).Draw(rt, "set")
	h.sets = slices.Delete(h.sets, i, i+1)
}

func (h *history) expire(rt *rapid.T) {
	if len(h.sets) == 0 {
		rt.Skip()
	}
	h.days += rapid.IntRange(0, 2).Draw(rt, "days")
	o := ExpireOptions{Grace: day, Now: noon.Add(time.Duration(h.days) * day)}
	if _, err := h.w.pool().Expire(h.w.t.Context(), testOwner, inventories(h.sets...), o); err != nil {
		rt.Fatal(err)
	}
}

func (h *history) restore(rt *rapid.T) {
	if len(h.sets) == 0 {
		rt.Skip()
	}
	h.restoreSet(rapid.IntRange(0, len(h.sets)-1).Draw(rt, "set"))
}

func (h *history) restoreSet(i int) {
	fresh := h.w.bucket
	fresh.Name = h.name
	h.w.server.Wipe(h.w.t, h.name)
	h.bucket = maps.Clone(h.sets[i].objects)
	for _, b := range []Bucket{h.w.bucket, fresh} {
		if _, err := h.w.restore(h.w.t.Context(), h.sets[i], Destination{Bucket: &b}, RestoreOptions{DeleteExtra: true}); err != nil {
			h.rt.Fatal(err)
		}
		if got, want := h.w.server.Objects(h.w.t, b.Name), sumsOf(h.bucket); !maps.Equal(got, want) {
			h.rt.Fatalf("bucket %s holds %v, the set has %v", b.Name, sortedKeys(got), sortedKeys(want))
		}
	}
}
