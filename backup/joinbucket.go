package backup

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/progress"
)

// joinBucket makes the inventory of the frozen moment of the listings before and after it:
// the catalog says which objects that needs. What is missing then may just have been on
// its way, so that it is looked for once more; the certificate tells of what stays missing.
// What any of the listings had is in the pool, whatever was purged since.
func (r *run) joinBucket(ctx context.Context, step progress.Step) error {
	if !r.bucketLater() {
		return nil
	}
	needed, err := r.neededObjects()
	if err != nil {
		return err
	}
	needs := func(key string) bool {
		h := hashed(key)
		_, ok := needed[h]
		if ok {
			needed[h] = true
		}
		return ok
	}
	m := r.mirror
	before := m.hot.Inventory
	for again := false; ; again = true {
		if m.cold.Inventory, err = m.copier.Join(before, m.cold.Inventory, needs); err != nil {
			return err
		}
		before = m.cold.Inventory
		missing := 0
		for _, found := range needed {
			if !found {
				missing++
			}
		}
		if missing == 0 || again {
			return fault.Point("prove.bucket")
		}
		r.Report.Note(english.PluralWord(missing, "An object that the set needs is", fmt.Sprint(missing, " objects that the set needs are")) + " not in the bucket; it is listed again")
		if err := r.copyAfter(ctx, step); err != nil {
			return err
		}
	}
}

// neededObjects is the set of the keys that the catalog names, hashed to save memory; the
// values tell which were found, or need not be: those of uploads that OpenCloud was still
// processing.
func (r *run) neededObjects() (map[[16]byte]bool, error) {
	needed := map[[16]byte]bool{}
	for n, err := range r.proof.file.All() {
		if err != nil {
			return nil, err
		}
		if n.At != "" {
			needed[hashed(n.At)] = n.Pending != ""
		}
	}
	return needed, nil
}

func hashed(key string) [16]byte {
	h := sha256.Sum256([]byte(key))
	return [16]byte(h[:])
}
