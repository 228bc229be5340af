package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// readOnlyMount are the flags of everything that is mounted here: a view is looked at.
const readOnlyMount = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOATIME

// mountAt mounts a file system read-only at dir. Data are its own options ("nouuid").
func mountAt(source, dir, fs, data string) error {
	if err := unix.Mount(source, dir, fs, readOnlyMount, data); err != nil {
		return &os.PathError{Op: "mount " + source + " at", Path: dir, Err: err}
	}
	return nil
}

// bind makes from, a directory or a file, readable at to as well, and read-only there.
func bind(from, to string) error {
	err := unix.Mount(from, to, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|readOnlyMount, "")
	}
	if err != nil {
		return &os.PathError{Op: "bind " + from + " to", Path: to, Err: err}
	}
	return nil
}

// busyFor is how long a mount may stay busy before it is detached from the tree: it then
// goes for good when whoever is in it leaves.
const busyFor = time.Second

// unmount unmounts what is mounted at dir. That nothing is, is no error.
func unmount(ctx context.Context, dir string) error {
	for until := time.Now().Add(busyFor); ; {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			if time.Now().Before(until) && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		}
		return &os.PathError{Op: "unmount", Path: dir, Err: err}
	}
}

// clearMounts unmounts all that is mounted at and below dir, and removes the empty directories
// and mount points there. Nothing that has a content is removed.
func clearMounts(ctx context.Context, dir string) error {
	all, err := mounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(all) {
		if _, in := below(dir, m.Point); in {
			errs = append(errs, unmount(ctx, m.Point))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return removeEmpty(dir)
}

// removeEmpty removes dir and what is in it: directories that are empty without each
// other, and empty files.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = removeEmpty(p)
		} else if i, ierr := e.Info(); ierr == nil && i.Mode().IsRegular() && i.Size() == 0 {
			err = os.Remove(p)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(dir)
}
