package snapshot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// btrfs makes read-only snapshots of subvolumes. The kernel is asked itself: that tells
// errors by number, and takes no program.
//
// All snapshots of a file system lie in one directory at its top level, so that they are not
// seen where the server works, unless the top level is what is mounted there.
type btrfs struct{}

// btrfsDir is that directory. It goes with the last snapshot in it.
const btrfsDir = ".ocbackup-snapshots"

func (btrfs) find(_ context.Context, m mount, path string, _ Config) (v *Volume, rel, why string) {
	if m.FS != "btrfs" {
		return nil, "", ""
	}
	if m.readOnly() {
		return nil, "", fmt.Sprintf("the btrfs on %s is mounted read-only", m.Source)
	}
	// A file may have other names, or be replaced by another one of its name: what is
	// looked for is its directory. A file that is a mount point has none that can be seen.
	dir, file := path, ""
	if !isDir(path) && path != m.Point {
		dir, file = filepath.Dir(path), filepath.Base(path)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Sprintf("open %s: %v", dir, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, "", err.Error()
	}
	id, err := fileSystemID(fd)
	if err != nil {
		return nil, "", err.Error()
	}
	rel, err = pathInSubvolume(fd, st.Ino)
	if err != nil {
		return nil, "", err.Error()
	}
	inMount, _ := below(m.Point, dir)
	sub, ok := cutPath(filepath.Join(m.Root, inMount), rel)
	if !ok {
		return nil, "", "it can't be told where in its file system it lies: was it moved or removed?"
	}
	live, ok := cutPath(dir, rel)
	if _, in := below(m.Point, live); !ok || !in {
		live = m.Point
	}
	return &Volume{Driver: Btrfs, Source: m.Source, ID: id, Sub: sub, Live: live}, filepath.Join(rel, file), ""
}

// cutPath returns path without its last elements, rel; false: those are others.
func cutPath(path, rel string) (string, bool) {
	if rel == "" {
		return path, true
	}
	rest, ok := strings.CutSuffix(path, "/"+rel)
	if rest == "" {
		rest = "/"
	}
	return rest, ok
}

// inside finds subvolumes in a root: in a snapshot they are empty directories.
func (btrfs) inside(root Root) string {
	if !isDir(root.Path) {
		return ""
	}
	dir, err := os.Open(root.Path)
	if err != nil {
		return err.Error()
	}
	defer shut(dir)
	all, err := subvolumesBelow(int(dir.Fd()))
	if err != nil {
		return fmt.Sprintf("look for subvolumes in %s: %v", root.Path, err)
	}
	for _, rel := range all {
		if filepath.Base(filepath.Dir(rel)) != btrfsDir && root.takes(rel, true) {
			return "another subvolume lies inside of it, which a snapshot would leave out: " + filepath.Join(root.Path, rel)
		}
	}
	return ""
}

func (btrfs) check(_ context.Context, v *Volume) error {
	top, err := v.openTop()
	if err != nil {
		return err
	}
	return top.Close()
}

func (btrfs) open(_ context.Context, v *Volume, dir string) (string, error) {
	m, err := v.mounted()
	if err != nil {
		return "", err
	}
	f, err := mountDetached(m.Source, "subvol", "/"+btrfsDir+"/"+v.Name,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOATIME)
	if err != nil {
		return "", err
	}
	defer shut(f)
	if err := unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", &os.PathError{Op: "mount at", Path: dir, Err: err}
	}
	return dir, nil
}

func (btrfs) close(ctx context.Context, _ *Volume, dir string) error { return unmount(ctx, dir) }

func (btrfs) destroy(_ context.Context, v *Volume) error {
	top, err := v.openTop()
	if errors.Is(err, errNotMounted) {
		return nil // if it comes back, it is found by name
	} else if err != nil {
		return err
	}
	defer shut(top)
	dir, err := openAt(top, btrfsDir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return err
	}
	defer shut(dir)
	if err := destroySnapshot(int(dir.Fd()), v.Name); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	err = removeDir(top)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (btrfs) lost(_ context.Context, v *Volume) string {
	top, err := v.openTop()
	if err != nil {
		return "" // not mounted, say: nothing is known; or read-only: it can't have been removed
	}
	defer shut(top)
	var st unix.Stat_t
	err = unix.Fstatat(int(top.Fd()), filepath.Join(btrfsDir, v.Name), &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return "somebody has removed it"
	}
	return ""
}

func (btrfs) list(_ context.Context, v *Volume) ([]Volume, error) {
	top, err := v.openTop()
	if errors.Is(err, errNotMounted) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer shut(top)
	dir, err := openAt(top, btrfsDir)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer shut(dir)
	names, err := dir.Readdirnames(-1)
	var found []Volume
	for _, n := range names {
		if _, _, ours := parseName(n); ours {
			s := *v
			s.Name = n
			found = append(found, s)
		}
	}
	return found, err
}

var errNotMounted = errors.New("it is not mounted")

// mounted returns a mount of the volume's file system: the device may have got another
// name since the record was written.
func (v *Volume) mounted() (mount, error) {
	all, err := mounts()
	if err != nil {
		return mount{}, err
	}
	for _, m := range all {
		if m.FS != "btrfs" {
			continue
		}
		fd, err := unix.Open(m.Point, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		id, err := fileSystemID(fd)
		_ = unix.Close(fd)
		if err == nil && id == v.ID {
			return m, nil
		}
	}
	return mount{}, fmt.Errorf("the btrfs that was at %s (UUID %s): %w", v.Live, v.ID, errNotMounted)
}

// openTop opens the top level of the volume's file system, wherever that is mounted.
func (v *Volume) openTop() (*os.File, error) {
	m, err := v.mounted()
	if err != nil {
		return nil, err
	}
	if m.readOnly() { // to mount it otherwise could make the file system writable again
		return nil, fmt.Errorf("the btrfs on %s is mounted read-only", m.Source)
	}
	return mountDetached(m.Source, "subvolid", "5", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOATIME)
}

// openAt opens a directory below another one.
func openAt(dir *os.File, path string) (*os.File, error) {
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat(int(dir.Fd()), path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// uuidText writes the 16 bytes of a UUID as tools do.
func uuidText(b []byte) string {
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
