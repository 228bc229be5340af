package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	ID     int
	Device string // major:minor
	Root   string // what of the file system is mounted: "/", or below that for bind mounts and subvolumes
	Point  string
	FS     string
	Source string // device, dataset, or whatever the file system calls itself
	Super  string // options of the file system
}

// readOnly tells whether the file system itself can't be written to: a mount of one that
// can, may still be read-only.
func (m mount) readOnly() bool { return strings.Contains(","+m.Super+",", ",ro,") }

// shows tells whether what is mounted with other is what is seen there anyhow: systemd mounts
// directories onto themselves to make them writable, or not, for a unit.
func (m mount) shows(other mount) bool {
	rel, in := below(m.Point, other.Point)
	return in && other.Device == m.Device && other.Root == filepath.Join(m.Root, rel)
}

// mounts returns all mounts, later ones last.
func mounts() ([]mount, error) {
	infos, err := mountinfo.GetMounts(nil)
	all := make([]mount, len(infos))
	for i, m := range infos {
		all[i] = mount{
			ID: m.ID, Device: fmt.Sprintf("%d:%d", m.Major, m.Minor), Root: m.Root, Point: m.Mountpoint,
			FS: m.FSType, Source: m.Source, Super: m.VFSOptions,
		}
	}
	return all, err
}

// mountOf returns the mount that holds path. The kernel is asked which it is: mounts may
// hide each other.
func mountOf(all []mount, path string) (mount, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return mount{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return mount{}, err
	}
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, _ := strconv.Atoi(strings.TrimSpace(v))
			for _, m := range all {
				if m.ID == id {
					return m, nil
				}
			}
		}
	}
	return mount{}, fmt.Errorf("no mount is known that holds %s", path)
}

// below returns path relative to dir; false: it does not lie in it. Dir itself is ".".
func below(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return rel, true
}
