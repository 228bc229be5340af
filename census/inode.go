package census

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// firstValue is the size of the buffer that attributes are first read into. It is
// small because the kernel allocates and zeroes as much as it is offered, on every
// call; OpenCloud's attributes are shorter than this, but for a few.
const firstValue = 512

// maxXattr is how long the kernel lets a value or a list of names become
// (XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h).
const maxXattr = 64 << 10

// hasher computes the hash of an inode. It is not safe for concurrent use; its
// buffers are reused from inode to inode.
type hasher struct {
	names []byte   // as the kernel lists them
	list  [][]byte // the names among them that count
	value []byte
	rec   []byte
}

func newHasher() *hasher {
	return &hasher{names: make([]byte, firstValue), value: make([]byte, firstValue)}
}

// inode returns the hash of an inode and how many extended attributes it has. The
// hash is the first 128 bits of SHA-256 over, all integers big-endian: type and
// permission bits (32 bits), owner and group (32 bits each), size (64 bits; 0 but
// for regular files), device number (64 bits; 0 but for devices), then link target
// (empty but for links), then name and value of each extended attribute in the
// order of their names; strings are preceded by their length (32 bits).
// path is as syscalls take it: ended by a zero byte.
func (h *hasher) inode(path cpath, st *unix.Stat_t) (digest, uint32, error) {
	var size, rdev uint64
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		size = uint64(st.Size)
	case unix.S_IFBLK, unix.S_IFCHR:
		rdev = uint64(st.Rdev) //nolint:unconvert // 32 bits wide on some platforms
	}
	b := h.rec[:0]
	b = binary.BigEndian.AppendUint32(b, st.Mode&(unix.S_IFMT|0o7777))
	b = binary.BigEndian.AppendUint32(b, st.Uid)
	b = binary.BigEndian.AppendUint32(b, st.Gid)
	b = binary.BigEndian.AppendUint64(b, size)
	b = binary.BigEndian.AppendUint64(b, rdev)
	var target []byte
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		var err error
		if target, err = h.readlink(path); err != nil {
			return digest{}, 0, fmt.Errorf("read link: %w", err)
		}
	}
	b = appendBytes(b, target)

	if err := h.listNames(path); err != nil {
		return digest{}, 0, fmt.Errorf("list extended attributes: %w", err)
	}
	var n uint32
	for _, name := range h.list {
		value, err := h.get(path, name)
		if errors.Is(err, unix.ENODATA) {
			continue // removed since it was listed
		}
		if err != nil {
			return digest{}, 0, fmt.Errorf("read extended attribute %s: %w", name[:len(name)-1], err)
		}
		b = appendBytes(b, name[:len(name)-1])
		b = appendBytes(b, value)
		n++
	}
	h.rec = b
	s := sha256.Sum256(b)
	return digest{binary.BigEndian.Uint64(s[:8]), binary.BigEndian.Uint64(s[8:16])}, n, nil
}

// listNames fills h.list with the names of the extended attributes that count,
// sorted, each with its zero byte.
func (h *hasher) listNames(path cpath) error {
	h.list = h.list[:0]
	n, err := grow(&h.names, func(buf []byte) (int, error) { return llistxattr(path, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil // a file system without any
	}
	if err != nil {
		return err
	}
	for rest := h.names[:n]; len(rest) > 0; {
		end := bytes.IndexByte(rest, 0) + 1
		if end == 0 {
			break
		}
		if counts(rest[:end-1]) {
			h.list = append(h.list, rest[:end])
		}
		rest = rest[end:]
	}
	slices.SortFunc(h.list, bytes.Compare)
	return nil
}

// get reads the value of one attribute; name ends with a zero byte.
func (h *hasher) get(path cpath, name []byte) ([]byte, error) {
	n, err := grow(&h.value, func(buf []byte) (int, error) { return lgetxattr(path, name, buf) })
	return h.value[:n], err
}

func (h *hasher) readlink(path cpath) ([]byte, error) {
	for {
		n, err := readlink(path, h.value)
		if err != nil {
			return nil, err
		}
		if n < len(h.value) {
			return h.value[:n], nil
		}
		h.value = make([]byte, 2*len(h.value))
	}
}

// grow calls read with a buffer that is made larger for as long as it is too
// small. The attributes of one inode differ little from those of the next, so the
// larger buffer is kept, up to a page.
func grow(buf *[]byte, read func([]byte) (int, error)) (int, error) {
	if len(*buf) > 4096 {
		*buf = (*buf)[:firstValue:firstValue]
	}
	for {
		n, err := read(*buf)
		if !errors.Is(err, unix.ERANGE) || len(*buf) >= maxXattr {
			return max(n, 0), err
		}
		*buf = make([]byte, min(4*len(*buf), maxXattr))
	}
}

// counts tells whether an attribute belongs to what a copy must not lose: what
// users and servers set (user.*, trusted.*), capabilities and POSIX ACLs. Left out
// is what belongs to the machine: labels of its security policy (security.selinux,
// security.ima, ...), marks of overlayfs, and file system properties.
func counts(name []byte) bool {
	s := string(name) // does not escape: no copy
	switch {
	case strings.HasPrefix(s, "user."):
		return true
	case strings.HasPrefix(s, "trusted."):
		return !strings.HasPrefix(s, "trusted.overlay.")
	case strings.HasPrefix(s, "system.posix_acl_"):
		return true
	}
	return s == "security.capability"
}

func appendBytes(b, s []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
