package census

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// magic begins a file of known inodes; another layout gets another one.
const magic = "ocbackup census 1\n"

// record is how one inode is written: five 64-bit words and a 32-bit one, big-endian.
const record = 5*8 + 4

// errCache says that a file is none that Save wrote, or that it is damaged.
var errCache = errors.New("no file of known inodes, or a damaged one")

// Save writes what is known to a file, for a later Load: a header, the inodes, and
// the SHA-256 of both.
func (k *Known) Save(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".census-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it has been renamed when all went well
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(tmp, sum))
	_, err = w.WriteString(magic)
	buf := make([]byte, 0, record)
	for _, n := range k.inodes {
		buf = binary.BigEndian.AppendUint64(buf[:0], n.ino)
		buf = binary.BigEndian.AppendUint64(buf, n.dev)
		buf = binary.BigEndian.AppendUint64(buf, uint64(n.ctime))
		buf = binary.BigEndian.AppendUint64(buf, n.hash.hi)
		buf = binary.BigEndian.AppendUint64(buf, n.hash.lo)
		buf = binary.BigEndian.AppendUint32(buf, n.xattrs)
		if err == nil {
			_, err = w.Write(buf)
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = tmp.Write(sum.Sum(nil))
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Load reads what Save wrote. A file that is damaged is an error; a caller does
// without what it held.
func Load(path string) (*Known, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	body := len(data) - sha256.Size
	if body < len(magic) || !bytes.HasPrefix(data, []byte(magic)) || (body-len(magic))%record != 0 {
		return nil, fmt.Errorf("%s: %w", path, errCache)
	}
	if sum := sha256.Sum256(data[:body]); !bytes.Equal(sum[:], data[body:]) {
		return nil, fmt.Errorf("%s: %w", path, errCache)
	}
	data = data[len(magic):body]
	k := &Known{inodes: make([]inode, 0, len(data)/record)}
	for b := range slices.Chunk(data, record) {
		k.inodes = append(k.inodes, inode{
			ino: binary.BigEndian.Uint64(b), dev: binary.BigEndian.Uint64(b[8:]), ctime: int64(binary.BigEndian.Uint64(b[16:])),
			hash:   digest{hi: binary.BigEndian.Uint64(b[24:]), lo: binary.BigEndian.Uint64(b[32:])},
			xattrs: binary.BigEndian.Uint32(b[40:]),
		})
	}
	return k, nil
}
