package storedtree

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ocbackup/ocbackup/repo"
)

// entry is something in a directory, as it was stored.
type entry struct {
	name  string
	mode  fs.FileMode // the type bits
	size  int64
	mtime time.Time
	ctime int64 // ns since 1970
	inode uint64
	layer int
	kids  []place // of directories: what is in them
}

// place is where in the spool what is in a directory is listed.
type place struct {
	layer int
	at    int64
}

// span is a stretch of the spool.
type span struct{ at, n int64 }

// spool is a temporary file that is only ever appended to.
type spool struct {
	f   *os.File
	end atomic.Int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "ocbackup-stored-*")
	if err != nil {
		return nil, fmt.Errorf("list what was stored, in a temporary file: %w", err)
	}
	// It lasts for as long as it is open.
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{f: f}, nil
}

func (s *spool) close() error { return s.f.Close() }

// write is not for several goroutines at once.
func (s *spool) write(b []byte) (span, error) {
	at := s.end.Load()
	n, err := s.f.WriteAt(b, at)
	s.end.Add(int64(n))
	return span{at, int64(len(b))}, err
}

func (s *spool) read(p span) ([]byte, error) {
	b := make([]byte, p.n)
	_, err := s.f.ReadAt(b, p.at)
	return b, err
}

// listing writes what restic lists to the spool, directory by directory. The list goes
// down into each directory before it goes on, so that a directory's own entries are
// scattered over it; each is written when the list has left it, and what is in it
// precedes it. Memory holds the entries of the directories on the way down, up to
// stretch bytes of each.
type listing struct {
	s    *spool
	out  *bufio.Writer
	at   int64
	open []*frame
	// files is how many files were listed.
	files uint64
}

// frame is a directory that the list is in.
type frame struct {
	node  repo.Node // of the directory itself
	buf   []byte    // entries that are not written yet
	n     int
	prev  int64 // 1 + where the entries before those are; 0: there are none
	lossy bool
}

// stretch is how many bytes of a directory's entries are gathered.
const stretch = 1 << 20

func newListing(s *spool) *listing {
	return &listing{
		s: s, out: bufio.NewWriterSize(io.NewOffsetWriter(s.f, s.end.Load()), 1<<20), at: s.end.Load(),
		open: []*frame{{node: repo.Node{Path: "/"}}},
	}
}

func (w *listing) top() *frame { return w.open[len(w.open)-1] }

// add takes a line of the list.
func (w *listing) add(n repo.Node) error {
	parent := path.Dir(n.Path)
	for w.top().node.Path != parent {
		if len(w.open) == 1 {
			return fmt.Errorf("restic lists %q before the folder that it is in", n.Path)
		}
		if err := w.leave(); err != nil {
			return err
		}
	}
	if n.Type == "dir" {
		w.open = append(w.open, &frame{node: n})
		return nil
	}
	if n.Type == "file" {
		w.files++
	}
	return w.entry(&n, 0)
}

// leave ends the innermost directory.
func (w *listing) leave() error {
	f := w.top()
	at, err := w.flush(f)
	if err != nil {
		return err
	}
	w.open = w.open[:len(w.open)-1]
	return w.entry(&f.node, at+1)
}

// entry adds something to the innermost directory; kids is 1 + where what is in it is.
func (w *listing) entry(n *repo.Node, kids int64) error {
	f := w.top()
	name := path.Base(n.Path)
	f.lossy = f.lossy || strings.ContainsRune(name, utf8.RuneError)
	b := binary.AppendUvarint(f.buf, uint64(len(name)))
	b = append(b, name...)
	b = append(b, typeByte(n.Type))
	b = binary.AppendUvarint(b, n.Size)
	b = binary.AppendVarint(b, n.MTime.Unix())
	b = binary.AppendUvarint(b, uint64(n.MTime.Nanosecond()))
	b = binary.AppendVarint(b, n.CTime.UnixNano())
	b = binary.AppendUvarint(b, n.Inode)
	f.buf = binary.AppendUvarint(b, uint64(kids))
	f.n++
	if len(f.buf) < stretch {
		return nil
	}
	at, err := w.flush(f)
	*f = frame{node: f.node, prev: at + 1, lossy: f.lossy}
	return err
}

