package nodes

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
)

// maxMetadata is how large a file of metadata may be: a node's name, its checksums and
// its grants. 4 MiB are some ten thousand grants.
const maxMetadata = 4 << 20

// decodeMetadata reads a file of metadata: a MessagePack map of names and bytes
// (reva, metadata/messagepack_backend.go and hybrid_backend.go). What comes after the map
// does not count, as it does not for OpenCloud.
func decodeMetadata(b []byte) (map[string][]byte, error) {
	r := bytes.NewReader(b)
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(r)
	n, err := dec.DecodeMapLen()
	if err != nil {
		return nil, malformed(err)
	}
	// A pair takes two bytes at the least: a length that lies reserves nothing.
	if n > r.Len()/2 {
		return nil, malformed(fmt.Errorf("a map of %d in %d bytes", n, len(b)))
	}
	attrs := make(map[string][]byte, max(n, 0))
	for range n {
		key, err := decodeBytes(dec, r)
		if err != nil {
			return nil, malformed(err)
		}
		if attrs[string(key)], err = decodeBytes(dec, r); err != nil {
			return nil, malformed(err)
		}
	}
	return attrs, nil
}

// decodeBytes reads bytes or a string. The decoder's own functions reserve what a length
// says before they look whether there is as much.
func decodeBytes(dec *msgpack.Decoder, r *bytes.Reader) ([]byte, error) {
	n, err := dec.DecodeBytesLen()
	if err != nil || n < 0 {
		return nil, err
	}
	if n > r.Len() {
		return nil, fmt.Errorf("%d bytes where %d are left", n, r.Len())
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

func malformed(err error) error {
	if len(err.Error()) > 200 {
		err = errors.New(err.Error()[:200])
	}
	return fmt.Errorf("malformed metadata: %w", err)
}
