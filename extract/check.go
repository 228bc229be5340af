package extract

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/adler32"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// sum is the best hash that the metadata has of a content.
type sum struct {
	name string // sha1, md5, adler32; "" for none
	hex  string
}

func sumOf(n *catalog.Node) sum {
	for _, s := range []sum{{"sha1", n.SHA1}, {"md5", n.MD5}, {"adler32", n.Adler32}} {
		if s.hex != "" {
			return sum{s.name, strings.Clone(strings.ToLower(s.hex))}
		}
	}
	return sum{}
}

// sums are hashes of a content on its way.
type sums struct {
	size int64
	of   map[string]hash.Hash
}

func newSums(items []*item) *sums {
	s := &sums{of: map[string]hash.Hash{}}
	for _, it := range items {
		if s.of[it.sum.name] != nil {
			continue
		}
		switch it.sum.name {
		case "sha1":
			s.of["sha1"] = sha1.New()
		case "md5":
			s.of["md5"] = md5.New()
		case "adler32":
			s.of["adler32"] = adler32.New()
		}
	}
	return s
}

func (s *sums) write(b []byte) {
	s.size += int64(len(b))
	for _, h := range s.of {
		_, _ = h.Write(b) // a hash takes everything
	}
}

// judge holds the content against what the metadata says of an item. checked tells that
// a hash was compared.
func (s *sums) judge(it *item) (checked bool, f *fault) {
	if it.loose {
		return false, nil
	}
	if s.size != it.size {
		return false, &fault{SizeMismatch, fmt.Sprintf("the set has %d bytes of it, the metadata says %d", s.size, it.size)}
	}
	if it.size == 0 {
		return true, nil // its size says it all
	}
	h := s.of[it.sum.name]
	if h == nil {
		return false, nil
	}
	if is := hex.EncodeToString(h.Sum(nil)); is != it.sum.hex {
		return true, &fault{HashMismatch, fmt.Sprintf("the set has other content: its %s is %s, the metadata says %s", strings.ToUpper(it.sum.name), is, it.sum.hex)}
	}
	return true, nil
}
