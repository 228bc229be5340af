package s3mirror

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// joinedFile is the inventory of a moment at which the bucket was not listed.
const joinedFile = "joined.jsonl"

// Keep gives an inventory a file of its own: the next copy writes another in its place.
func (m *Mirror) Keep(inv Inventory) (Inventory, error) {
	kept := inv
	kept.Path = inv.Path + ".before"
	if err := os.Rename(inv.Path, kept.Path); err != nil {
		return inv, ownFailure(err)
	}
	return kept, nil
}

// Join makes the inventory of a moment at which the bucket was not listed, of those from
// before and from after it. Of what came between them it takes what the moment needs; of
// what is gone in between likewise: the pool has it. Both files stay as they are.
func (m *Mirror) Join(before, after Inventory, needs func(key string) bool) (Inventory, error) {
	return joinTo(filepath.Join(m.ix.dir, joinedFile), before.Path, after.Path, needs)
}

// joinTo joins inventories in a file that may be one of them.
func joinTo(to, before, after string, needs func(key string) bool) (Inventory, error) {
	made := to + ".new"
	inv, err := joinInventories(before, after, made, needs)
	if err == nil {
		err = os.Rename(made, to)
	}
	if err != nil {
		return Inventory{}, ownFailure(err)
	}
	inv.Path = to
	return inv, nil
}

func joinInventories(before, after, to string, needs func(key string) bool) (inv Inventory, err error) {
	was, err := os.Open(before)
	if err != nil {
		return inv, err
	}
	defer was.Close() //nolint:errcheck // it is only read
	is, err := os.Open(after)
	if err != nil {
		return inv, err
	}
	defer is.Close() //nolint:errcheck // it is only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return inv, err
	}
	inv.Path = to
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(out, sum), 64<<10)
	var line []byte
	err = join(newReader(was, before), newReader(is, after), func(was, is *Object) (err error) {
		o := is
		if o == nil {
			o = was
		}
		if needed := needs(o.Key); !needed && (was == nil || is == nil) {
			return nil
		}
		inv.Objects++
		inv.Bytes += uint64(o.Size)
		if line, err = encode(line[:0], o); err == nil {
			_, err = w.Write(line)
		}
		return err
	})
	err = errors.Join(err, w.Flush(), out.Sync(), out.Close())
	inv.Digest = hex.EncodeToString(sum.Sum(nil))
	return inv, err
}
