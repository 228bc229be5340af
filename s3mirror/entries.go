package s3mirror

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// entry is something in a pool, or that sets want to be there.
type entry struct {
	Path  string    `json:"path"` // relative to the pool's root
	Size  int64     `json:"size"`
	Since time.Time `json:"since,omitzero"` // first seen unreferenced

	sets  int  // how many want it
	only  int  // the one that wants it, when it is one
	clash bool // sets say that it has different sizes
}

// comparePaths orders paths in a pool: by the directory they are in (blobs/, changed/,
// ...), then as keys are ordered. This way inventories and listings of blobs/ are in
// order as they come; what lies beside, in few objects, is sorted.
func comparePaths(a, b string) int {
	dirA, restA, _ := strings.Cut(a, "/")
	dirB, restB, _ := strings.Cut(b, "/")
	return cmp.Or(strings.Compare(dirA, dirB), compare(restA, restB))
}

// entries gives one entry after the other, sorted by path, and io.EOF at the end.
type entries func() (*entry, error)

// ordered makes sure of the order.
func (next entries) ordered(name string) entries {
	last := ""
	return func() (*entry, error) {
		e, err := next()
		if err != nil {
			return nil, err
		}
		if last != "" && comparePaths(last, e.Path) >= 0 {
			return nil, fmt.Errorf("%s: %q is out of order", name, e.Path)
		}
		last = e.Path
		return e, nil
	}
}

func entriesOf(list []entry) entries {
	return func() (*entry, error) {
		if len(list) == 0 {
			return nil, io.EOF
		}
		e := &list[0]
		list = list[1:]
		return e, nil
	}
}

// union gives the entries of both, and a's of those that both have.
func union(a, b entries) entries {
	var x, y *entry
	begun := false
	return func() (*entry, error) {
		var err error
		if !begun || x == nil {
			if x, err = a(); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
		}
		if !begun || y == nil {
			if y, err = b(); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
		}
		begun = true
		var e *entry
		switch {
		case x == nil && y == nil:
			return nil, io.EOF
		case y == nil || x != nil && comparePaths(x.Path, y.Path) < 0:
			e, x = x, nil
		case x == nil || comparePaths(x.Path, y.Path) > 0:
			e, y = y, nil
		default:
			e, x, y = x, nil, nil
		}
		return e, nil
	}
}

// joinEntries walks two side by side and calls f with what both have, or with nil for
// the one that has none.
func joinEntries(a, b entries, f func(a, b *entry) error) error {
	x, err := a()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	y, err := b()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for x != nil || y != nil {
		c := 0
		switch {
		case x == nil:
			c = 1
		case y == nil:
			c = -1
		default:
			c = comparePaths(x.Path, y.Path)
		}
		l, r := x, y
		if c > 0 {
			l = nil
		}
		if c < 0 {
			r = nil
		}
		if err := f(l, r); err != nil {
			return err
		}
		if l != nil {
			if x, err = a(); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if r != nil {
			if y, err = b(); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
	}
	return nil
}
