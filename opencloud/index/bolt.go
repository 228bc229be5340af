package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// boltFile reads a bbolt database page by page. bbolt itself maps the file into
// memory and trusts every page but the first two: on a truncated file the process
// dies of SIGBUS, on a damaged page it panics or walks in circles. What is judged
// here may be just that, and may be the file of a running server, so nothing is
// mapped, locked or believed.
//
// The format is that of go.etcd.io/bbolt v1.3 to v1.5: internal/common/{meta,page,bucket}.go.
// Numbers are in the byte order of the machine that wrote them.
type boltFile struct {
	r        io.ReaderAt
	size     int64
	pageSize uint64
	pages    uint64 // high-water mark: no page has this id or a higher one
	root     uint64 // page of the bucket of buckets
	seen     map[uint64]bool
}

// boltEntry is one key of a bucket. For a nested bucket the value is its header.
type boltEntry struct {
	key, value []byte
	isBucket   bool
}

const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltPageHeader = 16 // id 8, flags 2, count 2, overflow 4
	boltElement    = 16 // of a branch: pos 4, ksize 4, page 8; of a leaf: flags 4, pos 4, ksize 4, vsize 4
	boltMeta       = 64
	boltMaxDepth   = 64

	boltBranch   = 0x01
	boltLeaf     = 0x02
	boltFreelist = 0x10
	boltSubtree  = 0x01 // flag of a leaf element that is a bucket

	boltNoFreelist = 1<<64 - 1
)

// openBolt reads the two meta pages and takes the newer valid one, as bbolt does.
func openBolt(r io.ReaderAt, size int64) (*boltFile, error) {
	if size == 0 {
		return nil, errors.New("is empty")
	}
	b := &boltFile{r: r, size: size, seen: map[uint64]bool{}}
	var txid, freelist uint64
	found := false
	consider := func(offset int64) (pageSize uint64) {
		m := make([]byte, boltPageHeader+boltMeta)
		if n, _ := r.ReadAt(m, offset); n < len(m) {
			return 0
		}
		m = m[boltPageHeader:]
		ne := binary.NativeEndian
		sum := fnv.New64a()
		sum.Write(m[:56])
		if ne.Uint32(m) != boltMagic || ne.Uint32(m[4:]) != boltVersion || ne.Uint64(m[56:]) != sum.Sum64() {
			return 0
		}
		pageSize = uint64(ne.Uint32(m[8:]))
		if id := ne.Uint64(m[48:]); !found || id > txid {
			found, txid = true, id
			b.pageSize, b.root, freelist, b.pages = pageSize, ne.Uint64(m[16:]), ne.Uint64(m[32:]), ne.Uint64(m[40:])
		}
		return pageSize
	}
	if ps := consider(0); ps != 0 {
		consider(int64(ps)) //nolint:gosec // at most 4 GiB
	} else {
		// Without the first one the page size is not known: bbolt tries 1 KiB to 16 MiB.
		for i := 0; i <= 14 && !found; i++ {
			consider(1024 << i)
		}
	}
	switch {
	case !found:
		return nil, errors.New("is no bolt database")
	case b.pageSize < 1024 || b.pageSize > 1024<<14:
		return nil, fmt.Errorf("has an impossible page size of %d", b.pageSize)
	case b.pages > uint64(size)/b.pageSize:
		return nil, fmt.Errorf("is cut off: %d bytes, and %d pages of %d bytes are in use", size, b.pages, b.pageSize)
	}
	if freelist != boltNoFreelist {
		// bbolt panics when it opens a database to write with a bad one.
		if p, err := b.page(freelist); err != nil {
			return nil, fmt.Errorf("free list: %w", err)
		} else if p.flags != boltFreelist {
			return nil, fmt.Errorf("free list: page %d is of another kind (%#x)", freelist, p.flags)
		}
	}
	return b, nil
}

type boltPage struct {
	flags, count uint16
	data         []byte // with the header
}

