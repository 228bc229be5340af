package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// SweepOptions say what Sweep looks at.
type SweepOptions struct {
	// Instance is whose snapshots are removed; "": those of all instances that have records,
	// and nothing is searched for by name.
	Instance string
	StateDir string
	RunDir   string // "" is DefaultRunDir
	// Near are the paths of the roots. The volumes that they lie on are searched for
	// snapshots with the instance's name that no record tells of.
	Near []string
	// Drop tells of which kept snapshots the time is over early; nil: of none. It is over
	// anyhow past Record.Until.
	Drop func(Record) bool
}

// Sweep removes the snapshots that runs which died have left, and kept ones whose time is
// over. The caller holds the instance's lock. It returns what it has removed, in words for
// people, also beside an error; the next Sweep tries again what has failed.
func Sweep(ctx context.Context, o SweepOptions) (removed []string, err error) {
	if o.RunDir == "" {
		o.RunDir = DefaultRunDir
	}
	var all []Record
	var known []string // sets that have a record; also one that can't be read may be kept
	err = await(ctx, func() (err error) { all, known, err = records(o.StateDir); return err })
	if ctx.Err() != nil {
		return nil, err
	}
	errs := []error{err}
	for _, r := range all {
		if o.Instance != "" && r.Instance != o.Instance {
			continue
		}
		known = append(known, r.Set)
		if !r.Until.IsZero() && time.Now().Before(r.Until) && (o.Drop == nil || !o.Drop(r)) {
			errs = append(errs, r.view(o.RunDir).Close(ctx)) // a restore that died may have opened it
			continue
		}
		err := remove(ctx, r, o.RunDir)
		if err == nil {
			err = await(ctx, func() error { return atomicfile.Remove(recordFile(o.StateDir, r.Set)) })
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, v := range r.Volumes {
			removed = append(removed, v.String())
		}
	}
	if o.Instance == "" {
		return removed, errors.Join(errs...)
	}
	errs = append(errs, await(ctx, func() error { return sweepMounts(ctx, o, known) }))
	found, err := sweepNear(ctx, o, known)
	return append(removed, found...), errors.Join(append(errs, err)...)
}

// sweepMounts unmounts the views of sets that no record tells of.
func sweepMounts(ctx context.Context, o SweepOptions, known []string) error {
	dir := filepath.Join(o.RunDir, o.Instance)
	sets, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, s := range sets {
		if setID.MatchString(s.Name()) && !slices.Contains(known, s.Name()) {
			errs = append(errs, clearMounts(ctx, filepath.Join(dir, s.Name())))
		}
	}
	_ = os.Remove(dir) // as a rule it is empty now
	return errors.Join(errs...)
}

// sweepNear looks for snapshots by their names.
func sweepNear(ctx context.Context, o SweepOptions, known []string) (removed []string, err error) {
	if len(o.Near) == 0 || !privileged() {
		return nil, nil
	}
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var errs []error
	seen := map[string]bool{}
	for _, path := range o.Near {
		var here *Volume
		err := await(ctx, func() error {
			if m, err := mountOf(all, path); err == nil {
				here = volumeAt(ctx, m, path, Config{}).volume
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return removed, errors.Join(append(errs, err)...)
		}
		if here == nil || seen[here.key()] {
			continue
		}
		seen[here.key()] = true
		left, err := strays(ctx, *here, o.Instance, known)
		errs = append(errs, err)
		for i, err := range each(ctx, left, destroy) {
			if err == nil {
				removed = append(removed, left[i].String())
			}
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// strays returns the snapshots beside a volume that are the instance's and of no known set.
func strays(ctx context.Context, here Volume, instance string, known []string) (left []Volume, err error) {
	err = errors.Join(each(ctx, []Volume{here}, func(ctx context.Context, d driver, v *Volume) error {
		found, err := d.list(ctx, v)
		for _, s := range found {
			if whose, set, ours := parseName(s.Name); ours && whose == instance && !slices.Contains(known, set) {
				left = append(left, s)
			}
		}
		return err
	})...)
	if ctx.Err() != nil {
		return nil, err // left may still be written to
	}
	return left, err
}
