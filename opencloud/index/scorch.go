package index

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// snapshot is the state of a scorch index that its root.bolt names: what the
// server opens.
type snapshot struct {
	segmentType    string
	segmentVersion uint32
	mapping        []byte // JSON
	segments       []segmentRef
}

// segmentRef is one segment file of a snapshot.
type segmentRef struct {
	file    string // base name, in the directory of root.bolt
	deleted uint64 // documents in it that no longer count
}

// Keys of scorch's root.bolt: bleve/v2 util/keys.go.
const (
	keySnapshots = "s"
	keyInternal  = "i"
	keyMeta      = "m"
	keyPath      = "p"
	keyDeleted   = "d"
	keyStats     = "stats"
	keyFields    = "fields"
	keyMapping   = "_mapping"
)

// readSnapshot reads the newest snapshot, as scorch does when it opens an index
// (bleve/v2 index/scorch/persister.go, loadFromBolt and loadSnapshot), with one
// difference: scorch falls back to an older snapshot when the newest can't be
// loaded, and starts with documents missing; here that is an error.
func readSnapshot(b *boltFile) (*snapshot, error) {
	top, err := b.entries(b.root)
	if err != nil {
		return nil, err
	}
	all, err := b.nested(top, keySnapshots)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("holds no snapshot")
	}
	// Older snapshots are not loaded, but walked: the server does, to find the files
	// that none needs any more, and does not survive a damaged page.
	for _, e := range all[:len(all)-1] {
		if err := b.walk(e, 0); err != nil {
			return nil, fmt.Errorf("older snapshot: %w", err)
		}
	}
	newest, err := b.bucket(all[len(all)-1]) // keys are ascending epochs
	if err != nil {
		return nil, fmt.Errorf("newest snapshot: %w", err)
	}
	s := &snapshot{}
	if err := s.readMeta(b, newest); err != nil {
		return nil, err
	}
	for _, e := range newest {
		// scorch, too, goes by the first byte: internal, meta, all else is a segment's id.
		switch {
		case len(e.key) == 0:
			return nil, errors.New("a segment has no id")
		case e.key[0] == keyMeta[0]:
		case e.key[0] == keyInternal[0]:
			kv, err := b.bucket(e)
			if err != nil {
				return nil, fmt.Errorf("internal values: %w", err)
			}
			s.mapping = value(kv, keyMapping)
		default:
			ref, err := b.readSegmentRef(e)
			if err != nil {
				return nil, fmt.Errorf("segment %x: %w", e.key, err)
			}
			s.segments = append(s.segments, ref)
		}
	}
	return s, nil
}

func (s *snapshot) readMeta(b *boltFile, newest []boltEntry) error {
	meta, err := b.nested(newest, keyMeta)
	if err != nil {
		return err
	}
	version := value(meta, "version")
	if len(version) < 4 {
		return errors.New("newest snapshot: names no segment version")
	}
	s.segmentType, s.segmentVersion = string(value(meta, "type")), binary.BigEndian.Uint32(version)
	return nil
}

func (b *boltFile) readSegmentRef(e boltEntry) (segmentRef, error) {
	kv, err := b.bucket(e)
	if err != nil {
		return segmentRef{}, err
	}
	ref := segmentRef{file: string(value(kv, keyPath))}
	if ref.file == "" || ref.file != filepath.Base(ref.file) || ref.file == ".." {
		return ref, errors.New("names no file")
	}
	for _, k := range []string{keyStats, keyFields} {
		if v := value(kv, k); v != nil && !json.Valid(v) {
			return ref, fmt.Errorf("%s are no JSON", k)
		}
	}
	if v := value(kv, keyDeleted); v != nil {
		if ref.deleted, err = roaringCount(v); err != nil {
			return ref, fmt.Errorf("list of deleted documents: %w", err)
		}
	}
	return ref, nil
}

// nested lists the keys of the bucket named key.
func (b *boltFile) nested(list []boltEntry, key string) ([]boltEntry, error) {
	i := slices.IndexFunc(list, func(e boltEntry) bool { return string(e.key) == key })
	if i < 0 {
		return nil, fmt.Errorf("bucket %q is missing", key)
	}
	return b.bucket(list[i])
}

// value returns the value of a plain key, nil when there is none.
func value(list []boltEntry, key string) []byte {
	for _, e := range list {
		if string(e.key) == key && !e.isBucket {
			return e.value
		}
	}
	return nil
}

// roaringCount counts the members of a serialized 32-bit roaring bitmap, and
// checks that it is whole. The format: RoaringFormatSpec,
// https://github.com/RoaringBitmap/RoaringFormatSpec.
func roaringCount(b []byte) (uint64, error) {
	const (
		cookieNoRuns = 12346
		cookieRuns   = 12347
		noOffsets    = 4    // with run containers, fewer containers than this have no offset header
		arrayMax     = 4096 // members up to which a container is an array of 16-bit numbers
	)
	errShort := errors.New("is cut off")
	le := binary.LittleEndian
	take := func(n int) []byte {
		if n > len(b) {
			return nil
		}
		head := b[:n]
		b = b[n:]
		return head
	}
	cookie := take(4)
	if cookie == nil {
		return 0, errShort
	}
	var runs []byte
	var n int
	offsets := true
	switch c := le.Uint32(cookie); {
	case c == cookieNoRuns:
		size := take(4)
		if size == nil {
			return 0, errShort
		}
		n = int(le.Uint32(size))
	case c&0xffff == cookieRuns:
		n = int(c>>16) + 1
		if runs = take((n + 7) / 8); runs == nil {
			return 0, errShort
		}
		offsets = n >= noOffsets
	default:
		return 0, errors.New("is no roaring bitmap")
	}
	if n > 1<<16 {
		return 0, errors.New("has too many containers")
	}
	heads := take(4 * n) // key 2, members-1 2
	if heads == nil || offsets && take(4*n) == nil {
		return 0, errShort
	}
	var count uint64
	for i := range n {
		members := int(le.Uint16(heads[4*i+2:])) + 1
		count += uint64(members)
		size := 2 * members
		switch {
		case runs != nil && runs[i/8]&(1<<(i%8)) != 0:
			number := take(2)
			if number == nil {
				return 0, errShort
			}
			size = 4 * int(le.Uint16(number))
		case members > arrayMax:
			size = 8192
		}
		if take(size) == nil && size > 0 {
			return 0, errShort
		}
	}
	return count, nil
}
