package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func (btrfs) create(_ context.Context, v *Volume) error {
	top, err := v.openTop()
	if err != nil {
		return err
	}
	defer shut(top)
	source, err := openAt(top, strings.TrimPrefix(v.Sub, "/"))
	if err != nil {
		return err
	}
	defer shut(source)
	// Another instance may remove the directory, which it found empty, at any moment.
	for range 3 {
		err = keepTimes(top, func() error { return unix.Mkdirat(int(top.Fd()), btrfsDir, 0o700) })
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return &os.PathError{Op: "mkdir", Path: btrfsDir, Err: err}
		}
		if err = createIn(top, source, v); !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("there is one of that name already: %w", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s is no subvolume any more: %w", v.Sub, err)
	}
	return err
}

func createIn(top, source *os.File, v *Volume) error {
	dir, err := openAt(top, btrfsDir)
	if err != nil {
		return err
	}
	defer shut(dir)
	isTop := v.Sub == "/"
	if err := makeSnapshot(int(dir.Fd()), v.Name, int(source.Fd()), !isTop); err != nil || !isTop {
		return err
	}
	// A snapshot of the top level has our own directory in it.
	made, err := openAt(dir, v.Name)
	if err != nil {
		return err
	}
	defer shut(made)
	if err := removeOwn(made); err != nil {
		return err
	}
	return setReadOnly(int(made.Fd()))
}

// removeOwn removes our directory from a snapshot. What is left of the snapshots in it are
// empty directories.
func removeOwn(made *os.File) error {
	own, err := openAt(made, btrfsDir)
	if err != nil {
		return err
	}
	defer shut(own)
	names, err := own.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := unix.Unlinkat(int(own.Fd()), n, unix.AT_REMOVEDIR); err != nil {
			return &os.PathError{Op: "rmdir", Path: filepath.Join(btrfsDir, n), Err: err}
		}
	}
	return removeDir(made)
}

// removeDir removes our directory from the top of a subvolume.
func removeDir(top *os.File) error {
	return keepTimes(top, func() error { return unix.Unlinkat(int(top.Fd()), btrfsDir, unix.AT_REMOVEDIR) })
}

// keepTimes sets a directory's times back to what they were before f: the top level may be
// the server's, and that a snapshot was made is no change of it.
func keepTimes(dir *os.File, f func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(dir.Fd()), ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
}
