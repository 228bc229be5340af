package treecopy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// chunk is how much is copied between two looks at whether to go on.
const chunk = 64 << 20

// make makes what is no directory, without its metadata.
func (c *copier) make(rel string, st *unix.Stat_t) error {
	from, to := below(c.src, rel), below(c.dst, rel)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(from, to, st.Size)
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	return failed("mknod", to, unix.Mknod(to, st.Mode&unix.S_IFMT|0o600, int(st.Rdev)))
}

// file copies a regular file's content.
func (c *copier) file(from, to string, size int64) (err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if size == 0 {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	// A file system that can't share says so in many ways, and what else is wrong the
	// copy says as well.
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		c.bytes.Add(uint64(size))
		c.shared.Add(uint64(size))
		return nil
	}
	return c.content(out, in, size)
}

// Shares tells whether copies in the directory dir share the contents of the tree at src
// with it, and so take room for their metadata only. It finds out with the first file
// that it comes upon.
func Shares(src, dir string) bool {
	shares := false
	_ = filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error { // what can't be read is of no use
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if st, err := d.Info(); err != nil || st.Size() == 0 {
			return nil
		}
		shares = clones(p, dir)
		return fs.SkipAll
	})
	return shares
}

func clones(file, dir string) bool {
	in, err := os.Open(file)
	if err != nil {
		return false
	}
	defer in.Close()                                                //nolint:errcheck // read only
	out, err := os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600) // has no name, and goes when it is closed
	if err != nil {
		return false
	}
	defer out.Close() //nolint:errcheck // as above
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil
}

// content copies what is not a hole, within the kernel where it can.
func (c *copier) content(out, in *os.File, size int64) error {
	for off := int64(0); off < size; {
		end := size
		data, err := in.Seek(off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			data = size // the rest is a hole
		case err != nil:
			data = off // a file system that knows of no holes
		default:
			if end, err = in.Seek(data, unix.SEEK_HOLE); err != nil {
				return err
			}
		}
		c.bytes.Add(uint64(data - off))
		for off = data; off < min(end, size); {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			n, err := copyRange(out, in, off, min(end, size, off+chunk))
			c.bytes.Add(uint64(n))
			if err != nil {
				return err
			}
			off += n
		}
	}
	return out.Truncate(size)
}

func copyRange(out, in *os.File, from, to int64) (int64, error) {
	if _, err := in.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := out.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.CopyN(out, in, to-from)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s ends at %d: %w", in.Name(), from+n, io.ErrUnexpectedEOF)
	}
	return n, err
}
