package catalog

import (
	"errors"
	"hash/maphash"
	"iter"
	"strings"
)

// ChangeKind is what happened to a node between two catalogs.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	// Changed is a file of other content or time, or another node than was there.
	Changed ChangeKind = "changed"
	// Moved is a node that is elsewhere, or of another name; its content may differ, too.
	Moved ChangeKind = "moved"
)

// Change is a live file or folder that is not the same in two catalogs. Before is nil of
// what was added, After of what was removed. A space is the folder "/".
type Change struct {
	Kind          ChangeKind
	Before, After *Node
}

// Diff gives what changed from a to b, in the order of paths: that after, else before.
// What came with a folder that was moved is not listed, unless its content changed;
// nor is a folder whose time alone did. Versions and trash are not compared. Its memory
// is some dozens of bytes for each thing that differs.
func Diff(a, b *File) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{a: newSide(a), b: newSide(b), seed: maphash.MakeSeed(), removed: map[uint64]int{}}
		err := d.compare()
		if err == nil {
			d.pair()
			err = d.give(yield)
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(Change{}, err)
		}
	}
}

// difference is a place where something differs: where the lines of both sides begin.
// Lines never begin at 0, where the header does: 0 is none.
type difference struct {
	before, after int64
	id            uint64 // hash of the id after, 0: none
	from          int    // the difference whose before this was, plus 1; 0: none
	gone          bool   // what was before is somewhere else after
}

type differ struct {
	a, b    *side
	seed    maphash.Seed
	all     []difference
	removed map[uint64]int // where in all what is no more where it was is, by the hash of its id
	moved   []Change       // folders that hold what is given now, from the outside in
}

// give gives the changes.
func (d *differ) give(yield func(Change, error) bool) error {
	for _, diff := range d.all {
		var c Change
		var err error
		before, after := diff.before, diff.after
		if diff.gone {
			before = 0 // given where it is now
		}
		if before != 0 {
			if c.Before, err = d.a.read(before); err != nil {
				return err
			}
		}
		if after != 0 {
			if c.After, err = d.b.read(after); err != nil {
				return err
			}
		}
		var moved Change
		if diff.from != 0 {
			moved = Change{Kind: Moved, After: c.After}
			if moved.Before, err = d.a.read(d.all[diff.from-1].before); err != nil {
				return err
			}
			c.After = nil // and what was there before it is removed
		}
		switch {
		case c.Before != nil && c.After != nil:
			c.Kind = Changed
		case c.Before != nil:
			c.Kind = Removed
		case c.After != nil:
			c.Kind = Added
		}
		if c.Kind != "" && !yield(c, nil) {
			return errStop
		}
		if moved.Kind != "" && d.along(&moved) && !yield(moved, nil) {
			return errStop
		}
	}
	return nil
}

// along tells whether a move is to be listed: whether the node did not just come along
// with a folder. One that did and has other content becomes Changed.
func (d *differ) along(c *Change) bool {
	for i := len(d.moved) - 1; i >= 0; i-- {
		folder := d.moved[i]
		inside, ok := strings.CutPrefix(c.After.Path, below(folder.After.Path))
		if !ok || folder.After.Space != c.After.Space {
			d.moved = d.moved[:i]
			continue
		}
		if c.Before.Space == folder.Before.Space && c.Before.Path == below(folder.Before.Path)+inside {
			c.Kind = Changed
			return otherContent(c.Before, c.After)
		}
		break
	}
	if c.After.Kind == KindFolder {
		d.moved = append(d.moved, *c)
	}
	return true
}
