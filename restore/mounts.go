package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/sys/mountinfo"

	"github.com/ocbackup/ocbackup/paths"
)

// mounts is the set of mount points of this host.
type mounts map[string]bool

func readMounts() (mounts, error) {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	m := mounts{}
	for _, i := range all {
		m[i.Mountpoint] = true
	}
	return m, nil
}

// at reports whether p can't be renamed because something is mounted there, or
// because it is a subvolume: a directory with a device number of its own.
func (m mounts) at(p string) bool {
	if m[p] {
		return true
	}
	a, err := device(p)
	if err != nil {
		return false
	}
	b, err := device(filepath.Dir(p))
	return err == nil && a != b
}

// between reports whether a mount point lies below outer, at or above inner.
func (m mounts) between(outer, inner string) bool {
	for p := inner; p != outer && p != "/"; p = filepath.Dir(p) {
		if m.at(p) {
			return true
		}
	}
	return false
}

// inside lists the mount points strictly below dir.
func (m mounts) inside(dir string) []string {
	var out []string
	for p := range m {
		if _, ok := paths.Below(dir, p); ok {
			out = append(out, p)
		}
	}
	return out
}

// device returns the device number of the file system that p is on.
func device(p string) (uint64, error) {
	st, err := os.Lstat(p)
	if err != nil {
		return 0, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: no device number", p)
	}
	return uint64(sys.Dev), nil //nolint:unconvert // 32 bits wide on some platforms
}
