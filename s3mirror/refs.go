package s3mirror

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// refs is what sets want of a pool: sorted files of entries, with how many sets want
// each. Inventories are folded in one after the other, and each is read once.
type refs struct {
	files *scratch
	// blobs and apart are files of what lies under blobs/ and elsewhere; "" when there
	// is none yet.
	blobs, apart string
	folded       int
}

// foldAll folds the inventories of all sets in, those with the same digest as one.
func (r *refs) foldAll(ctx context.Context, sets []SetInventory, used []SetUsage) error {
	first := map[string]int{}
	same := map[int][]int{}
	var order []int
	for i, s := range sets {
		if at, ok := first[s.Digest]; ok && s.Digest != "" {
			same[at] = append(same[at], i)
			continue
		}
		first[s.Digest] = i
		order = append(order, i)
	}
	for _, i := range order {
		objects, bytes, err := r.read(ctx, sets[i], i, 1+len(same[i]))
		if err != nil {
			return readFailure(err, sets[i].Set)
		}
		for _, at := range append(same[i], i) {
			used[at].Objects, used[at].Bytes = objects, bytes
		}
	}
	return nil
}

func (r *refs) read(ctx context.Context, s SetInventory, set, sets int) (objects, bytes uint64, err error) {
	in, err := s.Open(ctx)
	if err != nil {
		return 0, 0, err
	}
	sum := sha256.New()
	// The end of what is read is read too: whoever gives it tells there that it was not all.
	whole := io.TeeReader(in, sum)
	objects, bytes, err = r.fold(newReader(whole, "inventory"), set, sets)
	if err == nil {
		_, err = io.Copy(io.Discard, whole)
	}
	if err := errors.Join(err, in.Close()); err != nil {
		return 0, 0, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); s.Digest != "" && got != s.Digest {
		return 0, 0, fmt.Errorf("its SHA-256 is %s, the set says %s", got, s.Digest)
	}
	return objects, bytes, nil
}

// fold adds one inventory, which stands for a number of equal ones.
func (r *refs) fold(in *reader, set, sets int) (objects, bytes uint64, err error) {
	var apart []entry
	next := func() (*entry, error) {
		for in.next() {
			objects++
			bytes += uint64(in.at.Size)
			e := entry{Path: in.at.Path(), Size: in.at.Size, sets: sets, only: set}
			if in.at.At == "" {
				return &e, nil
			}
			apart = append(apart, e)
		}
		return nil, in.err
	}
	if r.blobs, err = r.add(r.blobs, next); err != nil {
		return 0, 0, err
	}
	slices.SortFunc(apart, func(a, b entry) int { return comparePaths(a.Path, b.Path) })
	apart = slices.CompactFunc(apart, func(a, b entry) bool { return a.Path == b.Path })
	r.apart, err = r.add(r.apart, entriesOf(apart))
	return objects, bytes, err
}

// add makes a new file of an old one and more entries.
func (r *refs) add(old string, more entries) (string, error) {
	before, done, err := readRefs(old)
	if err != nil {
		return "", err
	}
	defer done()
	r.folded++
	path := r.files.file(fmt.Sprintf("refs-%d", r.folded))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	var line []byte
	err = joinEntries(before, more, func(a, b *entry) error {
		e := a
		switch {
		case a == nil:
			e = b
		case b != nil:
			e.sets += b.sets
			e.clash = e.clash || e.Size != b.Size
		}
		line = e.append(line[:0])
		_, err := w.Write(line)
		return err
	})
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return "", err
	}
	if old != "" {
		return path, os.Remove(old)
	}
	return path, nil
}

// all gives everything that is wanted. done has to be called afterwards.
func (r *refs) all() (next entries, done func(), err error) {
	blobs, closeBlobs, err := readRefs(r.blobs)
	if err != nil {
		return nil, nil, err
	}
	apart, closeApart, err := readRefs(r.apart)
	if err != nil {
		closeBlobs()
		return nil, nil, err
	}
	return union(blobs, apart), func() { closeBlobs(); closeApart() }, nil
}

// append appends an entry as a file of refs has it: JSON would take longer than all else.
func (e *entry) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.Path)))
	b = append(b, e.Path...)
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendUvarint(b, uint64(e.sets))
	b = binary.AppendUvarint(b, uint64(e.only))
	if e.clash {
		return append(b, 1)
	}
	return append(b, 0)
}

// readRefs reads a file of refs; "" is one without any.
func readRefs(path string) (next entries, done func(), err error) {
	if path == "" {
		return entriesOf(nil), func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(f, 64<<10)
	next = func() (*entry, error) {
		n, err := binary.ReadUvarint(in)
		if err != nil {
			return nil, err // at the end: io.EOF
		}
		name := make([]byte, n)
		if _, err := io.ReadFull(in, name); err != nil {
			return nil, fmt.Errorf("%s is cut off: %w", path, io.ErrUnexpectedEOF)
		}
		e := &entry{Path: string(name)}
		var v [4]uint64
		for i := range v {
			if v[i], err = binary.ReadUvarint(in); err != nil {
				return nil, fmt.Errorf("%s is cut off: %w", path, io.ErrUnexpectedEOF)
			}
		}
		e.Size, e.sets, e.only, e.clash = int64(v[0]), int(v[1]), int(v[2]), v[3] == 1
		return e, nil
	}
	return next, func() { _ = f.Close() }, nil
}
