package catalog

import (
	"bytes"
	"errors"
	"io"
)

// window is a part of a file in memory, to look at lines anywhere in it.
type window struct {
	f   *File
	at  int64
	buf []byte
}

const windowSize = 8 << 10

// lineAt returns the line that has the byte at off and does not begin before lo, where
// a line begins; its end is where the next one begins.
func (w *window) lineAt(off, lo int64) (line []byte, start, end int64, err error) {
	for size := int64(windowSize); ; size *= 4 {
		if off >= w.at && off < w.at+int64(len(w.buf)) {
			i := int(off - w.at)
			begin := bytes.LastIndexByte(w.buf[:i], '\n') + 1
			start = max(w.at+int64(begin), lo)
			stop := bytes.IndexByte(w.buf[i:], '\n')
			if (begin > 0 || start == lo || w.at == 0) && stop >= 0 {
				if end = off + int64(stop) + 1; end-start > maxLine {
					return nil, start, end, w.f.damage(off, errTooLong)
				}
				return w.buf[start-w.at : end-1-w.at], start, end, nil
			}
			if size > 4*maxLine {
				return nil, 0, 0, w.f.damage(off, errTooLong)
			}
		}
		if err := w.read(max(lo, off-size/2), min(w.f.size, off+size/2)); err != nil {
			return nil, 0, 0, err
		}
		if w.at+int64(len(w.buf)) == w.f.size && w.buf[len(w.buf)-1] != '\n' {
			return nil, 0, 0, w.f.damage(w.f.size-1, errTorn)
		}
	}
}

// read reads the bytes of the file from at to end, at least one.
func (w *window) read(at, end int64) error {
	if int64(cap(w.buf)) < end-at {
		w.buf = make([]byte, end-at)
	}
	n, err := w.f.file.ReadAt(w.buf[:end-at], at)
	w.at, w.buf = at, w.buf[:n]
	switch {
	case int64(n) == end-at:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return w.f.damage(at, errShort)
	}
	return err
}

// seek returns where the first line begins, of those from lo on, that is not before
// what is looked for; the end of the file when all are. lo is where a line begins, and
// before holds for a first part of the lines from there. It looks near lo first.
func (f *File) seek(lo int64, before func(*Node) bool) (int64, error) {
	w := window{f: f}
	hi := f.size
	for step := int64(windowSize); lo+step < hi; step *= 4 {
		n, start, end, err := w.node(lo+step, lo)
		if err != nil {
			return 0, err
		}
		if !before(n) {
			hi = start
			break
		}
		lo = end
	}
	for lo < hi {
		n, start, end, err := w.node(lo+(hi-lo)/2, lo)
		if err != nil {
			return 0, err
		}
		if before(n) {
			lo = end
		} else {
			hi = start
		}
	}
	return lo, nil
}

// node decodes the line that has the byte at off, without its At.
func (w *window) node(off, lo int64) (n *Node, start, end int64, err error) {
	line, start, end, err := w.lineAt(off, lo)
	if err != nil {
		return nil, 0, 0, err
	}
	if n, _, err = decode(line, nil); err != nil {
		return nil, 0, 0, w.f.damage(start, err)
	}
	return n, start, end, nil
}
