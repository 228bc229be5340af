package treecopy

import (
	"bytes"
	"errors"
	"iter"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxXattr is how long the kernel lets a value or a list of names become
// (XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h).
const maxXattr = 64 << 10

// meta gives what was made at rel the metadata of the source. The order matters: a
// change of owner takes setuid bits and capabilities away, and an access control list
// says more than a mode.
func (c *copier) meta(rel string, st *unix.Stat_t) error {
	to := below(c.dst, rel)
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := retry(func() error { return unix.Chmod(to, st.Mode&0o7777) }); err != nil {
			return failed("chmod", to, err)
		}
	}
	if err := copyXattrs(below(c.src, rel), to); err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
	return failed("utimensat", to, unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW))
}

func copyXattrs(from, to string) error {
	names, err := xattrs(from)
	if err != nil {
		return err
	}
	for name := range names {
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(from, name, b) })
		if err != nil {
			return failed("lgetxattr "+name, from, err)
		}
		if err := unix.Lsetxattr(to, name, value, 0); err != nil && carried(name) {
			return failed("lsetxattr "+name, to, err)
		}
	}
	return nil
}

// strip removes the extended attributes of what was there already, or has inherited an
// access control list from a directory that is not part of the copy.
func strip(path string) error {
	names, err := xattrs(path)
	if err != nil {
		return err
	}
	for name := range names {
		if !carried(name) {
			continue
		}
		if err := unix.Lremovexattr(path, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return failed("lremovexattr "+name, path, err)
		}
	}
	return nil
}

// xattrs lists the extended attributes of path.
func xattrs(path string) (iter.Seq[string], error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return nil, failed("llistxattr", path, err)
	}
	return func(yield func(string) bool) {
		for name := range bytes.SplitSeq(list, []byte{0}) {
			if len(name) > 0 && !yield(string(name)) {
				return
			}
		}
	}, nil
}

// grow calls read with a buffer that is made larger for as long as it is too small.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for size := 512; ; size = min(4*size, maxXattr) {
		b := make([]byte, size)
		n, err := read(b)
		if !errors.Is(err, unix.ERANGE) || size == maxXattr {
			return b[:max(n, 0)], err
		}
	}
}

// carried tells whether an extended attribute goes with the data, and not with the
// machine: it must be copied. These are the ones that a census counts, and the marks of
// overlayfs, without which an upper layer is not what it was.
func carried(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") ||
		strings.HasPrefix(name, "system.posix_acl_") || name == "security.capability"
}
