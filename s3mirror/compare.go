package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/fail"
)

// Difference is what a destination lacks of an inventory's objects, and has beside
// them. It holds temporary files until it is closed.
type Difference struct {
	Objects, Bytes            uint64 // in the inventory
	Missing, MissingBytes     uint64 // not in the destination
	Differing, DifferingBytes uint64 // there with another size, or another content by its tag
	Extra, ExtraBytes         uint64 // in the destination only
	New                       bool   // the directory does not exist yet

	to    *destination
	files *scratch
	// pool is the key of a pool's marker among the extra objects: the destination holds
	// a pool, whose objects are no extra ones.
	pool string
}

// The files of a Difference: objects of the inventory that are missing, differ or are
// there; objects of the destination that are extra, or left over from a restore that
// was interrupted.
const (
	missingFile   = "missing"
	differingFile = "differing"
	presentFile   = "present"
	extraFile     = "extra"
	partialFile   = "partial"
)

var differenceFiles = []string{missingFile, differingFile, presentFile, extraFile, partialFile}

// Compare lists a destination and holds it against an inventory. Nothing is changed.
//
// An object of a bucket differs when its size is another, or its tag looks like an MD5
// and is neither the one of the content nor the one that the source had. A file differs
// when its size is another; Restore reads those that do not.
func (p *Pool) Compare(ctx context.Context, inv io.Reader, to Destination) (_ *Difference, err error) {
	d := &Difference{}
	if d.to, err = p.destination(ctx, to); err != nil {
		return nil, err
	}
	if d.New, err = d.to.look(ctx); err != nil {
		return nil, err
	}
	if d.files, err = newScratch(p.StateDir); err != nil {
		return nil, err
	}
	if err := d.compare(ctx, inv, p.Checkers); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close removes the temporary files.
func (d *Difference) Close() error {
	d.files.close()
	return nil
}

// ExtraKeys are the first objects of the destination that the inventory does not have,
// by key.
func (d *Difference) ExtraKeys(most int) (list []Object) {
	_ = eachRecord(d.files.file(extraFile), func(o *Object) error { // written here a moment ago
		if len(list) >= most {
			return io.EOF
		}
		list = append(list, *o)
		return nil
	})
	return list
}

func (d *Difference) compare(ctx context.Context, inv io.Reader, checkers int) error {
	wanted, err := d.spool(inv)
	if err != nil {
		return fmt.Errorf("read the set's inventory: %w", err)
	}
	defer wanted.close()
	var spaces []string
	if !d.New {
		if spaces, err = d.to.side().spaces(d.to.with(ctx)); err != nil {
			return d.to.fail(err, "list")
		}
	}
	for name := range wanted.parts {
		spaces = append(spaces, name)
	}
	slices.Sort(spaces)
	spaces = slices.Compact(spaces)
	work := segments{d.files.dir}
	c := comparison{d: d, work: work, wanted: wanted}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(checkers)
	for _, space := range spaces {
		g.Go(func() error { return c.space(ctx, space) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if d.Objects != uint64(wanted.objects) {
		return errors.New("read the set's inventory: it is out of order")
	}
	for _, kind := range differenceFiles {
		if _, err := work.concat(kind, spaces, d.files.file(kind)); err != nil {
			return err
		}
		for _, space := range spaces {
			if err := remove(work.file(kind, space)); err != nil {
				return err
			}
		}
	}
	return nil
}

// spool keeps an inventory in a file, to be read space by space.
func (d *Difference) spool(inv io.Reader) (*sections, error) {
	path := d.files.file("inventory")
	out, err := os.Create(path)
	if err != nil {
		return nil, ownFailure(err)
	}
	_, err = io.Copy(out, inv)
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, err
	}
	return openSections(path)
}

// comparison is a Compare under way.
type comparison struct {
	d      *Difference
	work   segments
	wanted *sections
	mu     sync.Mutex // guards d
}

func (c *comparison) space(ctx context.Context, space string) error {
	to := c.d.to
	list := c.work.file("listing", space)
	if c.d.New {
		if err := os.WriteFile(list, nil, 0o600); err != nil {
			return err
		}
	} else if _, err := to.side().list(to.with(ctx), space, list); err != nil {
		return to.fail(err, "list space "+space+" in")
	}
	in, err := os.Open(list)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out := map[string]*recordFile{}
	for _, kind := range differenceFiles {
		if out[kind], err = createRecords(c.work.file(kind, space)); err != nil {
			return err
		}
	}
	var objects, bytes uint64
	pool := ""
	err = join(c.wanted.space(space), newReader(in, list), func(want, there *Object) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if want == nil {
			if to.dir != "" && strings.HasSuffix(there.Key, partialSuffix) {
				return out[partialFile].add(there)
			}
			if path.Base(there.Key) == markerFile {
				pool = there.Key
			}
			return out[extraFile].add(there)
		}
		if err := credible(want); err != nil {
			return err
		}
		objects++
		bytes += uint64(want.Size)
		switch {
		case there == nil:
			return out[missingFile].add(want)
		case differs(want, there):
			return out[differingFile].add(want)
		case to.dir != "":
			return out[presentFile].add(want)
		}
		return nil
	})
	for _, f := range out {
		err = errors.Join(err, f.close())
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.d
	d.Objects, d.Bytes = d.Objects+objects, d.Bytes+bytes
	for kind, sum := range map[string][2]*uint64{
		missingFile: {&d.Missing, &d.MissingBytes}, differingFile: {&d.Differing, &d.DifferingBytes}, extraFile: {&d.Extra, &d.ExtraBytes},
	} {
		*sum[0] += out[kind].objects
		*sum[1] += out[kind].bytes
	}
	if pool != "" {
		d.pool = pool
	}
	return remove(list)
}

// differs tells whether the destination's object is not the inventory's.
func differs(want, there *Object) bool {
	if want.Size != there.Size {
		return true
	}
	if there.MD5 == "" || want.MD5 == "" && !isMD5(want.Tag) {
		return false // nothing to compare
	}
	return there.MD5 != want.MD5 && there.MD5 != want.Tag
}

// credible refuses keys and places that no copy writes, and that could lead out of a
// directory: an inventory may have been tampered with.
func credible(o *Object) error {
	at := path.Clean(o.Path())
	top, _, _ := strings.Cut(at, "/")
	switch {
	case !isPath(o.Key):
	case at != o.Path() || !filepath.IsLocal(at) || top != blobsDir && top != changedDir && top != oddDir:
	default:
		return nil
	}
	return fail.New(fail.Inconsistent, fmt.Sprintf("the set's inventory names an object %q (at %q), which is no valid key", o.Key, o.Path()),
		"the inventory is damaged, or was tampered with: choose another set")
}
