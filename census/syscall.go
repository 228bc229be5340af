package census

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The syscalls that are made for every attribute of every inode are made here
// without the copies of path and name that the wrappers of x/sys/unix make.

// cpath is a path as syscalls take it: ended by a zero byte.
type cpath []byte

func llistxattr(path cpath, dest []byte) (int, error) {
	n, _, e := unix.Syscall(unix.SYS_LLISTXATTR, uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)))
	return result(n, e)
}

// lgetxattr reads an attribute; name ends with a zero byte.
func lgetxattr(path cpath, name, dest []byte) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_LGETXATTR, uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)), 0, 0)
	return result(n, e)
}

func readlink(path cpath, dest []byte) (int, error) {
	return unix.Readlink(string(path[:len(path)-1]), dest)
}

func lstat(path string, st *unix.Stat_t) error {
	return retry(func() error { return unix.Lstat(path, st) })
}

func openDir(path string) (int, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// retry repeats a call that a signal interrupted, as the ones of the runtime's
// scheduler do on network file systems.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func result(n uintptr, e unix.Errno) (int, error) {
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// entry is one name in a directory, and the inode it stands for.
type entry struct {
	ino  uint64
	name string
}

// readEntries reads some entries of a directory, appending them to list; "." and
// ".." are left out. more is false at the end of the directory.
func readEntries(fd int, buf []byte, list []entry) (_ []entry, more bool, err error) {
	var n int
	err = retry(func() (err error) {
		n, err = unix.ReadDirent(fd, buf)
		return err
	})
	if err != nil || n <= 0 {
		return list, false, err
	}
	// struct linux_dirent64 of getdents64(2): inode and offset (64 bits each),
	// length of the record (16), type (8), name.
	const lengthAt, nameAt = 16, 19
	for rest := buf[:n]; len(rest) > nameAt; {
		length := int(binary.NativeEndian.Uint16(rest[lengthAt:]))
		if length <= nameAt || length > len(rest) {
			break
		}
		name := unix.ByteSliceToString(rest[nameAt:length])
		if name != "." && name != ".." {
			list = append(list, entry{binary.NativeEndian.Uint64(rest), name})
		}
		rest = rest[length:]
	}
	return list, true, nil
}
