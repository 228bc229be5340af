package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// View is the frozen trees of a set, readable.
type View struct {
	rec Record
	dir string // all mounts are below it
}

// OpenKept makes the kept snapshots of a set readable. The caller holds the instance's lock.
// RunDir "" is DefaultRunDir.
func OpenKept(ctx context.Context, rec Record, runDir string) (*View, error) {
	v := rec.view(runDir)
	if err := v.open(ctx); err != nil {
		ctx, cancel := afterAll(ctx)
		defer cancel()
		return nil, errors.Join(err, v.Close(ctx))
	}
	return v, nil
}

func (r Record) view(runDir string) *View {
	if runDir == "" {
		runDir = DefaultRunDir
	}
	return &View{rec: r, dir: filepath.Join(runDir, r.Instance, r.Set)}
}

// Path returns where a root can be read, "" if it was not frozen. The last element is that
// of the root's own path.
func (v *View) Path(root string) string {
	f, ok := v.rec.Roots[root]
	if !ok {
		return ""
	}
	return filepath.Join(v.dir, root, filepath.Base(f.Path))
}

// Close unmounts what open has mounted.
func (v *View) Close(ctx context.Context) error {
	var errs []error
	for root := range v.rec.Roots {
		errs = append(errs, await(ctx, func() error { return clearMounts(ctx, filepath.Join(v.dir, root)) }))
	}
	errs = append(errs, each(ctx, v.rec.Volumes, func(ctx context.Context, d driver, vol *Volume) error {
		return d.close(ctx, vol, v.volumeDir(*vol))
	})...)
	errs = append(errs, await(ctx, func() error { return clearMounts(ctx, v.dir) }))
	err := errors.Join(errs...)
	if err == nil {
		_ = os.Remove(filepath.Dir(v.dir)) // others may be in it
	}
	return err
}

// volumeDir is where a driver can mount a volume.
func (v *View) volumeDir(vol Volume) string { return filepath.Join(v.dir, "."+vol.Name) }

// open makes the roots readable.
func (v *View) open(ctx context.Context) error {
	err := await(ctx, func() error {
		// A restore that was killed may have left mounts.
		if err := clearMounts(ctx, v.dir); err != nil {
			return err
		}
		return os.MkdirAll(v.dir, 0o700)
	})
	if err != nil {
		return err
	}
	return errors.Join(each(ctx, v.rec.Volumes, func(ctx context.Context, d driver, vol *Volume) error {
		if !v.rec.used(*vol) {
			return nil
		}
		if err := v.openVolume(ctx, d, vol); err != nil {
			return fmt.Errorf("open the %s: %w", vol, err)
		}
		return nil
	})...)
}

func (v *View) openVolume(ctx context.Context, d driver, vol *Volume) error {
	dir := v.volumeDir(*vol)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	top, err := d.open(ctx, vol, dir)
	if err == nil {
		top, err = filepath.EvalSymlinks(top)
	}
	if err != nil {
		return err
	}
	for root, f := range v.rec.Roots {
		if f.Volume != vol.Name {
			continue
		}
		if err := show(filepath.Join(top, f.Rel), v.Path(root)); err != nil {
			return err
		}
	}
	return ctx.Err() // it may have hung for so long that nobody wants the mounts
}

// show makes a root inside of a snapshot readable at path.
func show(from, path string) error {
	i, err := os.Lstat(from)
	if err != nil {
		return err
	}
	// What the way leads over belongs to the server: it must not lead elsewhere by now.
	if real, err := filepath.EvalSymlinks(from); err != nil || real != from {
		return errors.Join(err, fmt.Errorf("%s has become a symbolic link, or leads over one", from))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if i.IsDir() {
		err = os.Mkdir(path, 0o700)
	} else {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return bind(from, path)
}

// sameInode tells whether two paths have the same type and, if it is to be compared,
// number of inode: a snapshot keeps that, a copy does not.
func sameInode(a, b string, number bool) (bool, error) {
	var s, t unix.Stat_t
	if err := unix.Lstat(a, &s); err != nil {
		return false, &os.PathError{Op: "stat", Path: a, Err: err}
	}
	if err := unix.Lstat(b, &t); err != nil {
		return false, &os.PathError{Op: "stat", Path: b, Err: err}
	}
	return (s.Ino == t.Ino || !number) && s.Mode&unix.S_IFMT == t.Mode&unix.S_IFMT, nil
}
