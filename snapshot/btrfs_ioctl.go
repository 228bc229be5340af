package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of btrfs, of linux/btrfs.h (btrfs-ioctl(2)). But for two, all of those used
// here take a buffer of 4096 bytes with numbers at the beginning.
const (
	snapDestroy     = 1<<30 | 4096<<16 | 0x94<<8 | 15 // struct btrfs_ioctl_vol_args
	inoLookup       = 3<<30 | 4096<<16 | 0x94<<8 | 18 // struct btrfs_ioctl_ino_lookup_args
	snapCreate      = 1<<30 | 4096<<16 | 0x94<<8 | 23 // struct btrfs_ioctl_vol_args_v2
	subvolSetFlags  = 1<<30 | 8<<16 | 0x94<<8 | 26    // __u64
	fsInfo          = 2<<30 | 1024<<16 | 0x94<<8 | 31 // struct btrfs_ioctl_fs_info_args
	getSubvolRefs   = 3<<30 | 4096<<16 | 0x94<<8 | 61 // struct btrfs_ioctl_get_subvol_rootref_args
	inoLookupUser   = 3<<30 | 4096<<16 | 0x94<<8 | 62 // struct btrfs_ioctl_ino_lookup_user_args
	subvolReadOnly  = 1 << 1
	subvolumeInode  = 256 // of the top directory of every subvolume
	maxSubvolRefs   = 255
	lookupUserNames = 16       // where the name is, after two numbers
	lookupUserPaths = 16 + 256 // where the path is
)

type ioctlArgs [4096]byte

func (a *ioctlArgs) number(i int) uint64       { return binary.NativeEndian.Uint64(a[8*i:]) }
func (a *ioctlArgs) setNumber(i int, n uint64) { binary.NativeEndian.PutUint64(a[8*i:], n) }

// text returns the zero-terminated string at an offset.
func (a *ioctlArgs) text(at int) string {
	s, _, _ := bytes.Cut(a[at:], []byte{0})
	return string(s)
}

func (a *ioctlArgs) call(fd int, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(a))); errno != 0 {
		return errno
	}
	return nil
}

// fileSystemID returns the UUID of the btrfs that the open file lies on.
func fileSystemID(fd int) (string, error) {
	var a ioctlArgs
	if err := a.call(fd, fsInfo); err != nil {
		return "", os.NewSyscallError("BTRFS_IOC_FS_INFO", err)
	}
	return uuidText(a[16:32]), nil
}

// pathInSubvolume returns the path of an inode within the subvolume of the open file; ""
// for its top. It takes the right to administer the system.
func pathInSubvolume(fd int, inode uint64) (string, error) {
	var a ioctlArgs
	a.setNumber(1, inode)
	if err := a.call(fd, inoLookup); err != nil {
		return "", os.NewSyscallError("BTRFS_IOC_INO_LOOKUP", err)
	}
	return path.Clean("/" + a.text(16))[1:], nil
}

// subvolumesBelow returns the subvolumes below an open directory, relative to it, but for
// those that lie within another one.
func subvolumesBelow(fd int) ([]string, error) {
	var found []string
	var refs ioctlArgs
	for more := true; more; {
		err := refs.call(fd, getSubvolRefs)
		more = err == unix.EOVERFLOW //nolint:errorlint // a bare errno
		if err != nil && !more {
			return nil, os.NewSyscallError("BTRFS_IOC_GET_SUBVOL_ROOTREF", err)
		}
		for i := range int(refs[8+16*maxSubvolRefs]) {
			var a ioctlArgs
			a.setNumber(0, refs.number(2+2*i)) // the directory that it is in
			a.setNumber(1, refs.number(1+2*i)) // the subvolume
			err := a.call(fd, inoLookupUser)
			switch {
			case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT): // not below, or gone by now
			case err != nil:
				return nil, os.NewSyscallError("BTRFS_IOC_INO_LOOKUP_USER", err)
			default:
				found = append(found, path.Join(a.text(lookupUserPaths), a.text(lookupUserNames)))
			}
		}
	}
	return found, nil
}

// makeSnapshot makes a snapshot of a subvolume as an entry of dir. One that can be written
// to needs setReadOnly.
func makeSnapshot(dir int, name string, subvolume int, readOnly bool) error {
	var a ioctlArgs
	a.setNumber(0, uint64(subvolume))
	if readOnly {
		a.setNumber(2, subvolReadOnly)
	}
	copy(a[56:], name)
	return a.call(dir, snapCreate)
}

func setReadOnly(subvolume int) error {
	var a ioctlArgs
	a.setNumber(0, subvolReadOnly)
	return a.call(subvolume, subvolSetFlags)
}

func destroySnapshot(dir int, name string) error {
	var a ioctlArgs
	copy(a[8:], name)
	return a.call(dir, snapDestroy)
}

// mountDetached mounts a btrfs, the subvolume of that path or id. The mount has no place
// in the tree of directories: it is gone when the file is closed, or with this process.
func mountDetached(source, option, value string, attributes int) (*os.File, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer func() { _ = unix.Close(fs) }()
	err = unix.FsconfigSetString(fs, "source", source)
	if err == nil {
		err = unix.FsconfigSetString(fs, option, value)
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, &os.PathError{Op: "mount", Path: source, Err: err}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, &os.PathError{Op: "mount", Path: source, Err: err}
	}
	return os.NewFile(uintptr(fd), source), nil
}
