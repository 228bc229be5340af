package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The search index is a bleve index as far as anyone looks who does not search
// in it: index_meta.json, and store/root.bolt with one snapshot that names the
// segment files (*.zap) beside it.

const segmentHeader = "standin segment\n"

// index holds root.bolt open, and with it the same flock as the real server.
type index struct {
	dir string
	db  *bolt.DB
}

// openIndex opens the index, or makes an empty one where none is. A damaged
// one is an error, and never mended, as in OpenCloud 4.0.
func openIndex(dir string) (*index, error) {
	store := filepath.Join(dir, "store")
	meta := filepath.Join(dir, "index_meta.json")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(store, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(meta, []byte(`{"storage":"boltdb","index_type":"scorch"}`), 0o600); err != nil {
			return nil, err
		}
		x := &index{dir: dir}
		if x.db, err = bolt.Open(filepath.Join(store, "root.bolt"), 0o600, &bolt.Options{Timeout: lockTimeout}); err != nil {
			return nil, err
		}
		return x, x.commit(nil)
	}
	b, err := os.ReadFile(meta)
	if err != nil {
		return nil, errors.New("cannot open index, metadata missing")
	}
	if !json.Valid(b) {
		return nil, errors.New("cannot open index, metadata corrupt")
	}
	if info, err := os.Stat(filepath.Join(store, "root.bolt")); err != nil || info.Size() == 0 {
		return nil, errors.New("error parsing mapping JSON: unexpected end of JSON input")
	}
	db, err := bolt.Open(filepath.Join(store, "root.bolt"), 0o600, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return nil, err
	}
	x := &index{dir: dir, db: db}
	if _, err := x.segments(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return x, nil
}

// segments are the segment files that the newest snapshot names, all of them there.
func (x *index) segments() (names []string, err error) {
	err = x.db.View(func(tx *bolt.Tx) error {
		snapshots := tx.Bucket([]byte("s"))
		if snapshots == nil {
			return errors.New("error parsing mapping JSON: unexpected end of JSON input")
		}
		key, _ := snapshots.Cursor().Last()
		if key == nil || snapshots.Bucket(key) == nil {
			return errors.New("error parsing mapping JSON: unexpected end of JSON input")
		}
		newest := snapshots.Bucket(key)
		return newest.ForEachBucket(func(k []byte) error {
			name := newest.Bucket(k).Get([]byte("p"))
			if name == nil {
				return nil
			}
			names = append(names, string(name))
			if _, err := os.Stat(filepath.Join(x.dir, "store", string(name))); err != nil {
				return fmt.Errorf("error parsing mapping JSON: unexpected end of JSON input: %w", err)
			}
			return nil
		})
	})
	return names, err
}

// commit makes a snapshot of the given segments the only one.
func (x *index) commit(names []string) error {
	return x.db.Update(func(tx *bolt.Tx) error {
		_ = tx.DeleteBucket([]byte("s"))
		snapshots, err := tx.CreateBucket([]byte("s"))
		if err != nil {
			return err
		}
		snapshot, err := snapshots.CreateBucket(smallUvarint(1))
		if err != nil {
			return err
		}
		put := func(bucket, key, value string) {
			b, cerr := snapshot.CreateBucketIfNotExists([]byte(bucket))
			if cerr == nil {
				cerr = b.Put([]byte(key), []byte(value))
			}
			err = errors.Join(err, cerr)
		}
		put("m", "type", "zap")
		put("m", "version", "\x00\x00\x00\x10\x00")
		put("m", "timeStamp", time.Now().UTC().Format(time.RFC3339Nano))
		put("i", "_mapping", `{"default_mapping":{"enabled":true,"dynamic":true},"type_field":"_type","default_type":"_default","default_analyzer":"standard"}`)
		for i, name := range names {
			put(string(smallUvarint(i+1)), "p", name)
			put(string(smallUvarint(i+1)), "stats", "{}")
		}
		return err
	})
}

// smallUvarint is scorch's key encoding of numbers up to 109.
func smallUvarint(n int) []byte { return []byte{byte(136 + n)} }

// add indexes one space: a segment that names it, in a new snapshot.
func (x *index) add(space string) error {
	names, err := x.segments()
	if err != nil {
		return err
	}
	spaces := x.spaces(names)
	if slices.Contains(spaces, space) {
		return nil
	}
	// A scorch segment (zap, version 16): what it holds, the stored-fields index (8
	// bytes for the one document), the fields index (none), and a footer: documents,
	// the offsets of these, doc values (none), chunk mode, version and checksum.
	body := []byte(segmentHeader + space + "\n")
	stored := uint64(len(body))
	body = binary.BigEndian.AppendUint64(body, 0)
	fields := uint64(len(body))
	body = append(body, 0)
	for _, n := range []uint64{1, stored, fields, fields, math.MaxUint64} {
		body = binary.BigEndian.AppendUint64(body, n)
	}
	body = binary.BigEndian.AppendUint32(body, 0x402)
	body = binary.BigEndian.AppendUint32(body, 16)
	body = binary.BigEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
	name := fmt.Sprintf("%012x.zap", 0x5000+time.Now().UnixNano()&0xffffffffff)
	if err := os.WriteFile(filepath.Join(x.dir, "store", name), body, 0o600); err != nil {
		return err
	}
	return x.commit(append(names, name))
}

// spaces are the spaces that the stand-in indexed itself into these segments.
func (x *index) spaces(names []string) (ids []string) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(x.dir, "store", name))
		if rest, ok := bytes.CutPrefix(b, []byte(segmentHeader)); err == nil && ok {
			id, _, _ := strings.Cut(string(rest), "\n")
			ids = append(ids, id)
		}
	}
	return ids
}

// printIndexed works beside a running server: it takes no lock.
func printIndexed(l layout) error {
	files, err := filepath.Glob(filepath.Join(l.index, "store", "*.zap"))
	if err != nil {
		return err
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	x := &index{dir: l.index}
	for _, id := range x.spaces(files) {
		fmt.Println(id)
	}
	return nil
}
