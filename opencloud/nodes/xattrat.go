package nodes

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xattrsOf reads the attributes of one thing by system calls. Linux 6.13 has those that take
// an open directory and a name in it, which cost half of those that take a path. Those
// are for older kernels: the directory was opened without a symbolic link on the way.
type xattrsOf struct {
	dir        int
	name, path string
}

// older is set on kernels before 6.13.
var older atomic.Bool

// names lists the names of attributes, each ended by a zero.
func (x xattrsOf) names(buf []byte) (int, error) {
	if !older.Load() {
		name, err := unix.BytePtrFromString(x.name)
		if err != nil {
			return 0, err
		}
		n, _, e := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(x.dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
		if !missing(e) {
			return outcome(n, e)
		}
	}
	return unix.Llistxattr(x.path, buf)
}

// get reads an attribute.
func (x xattrsOf) get(attr string, buf []byte) (int, error) {
	if !older.Load() {
		name, err := unix.BytePtrFromString(x.name)
		if err != nil {
			return 0, err
		}
		a, err := unix.BytePtrFromString(attr)
		if err != nil {
			return 0, err
		}
		// struct xattr_args of linux/xattr.h. The collector moves nothing on the heap, and the
		// pointer keeps the buffer.
		args := &struct {
			value       unsafe.Pointer
			_           [8 - unsafe.Sizeof(uintptr(0))]byte
			size, flags uint32
		}{value: unsafe.Pointer(unsafe.SliceData(buf)), size: uint32(len(buf))}
		n, _, e := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(x.dir), uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args))
		if !missing(e) {
			return outcome(n, e)
		}
	}
	return unix.Lgetxattr(x.path, attr, buf)
}

// missing notes that the kernel, or a filter of system calls, does not have them.
func missing(e unix.Errno) bool {
	if errors.Is(e, unix.ENOSYS) || errors.Is(e, unix.EPERM) {
		older.Store(true)
		return true
	}
	return false
}

func outcome(n uintptr, e unix.Errno) (int, error) {
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
