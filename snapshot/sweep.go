package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	// snapshots with the instance's name, and made with this state directory, that no record
	// tells of.
	Near []string
}

// Sweep removes the snapshots that runs which died have left, and kept ones whose time is
// over or that are lost (Record.Lost). The caller holds the instance's lock. It returns what
// it has removed, in words for people, also beside an error; the next Sweep tries again what
// has failed.
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
		why := ""
		if !r.Until.IsZero() && time.Now().Before(r.Until) {
			var lost *LostError
			if !errors.As(r.Lost(ctx), &lost) {
				errs = append(errs, r.view(o.RunDir).Close(ctx)) // a restore that died may have opened it
				continue
			}
			why = " (" + lost.Error() + ")"
		}
		file := recordFile(o.StateDir, r.Set)
		err := remove(ctx, r, o.RunDir)
		if err == nil {
			err = await(ctx, func() error { return atomicfile.Remove(file) })
		} else {
			err = fmt.Errorf("%w (what is removed, and how, is in %s: remove it by hand, and then that file)", err, file)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, v := range r.Volumes {
			removed = append(removed, v.String()+why)
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
		if !slices.Contains(known, s.Name()) && hasViews(filepath.Join(dir, s.Name()), ownerOf(o.Instance, o.StateDir)) {
			errs = append(errs, clearMounts(ctx, filepath.Join(dir, s.Name())))
		}
	}
	_ = os.Remove(dir) // as a rule it is empty now
	return errors.Join(errs...)
}

// hasViews tells whether a directory is one of a View, of snapshots of the owner's.
func hasViews(dir string, whose owner) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		name, hidden := strings.CutPrefix(e.Name(), ".") // View.volumeDir
		o, set, ours := parseName(name)
		return hidden && ours && o == whose && set == filepath.Base(dir)
	})
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
		left, err := strays(ctx, *here, ownerOf(o.Instance, o.StateDir), known)
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

// strays returns the snapshots beside a volume that are the owner's and of no known set.
func strays(ctx context.Context, here Volume, own owner, known []string) (left []Volume, err error) {
	err = errors.Join(each(ctx, []Volume{here}, func(ctx context.Context, d driver, v *Volume) error {
		found, err := d.list(ctx, v)
		for _, s := range found {
			if whose, set, ours := parseName(s.Name); ours && whose == own && !slices.Contains(known, set) {
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
