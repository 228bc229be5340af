package storedtree

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// attrPrefix begins the names of OpenCloud's extended attributes.
const attrPrefix = "user.oc."

// onDisk lets read read what lies at a path on disk. It tells whether that is the inode
// that was stored, unchanged since until it had been read: whatever changes an inode changes its ctime.
func (t *Tree) onDisk(p string, e *entry, flags int, read func(fd int) error) bool {
	if t.opt.Live == "" {
		return false
	}
	fd, err := openNoFollow(filepath.Join(t.opt.Live, filepath.FromSlash(p)), flags)
	if err != nil {
		return false
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	same := func() bool {
		var st unix.Stat_t
		return unix.Fstat(fd, &st) == nil && e.is(&st)
	}
	return same() && read(fd) == nil && same()
}

// is tells whether an inode is the one that was stored, and as it was.
func (e *entry) is(st *unix.Stat_t) bool {
	return st.Ino == e.inode && st.Ctim.Nano() == e.ctime && modes[st.Mode&unix.S_IFMT] == e.mode
}

var modes = map[uint32]fs.FileMode{
	unix.S_IFREG: 0, unix.S_IFDIR: fs.ModeDir, unix.S_IFLNK: fs.ModeSymlink, unix.S_IFIFO: fs.ModeNamedPipe,
	unix.S_IFSOCK: fs.ModeSocket, unix.S_IFBLK: fs.ModeDevice, unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice,
}

// unchanged tells whether what lies at a path is as it was stored.
func (t *Tree) unchanged(p string, e *entry) bool {
	if t.opt.Live == "" {
		return false
	}
	var st unix.Stat_t
	return unix.Lstat(filepath.Join(t.opt.Live, filepath.FromSlash(p)), &st) == nil && e.is(&st)
}

func openNoFollow(path string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // the file is another user's
		fd, err = unix.Open(path, flags, 0)
	}
	return fd, err
}

// withFile lets read read a file or directory.
func withFile(path string, read func(fd int) error) error {
	fd, err := openNoFollow(path, forReading)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	return read(fd)
}

// forReading opens files and directories, and never waits for the other end of a pipe.
const forReading = unix.O_RDONLY | unix.O_NONBLOCK

func (t *Tree) attrsOnDisk(p string, e *entry, want func(string) bool) (m map[string][]byte, ok bool) {
	ok = t.onDisk(p, e, forReading, func(fd int) (err error) {
		m, err = attrs(fd, want)
		return err
	})
	return m, ok
}

func (t *Tree) contentOnDisk(p string, e *entry) (b []byte, ok bool) {
	ok = t.onDisk(p, e, forReading, func(fd int) (err error) {
		b, err = content(fd, e.size)
		return err
	})
	return b, ok
}

func (t *Tree) linkOnDisk(p string, e *entry) (to string, ok bool) {
	ok = t.onDisk(p, e, unix.O_PATH, func(fd int) (err error) {
		to, err = link(fd)
		return err
	})
	return to, ok
}

// content reads a file that has size bytes.
func content(fd int, size int64) ([]byte, error) {
	b := make([]byte, size+1) // one more: it must not go on
	n := 0
	for n < len(b) {
		k, err := unix.Read(fd, b[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case k == 0 && int64(n) == size:
			return b[:n], nil
		case k == 0:
			return nil, io.ErrUnexpectedEOF
		default:
			n += k
		}
	}
	return nil, errTooLarge
}

// maxAttr is how long the kernel lets a value or a list of names become (XATTR_SIZE_MAX
// and XATTR_LIST_MAX of linux/limits.h).
const maxAttr = 64 << 10

// attrs reads the extended attributes of OpenCloud that want asks for.
func attrs(fd int, want func(string) bool) (map[string][]byte, error) {
	m := map[string][]byte{}
	names, err := grown(1024, func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range bytes.Split(names, []byte{0}) {
		n := string(name)
		if !strings.HasPrefix(n, attrPrefix) || !want(n) {
			continue
		}
		if m[n], err = grown(256, func(b []byte) (int, error) { return unix.Fgetxattr(fd, n, b) }); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func grown(size int, read func([]byte) (int, error)) ([]byte, error) {
	for {
		b := make([]byte, size)
		n, err := read(b)
		if err == nil {
			return b[:n:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size >= maxAttr {
			return nil, os.NewSyscallError("getxattr", err)
		}
		size = min(8*size, maxAttr)
	}
}

func link(fd int) (string, error) {
	b := make([]byte, unix.PathMax+1)
	n, err := unix.Readlinkat(fd, "", b)
	return string(b[:max(n, 0)]), err
}