// flush writes the entries that a directory has gathered.
func (w *listing) flush(f *frame) (int64, error) {
	at := w.at
	lossy := byte(0)
	if f.lossy {
		lossy = 1
	}
	b := append(make([]byte, 0, 32), lossy)
	b = binary.AppendUvarint(b, uint64(f.prev))
	b = binary.AppendUvarint(b, uint64(f.n))
	b = binary.AppendUvarint(b, uint64(len(f.buf)))
	for _, b := range [][]byte{b, f.buf} {
		n, err := w.out.Write(b)
		w.at += int64(n)
		if err != nil {
			return 0, fmt.Errorf("list what was stored, in a temporary file: %w", err)
		}
	}
	return at, nil
}

// close ends the list and tells where what is at the top of it is.
func (w *listing) close() (int64, error) {
	for len(w.open) > 1 {
		if err := w.leave(); err != nil {
			return 0, err
		}
	}
	at, err := w.flush(w.open[0])
	if err == nil {
		err = w.out.Flush()
	}
	w.s.end.Store(w.at)
	return at, err
}

// dir reads the entries of a directory, in the order of restic. Names in it have lost
// bytes if lossy.
func (s *spool) dir(p place) (l []entry, lossy bool, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var parts [][]entry
	for at := p.at + 1; at != 0; {
		b := (*buf)[:min(int64(len(*buf)), s.end.Load()-at+1)]
		if _, err := s.f.ReadAt(b, at-1); err != nil {
			return nil, false, err
		}
		lossy = lossy || b[0] == 1
		var head [3]uint64 // see flush
		used := 1
		for i := range head {
			v, k := binary.Uvarint(b[used:])
			head[i] = v
			used += k
		}
		if n := int(head[2]); len(b) >= used+n {
			b = b[used : used+n]
		} else {
			b = make([]byte, n)
			if _, err := s.f.ReadAt(b, at-1+int64(used)); err != nil {
				return nil, false, err
			}
		}
		parts = append(parts, decode(b, int(head[1]), p.layer))
		at = int64(head[0])
	}
	if len(parts) == 1 {
		return parts[0], lossy, nil
	}
	for i := len(parts) - 1; i >= 0; i-- {
		l = append(l, parts[i]...)
	}
	return l, lossy, nil
}

// buffers are what directories are read into; most are smaller.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 4096)) }}

// decode reads n entries that this process wrote.
func decode(b []byte, n, layer int) []entry {
	l := make([]entry, 0, n)
	uvarint := func() uint64 {
		v, k := binary.Uvarint(b)
		b = b[k:]
		return v
	}
	varint := func() int64 {
		v, k := binary.Varint(b)
		b = b[k:]
		return v
	}
	for range n {
		k := uvarint()
		e := entry{name: string(b[:k]), mode: types[b[k]].mode, layer: layer}
		b = b[k+1:]
		e.size = int64(uvarint())
		sec := varint()
		e.mtime = time.Unix(sec, int64(uvarint()))
		e.ctime = varint()
		e.inode = uvarint()
		if at := uvarint(); at != 0 {
			e.kids = []place{{layer, int64(at) - 1}}
		}
		l = append(l, e)
	}
	return l
}

// types are restic's (internal/data, node.go).
var types = []struct {
	name string
	mode fs.FileMode
}{
	{"", fs.ModeIrregular},
	{"file", 0},
	{"dir", fs.ModeDir},
	{"symlink", fs.ModeSymlink},
	{"fifo", fs.ModeNamedPipe},
	{"socket", fs.ModeSocket},
	{"dev", fs.ModeDevice},
	{"chardev", fs.ModeDevice | fs.ModeCharDevice},
}

func typeByte(name string) byte {
	for i := range types {
		if types[i].name == name {
			return byte(i)
		}
	}
	return 0
}
