package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
)

// SetInventory is the inventory of one retained set.
type SetInventory struct {
	Set  string
	Open func(context.Context) (io.ReadCloser, error)
	// Digest is the inventory's SHA-256, in hex: what is read is held against it, and
	// sets with the same are read once. It may be empty.
	Digest string
}

// UsageOptions say how usage is counted.
type UsageOptions struct {
	OnProgress func(Progress)
	// OnLost, which may be nil, is told of each object that is lost where in the pool it
	// should lie (Object.Path), and how many bytes lie there; -1: nothing does.
	OnLost func(path string, held int64)
}

// SetUsage is what one set needs of a pool.
type SetUsage struct {
	Set       string `json:"set"`
	Objects   uint64 `json:"objects"`
	Bytes     uint64 `json:"bytes"`
	Only      uint64 `json:"only"` // objects that no other set needs
	OnlyBytes uint64 `json:"only_bytes"`
}

// Usage is what sets need of a pool, and what it holds.
type Usage struct {
	Sets    []SetUsage `json:"sets"`
	Objects uint64     `json:"objects"` // what the sets need together, each object once
	Bytes   uint64     `json:"bytes"`

	Held              uint64 `json:"held"`
	HeldBytes         uint64 `json:"held_bytes"`
	Unreferenced      uint64 `json:"unreferenced"` // of those: what no set needs
	UnreferencedBytes uint64 `json:"unreferenced_bytes"`
	Partial           uint64 `json:"partial"` // left-overs of interrupted copies
	// Lost are the objects that sets need, and that are not there or have another size.
	Lost []Finding `json:"lost,omitempty"`
}

// Usage counts what the sets need of a pool, and lists it: what it holds, and what of
// it is lost. What is lost is not taken for held by the next copy, which lists the pool.
func (p *Pool) Usage(ctx context.Context, sets []SetInventory, o UsageOptions) (*Usage, error) {
	if err := p.gone(ctx); err != nil {
		return nil, err
	}
	files, err := newScratch(p.StateDir)
	if err != nil {
		return nil, err
	}
	defer files.close()
	m, stop := progressOf(o.OnProgress)
	defer stop()
	u := &Usage{Sets: make([]SetUsage, len(sets))}
	for i := range sets {
		u.Sets[i].Set = sets[i].Set
	}
	wanted := &refs{files: files}
	if err := wanted.foldAll(ctx, sets, u.Sets); err != nil {
		return nil, err
	}
	h, err := p.hold(ctx, files, m)
	if err != nil {
		return nil, err
	}
	held, done := h.all()
	defer done()
	all, done, err := wanted.all()
	if err != nil {
		return nil, err
	}
	defer done()
	err = joinEntries(all, held, func(want, there *entry) error {
		if want != nil {
			u.need(want)
		}
		lost := len(u.Lost)
		u.hold(want, there, sets)
		if len(u.Lost) > lost && o.OnLost != nil {
			held := int64(-1)
			if there != nil {
				held = there.Size
			}
			o.OnLost(want.Path, held)
		}
		return context.Cause(ctx)
	})
	if len(u.Lost) > 0 {
		err = errors.Join(err, distrust(p.StateDir))
	}
	return u, err
}

// need counts an object that sets need.
func (u *Usage) need(e *entry) {
	u.Objects++
	u.Bytes += uint64(e.Size)
	if e.sets == 1 {
		u.Sets[e.only].Only++
		u.Sets[e.only].OnlyBytes += uint64(e.Size)
	}
}

// hold counts what the pool holds at a path, and judges it.
func (u *Usage) hold(want, there *entry, sets []SetInventory) {
	lost := func(kind, text string) { u.Lost = append(u.Lost, Finding{kind, keyOf(want.Path), text}) }
	if there != nil && want == nil && strings.HasSuffix(there.Path, partialSuffix) {
		u.Partial++
		return
	}
	if there != nil {
		u.Held++
		u.HeldBytes += uint64(there.Size)
	}
	switch {
	case want == nil:
		u.Unreferenced++
		u.UnreferencedBytes += uint64(there.Size)
	case there == nil:
		lost(Lost, missingText(want, sets))
	case want.clash:
		lost(Damaged, "sets have stored it with different sizes")
	case want.Size != there.Size:
		lost(Damaged, fmt.Sprintf("the pool's object has %d bytes, stored were %d", there.Size, want.Size))
	}
}

// readFailure is the error of an inventory that can't be read.
func readFailure(err error, set string) error {
	return fail.Wrap(fail.CodeOf(err), err, "read the inventory of set "+set, "")
}
