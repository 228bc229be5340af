package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/fail"
)

// rehearseFor is how long making and reading a snapshot may take in the rehearsal, and how
// long removing it: what hangs then would hang while the server is stopped.
const rehearseFor = time.Minute

// syncFor is how long all that is still in memory may take to get to the disks.
const syncFor = 10 * time.Minute

// Rehearse makes all snapshots under the plan's names while the server runs, looks at the
// roots in them, and removes them again. A volume that fails is taken out of the plan: How
// tells why. It is an error if the driver was chosen by the admin and users' files lie on
// it.
func (p *Plan) Rehearse(ctx context.Context) error {
	if p.Empty() {
		return nil
	}
	if err := p.write(ctx); err != nil {
		return err
	}
	p.syncFirst(ctx)
	for _, v := range p.rec.volumes(true) {
		trial, removal := p.rehearse(ctx, v)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := errors.Join(trial, removal); err != nil {
			p.drop(v, err.Error(), removal == nil)
		}
	}
	// The record stays: to write it again would only make the freeze longer.
	if err := p.write(ctx); err != nil {
		return err
	}
	return p.refuse(fail.Failed)
}

// syncFirst writes to the disks what is still in memory. A snapshot would wait for it, and the
// time of the rehearsal is not meant for that.
func (p *Plan) syncFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, syncFor)
	defer cancel()
	p.Sync(ctx)
}

// rehearse does it for one volume.
func (p *Plan) rehearse(ctx context.Context, v Volume) (trial, removal error) {
	tooLong := fmt.Errorf("it took longer than %s", rehearseFor)
	rec := p.rec.only(v)
	try, cancel := context.WithTimeoutCause(ctx, rehearseFor, tooLong)
	defer cancel()
	if trial = create(try, rec.Volumes); trial == nil {
		trial = rec.view(p.req.RunDir).rehearse(try)
	}
	undo, cancel := context.WithTimeoutCause(ctx, rehearseFor, tooLong)
	defer cancel()
	return trial, remove(undo, rec, p.req.RunDir)
}

// rehearse opens a view and looks at the roots in it.
func (v *View) rehearse(ctx context.Context) error {
	if err := v.open(ctx); err != nil {
		return err
	}
	return await(ctx, func() error {
		for root, f := range v.rec.Roots {
			same, err := sameInode(f.Path, v.Path(root), f.Driver != Command)
			if err == nil && !same {
				err = fmt.Errorf("the snapshot shows something else where %s should be", f.Path)
			}
			if err == nil && isDir(f.Path) {
				_, err = os.ReadDir(v.Path(root))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Freeze makes the snapshots, all at once. Before that it looks once more what lies inside of
// the roots, and writes the record, unless Rehearse has. Where it fails or its context ends,
// some may be there, or come to be later: Release removes them.
func (p *Plan) Freeze(ctx context.Context) error {
	if p.Empty() {
		return nil
	}
	if err := p.lookAgain(ctx); err != nil {
		return err
	}
	if !p.recorded {
		if err := p.write(ctx); err != nil {
			return err
		}
	}
	return create(ctx, p.rec.volumes(true))
}

// lookAgain finds what has come to lie inside of a root since Find: hours may have gone by.
func (p *Plan) lookAgain(ctx context.Context) error {
	return await(ctx, func() error {
		all, err := mounts()
		if err != nil {
			return err
		}
		var errs []error
		for _, root := range p.req.Roots {
			f, frozen := p.rec.Roots[root.Name]
			if !frozen {
				continue
			}
			holder, err := mountOf(all, root.Path)
			if err == nil {
				if why := root.inside(all, holder, Volume{Driver: f.Driver}.driver()); why != "" {
					err = errors.New(why)
				}
			}
			errs = append(errs, fail.Wrap(fail.Failed, err, fmt.Sprintf("%s (%s) can't be frozen any more", root.Name, root.Path),
				"Run the backup again: it finds out anew what can be frozen."))
		}
		return errors.Join(errs...)
	})
}

func create(ctx context.Context, all []Volume) error {
	return errors.Join(each(ctx, all, func(ctx context.Context, d driver, v *Volume) error {
		if err := d.create(ctx, v); err != nil {
			return fmt.Errorf("make the %s: %w", v, err)
		}
		return nil
	})...)
}

// Open makes the frozen roots readable at View.
func (p *Plan) Open(ctx context.Context) error { return p.rec.view(p.req.RunDir).open(ctx) }

// View returns where a frozen root can be read after Open, "" if it is not frozen. The last
// element of the path is that of the root's own path.
func (p *Plan) View(root string) string { return p.rec.view(p.req.RunDir).Path(root) }

// Release unmounts and removes the snapshots, and then the record. It can be called at any
// time, and again: where there is nothing to remove, or Keep has been called, it does
// nothing. It works with a context that has ended, too. Where it fails, the record stays for
// the next Release or Sweep.
func (p *Plan) Release(ctx context.Context) error {
	ctx, cancel := afterAll(ctx)
	defer cancel()
	if !p.recorded {
		return nil
	}
	if err := remove(ctx, p.rec, p.req.RunDir); err != nil {
		return fail.Wrap(fail.Failed, err, "remove the snapshots of this run", "The next run tries it again.")
	}
	return p.forget(ctx)
}

// Keep leaves the snapshots on this host until then, in place of Release. Their views are
// unmounted, and what holds no root is removed. Where it fails, the next Sweep removes all.
func (p *Plan) Keep(ctx context.Context, until time.Time) error {
	ctx, cancel := afterAll(ctx)
	defer cancel()
	if p.Empty() {
		return p.Release(ctx)
	}
	if !p.recorded {
		return nil
	}
	errs := []error{p.rec.view(p.req.RunDir).Close(ctx)}
	if err := errors.Join(append(errs, each(ctx, p.rec.volumes(false), destroy)...)...); err != nil {
		return err
	}
	rec := p.rec
	rec.Volumes = p.rec.volumes(true)
	rec.Until = until.UTC()
	if err := p.writeAs(ctx, rec); err != nil {
		return err
	}
	p.recorded = false
	return nil
}

// forget removes the record.
func (p *Plan) forget(ctx context.Context) error {
	file := recordFile(p.req.StateDir, p.req.Set)
	if err := await(ctx, func() error { return atomicfile.Remove(file) }); err != nil {
		return err
	}
	p.recorded = false
	return nil
}

// remove unmounts and destroys all of a record.
func remove(ctx context.Context, rec Record, runDir string) error {
	errs := []error{rec.view(runDir).Close(ctx)}
	return errors.Join(append(errs, each(ctx, rec.Volumes, destroy)...)...)
}

func destroy(ctx context.Context, d driver, v *Volume) error {
	if err := d.destroy(ctx, v); err != nil {
		return fmt.Errorf("remove the %s: %w", v, err)
	}
	return nil
}