// page reads a page with its overflow. No page may be read twice: each belongs to
// one place of one tree.
func (b *boltFile) page(id uint64) (boltPage, error) {
	if id < 2 || id >= b.pages {
		return boltPage{}, fmt.Errorf("page %d is out of bounds", id)
	}
	if b.seen[id] {
		return boltPage{}, fmt.Errorf("page %d is used twice", id)
	}
	b.seen[id] = true
	head := make([]byte, boltPageHeader)
	off := int64(id * b.pageSize) //nolint:gosec // below size
	if _, err := b.r.ReadAt(head, off); err != nil {
		return boltPage{}, fmt.Errorf("page %d: %w", id, err)
	}
	ne := binary.NativeEndian
	overflow := uint64(ne.Uint32(head[12:]))
	if ne.Uint64(head) != id || id+overflow >= b.pages {
		return boltPage{}, fmt.Errorf("page %d is damaged", id)
	}
	data := make([]byte, (overflow+1)*b.pageSize)
	if _, err := b.r.ReadAt(data, off); err != nil {
		return boltPage{}, fmt.Errorf("page %d: %w", id, err)
	}
	return parseBoltPage(data)
}

func parseBoltPage(data []byte) (boltPage, error) {
	if len(data) < boltPageHeader {
		return boltPage{}, errors.New("a page is too short")
	}
	p := boltPage{flags: binary.NativeEndian.Uint16(data[8:]), count: binary.NativeEndian.Uint16(data[10:]), data: data}
	if p.flags != boltFreelist && boltPageHeader+int(p.count)*boltElement > len(data) {
		return p, errors.New("a page is too short for its elements")
	}
	return p, nil
}

// cut returns size bytes at pos behind element i.
func (p boltPage) cut(i int, pos, size uint64) ([]byte, error) {
	from := uint64(boltPageHeader+i*boltElement) + pos //nolint:gosec // i is a uint16
	if from+size > uint64(len(p.data)) {
		return nil, errors.New("an element lies outside its page")
	}
	return p.data[from : from+size], nil
}

// entries lists all keys of the tree below page id, in order.
func (b *boltFile) entries(id uint64) ([]boltEntry, error) {
	return b.collect(nil, id, 0)
}

func (b *boltFile) collect(list []boltEntry, id uint64, depth int) ([]boltEntry, error) {
	if depth > boltMaxDepth {
		return nil, errors.New("a tree is too deep")
	}
	p, err := b.page(id)
	if err != nil {
		return nil, err
	}
	switch p.flags {
	case boltLeaf:
		return p.leaves(list)
	case boltBranch:
		if p.count == 0 {
			return nil, fmt.Errorf("page %d is an empty branch", id)
		}
		for i := range int(p.count) {
			child := binary.NativeEndian.Uint64(p.data[boltPageHeader+i*boltElement+8:])
			if list, err = b.collect(list, child, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("page %d is of another kind (%#x)", id, p.flags)
}

// leaves appends the elements of a leaf page. Keys must ascend: where they don't,
// bbolt's binary search misses some.
func (p boltPage) leaves(list []boltEntry) ([]boltEntry, error) {
	for i := range int(p.count) {
		e := p.data[boltPageHeader+i*boltElement:]
		ne := binary.NativeEndian
		flags, pos, ksize, vsize := ne.Uint32(e), uint64(ne.Uint32(e[4:])), uint64(ne.Uint32(e[8:])), uint64(ne.Uint32(e[12:]))
		kv, err := p.cut(i, pos, ksize+vsize)
		if err != nil {
			return nil, err
		}
		x := boltEntry{key: kv[:ksize], value: kv[ksize:], isBucket: flags&boltSubtree != 0}
		if n := len(list); n > 0 && bytes.Compare(list[n-1].key, x.key) >= 0 {
			return nil, errors.New("keys are out of order")
		}
		list = append(list, x)
	}
	return list, nil
}

// bucket lists the keys of a nested bucket: a tree of its own, or, when small, a
// page inside the value.
func (b *boltFile) bucket(e boltEntry) ([]boltEntry, error) {
	const header = 16 // root page 8, sequence 8
	if !e.isBucket || len(e.value) < header {
		return nil, fmt.Errorf("key %q is no bucket", e.key)
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		return b.entries(root)
	}
	p, err := parseBoltPage(e.value[header:])
	if err != nil {
		return nil, err
	}
	if p.flags != boltLeaf {
		return nil, fmt.Errorf("key %q holds no leaf page", e.key)
	}
	return p.leaves(nil)
}

// walk reads a bucket and all buckets in it.
func (b *boltFile) walk(e boltEntry, depth int) error {
	if depth > boltMaxDepth {
		return errors.New("buckets are nested too deep")
	}
	list, err := b.bucket(e)
	if err != nil {
		return err
	}
	for _, x := range list {
		if !x.isBucket {
			continue
		}
		if err := b.walk(x, depth+1); err != nil {
			return err
		}
	}
	return nil
}
