package nodes

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is the Tree of a users root on disk. No path leads out of it, whatever
// symbolic links are in it: the kernel refuses them on the way.
//
// It keeps some directories open while it is read from. Read and PosixRoots close them when
// they are done: a snapshot can't be unmounted otherwise.
func Disk(root string) Tree {
	return &disk{path: root, dirs: dirCache{byPath: map[string]*openDir{}}}
}

type disk struct {
	path  string
	mu    sync.Mutex
	top   *os.File // the root, when it is open
	dirs  dirCache
	names attrNames
}

// root opens the root.
func (d *disk) root() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.top == nil {
		f, err := os.OpenFile(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		d.top = f
	}
	return d.top, nil
}

// release closes what is open, until something is read again.
func (d *disk) release() {
	d.dirs.release()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.top != nil {
		_ = d.top.Close()
		d.top = nil
	}
}

// release has a Tree close what it keeps open.
func release(t Tree) {
	if t, ok := t.(interface{ release() }); ok {
		t.release()
	}
}

// how refuses symbolic links and what leads upwards. openat2 is in Linux since 5.6.
var how = unix.OpenHow{Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}

// open opens what lies at name below the root.
func (d *disk) open(name string, flags int) (int, error) {
	root, err := d.root()
	if err != nil {
		return -1, err
	}
	defer runtime.KeepAlive(root)
	h := how
	h.Flags = uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW)
	const races = 100 // EAGAIN: something was renamed at that moment
	for range races {
		fd, err := unix.Openat2(int(root.Fd()), name, &h)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // an old kernel, or a container that filters system calls
			return openSteps(int(root.Fd()), name, flags)
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN):
			return -1, &fs.PathError{Op: "open", Path: path.Join(d.path, name), Err: err}
		}
	}
	return -1, &fs.PathError{Op: "open", Path: path.Join(d.path, name), Err: unix.EAGAIN}
}

// openSteps is open where there is no openat2: one element of the path after the other.
func openSteps(root int, name string, flags int) (int, error) {
	fail := func(err error) (int, error) {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if name != "." && !validPath(name) {
		return fail(unix.EXDEV)
	}
	at := root
	for {
		step, rest, more := strings.Cut(name, "/")
		how := flags | unix.O_CLOEXEC | unix.O_NOFOLLOW
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
		}
		fd, err := unix.Openat(at, step, how, 0)
		if at != root {
			_ = unix.Close(at)
		}
		if err != nil {
			return fail(err)
		}
		if !more {
			return fd, nil
		}
		at, name = fd, rest
	}
}

// List lists a directory.
func (d *disk) List(_ context.Context, dir string) ([]Entry, error) {
	return d.list(dir, func(fd int, e *Entry) bool {
		var st unix.Stat_t
		err := unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			e.Type = fs.ModeIrregular
			return !errors.Is(err, unix.ENOENT) // removed: the tree is in use
		}
		e.Type, e.MTime = fileType(st.Mode), time.Unix(st.Mtim.Unix()).UTC()
		if e.Type.IsRegular() {
			e.Size = st.Size
		}
		return true
	})
}

// Names is List without sizes and times, which cost a look at each thing.
func (d *disk) Names(ctx context.Context, dir string) ([]Entry, error) {
	unknown := false // by some file systems
	list, err := d.list(dir, func(_ int, e *Entry) bool {
		unknown = unknown || e.Type == fs.ModeIrregular
		return true
	})
	if unknown {
		return d.List(ctx, dir)
	}
	return list, err
}

// list lists what more completes and takes.
func (d *disk) list(dir string, more func(fd int, e *Entry) bool) ([]Entry, error) {
	fd, err := d.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	buf := dirBuffers.Get().(*[16 << 10]byte)
	defer dirBuffers.Put(buf)
	var list []Entry
	for {
		n, err := unix.Getdents(fd, buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "list", Path: path.Join(d.path, dir), Err: err}
		case n <= 0:
			slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
			return list, nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e Entry
			e, rest = dirent(rest)
			if e.Name != "" && e.Name != "." && e.Name != ".." && more(fd, &e) {
				list = append(list, e)
			}
		}
	}
}

var dirBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// dirent reads one of what getdents64 gives: inode and offset of eight bytes, length of
// two, type of one, name until a zero.
func dirent(b []byte) (Entry, []byte) {
	const head = 19
	if len(b) < head {
		return Entry{}, nil
	}
	size := min(max(int(binary.NativeEndian.Uint16(b[16:])), head), len(b))
	name, _, _ := bytes.Cut(b[head:size], []byte{0})
	return Entry{Name: string(name), Type: fileType(uint32(b[18]) << 12)}, b[size:]
}

// fileType is the type in the bits of a mode.
func fileType(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}

// Read reads a regular file.
func (d *disk) Read(_ context.Context, name string, limit int64) ([]byte, error) {
	fd, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK) // a pipe does not block
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	fail := func(err error) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: path.Join(d.path, name), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(errors.New("not a regular file"))
	}
	b := make([]byte, 0, min(st.Size, limit)+1)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fail(err)
		case n == 0:
			return b, nil
		}
		if b = b[:len(b)+n]; int64(len(b)) > limit {
			return fail(unix.EFBIG)
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}

// Link reads where a symbolic link leads.
func (d *disk) Link(_ context.Context, name string) (string, error) {
	dir, err := d.dirs.use(d, path.Dir(name))
	if err != nil {
		return "", err
	}
	defer d.dirs.done(dir)
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir.fd, path.Base(name), b)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: path.Join(d.path, name), Err: err}
	}
	return string(b[:n]), nil
}
