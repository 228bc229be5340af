package guard

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/xattr"
)

// Meta is the metadata of a file or directory: what goes with the data, and not with
// the machine.
type Meta struct {
	UID    int               `json:"uid"`
	GID    int               `json:"gid"`
	Mode   uint32            `json:"mode"` // permission bits, with setuid, setgid and sticky
	MTime  time.Time         `json:"mtime"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// ReadMeta reads the metadata of a file or directory, not following a symbolic link.
func ReadMeta(path string) (Meta, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return Meta{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return Meta{}, fmt.Errorf("%s: no owner", path)
	}
	m := Meta{UID: int(sys.Uid), GID: int(sys.Gid), Mode: sys.Mode & 0o7777, MTime: st.ModTime(), Xattrs: map[string][]byte{}}
	names, err := xattr.LList(path)
	if err != nil && !errors.Is(err, syscall.ENOTSUP) {
		return m, err
	}
	for _, n := range names {
		if !carried(n) {
			continue
		}
		v, err := xattr.LGet(path, n)
		if err != nil {
			return m, err
		}
		m.Xattrs[n] = v
	}
	return m, nil
}

// Apply gives a directory this metadata.
func (m Meta) Apply(path string) error {
	have, err := ReadMeta(path)
	if err != nil {
		return err
	}
	if err := os.Lchown(path, m.UID, m.GID); err != nil {
		return err
	}
	if err := syscall.Chmod(path, m.Mode); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	for n := range have.Xattrs {
		if _, ok := m.Xattrs[n]; !ok {
			if err := xattr.LRemove(path, n); err != nil {
				return err
			}
		}
	}
	for n, v := range m.Xattrs {
		if err := xattr.LSet(path, n, v); err != nil {
			return err
		}
	}
	return os.Chtimes(path, m.MTime, m.MTime)
}

// carried tells whether an extended attribute goes with the data, and not with the
// machine (security labels).
func carried(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_") ||
		strings.HasPrefix(name, "trusted.") && !strings.HasPrefix(name, "trusted.overlay.")
}
