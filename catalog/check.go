package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Check reads the whole file and holds it against what its manifest says of it: size,
// digest and counts, also those of each space, and the order of all lines.
func (f *File) Check(want Summary) error {
	sha := sha256.New()
	got := Summary{Format: Format, Size: uint64(f.size)}
	if err := f.recount(&got, sha); err != nil {
		return err
	}
	got.Digest = hex.EncodeToString(sha.Sum(nil))
	if got == want {
		return nil
	}
	switch {
	case want.Format != Format:
		return fmt.Errorf("the catalog %s is of format %d, the manifest says %d", f.path, Format, want.Format)
	case got.Size != want.Size:
		return fmt.Errorf("the catalog %s is damaged: it has %d bytes, the manifest says %d", f.path, got.Size, want.Size)
	case got.Digest != want.Digest:
		return fmt.Errorf("the catalog %s is damaged: its SHA-256 is %s, the manifest says %s", f.path, got.Digest, want.Digest)
	}
	return fmt.Errorf("the catalog %s has %d nodes in %d spaces (%+v), the manifest says %d in %d (%+v)",
		f.path, got.Nodes(), got.Spaces, got.Counts, want.Nodes(), want.Spaces, want.Counts)
}

// recount counts all that is in the file. What is read goes to tee, too.
func (f *File) recount(sum *Summary, tee hash.Hash) error {
	var space *Space
	var counted Counts
	end := func() error {
		if space != nil {
			if counted != space.Counts {
				return fmt.Errorf("the catalog %s is damaged: space %s has %+v, its line says %+v", f.path, space.ID, counted, space.Counts)
			}
			sum.addSpace(space)
		}
		return nil
	}
	var wrong error
	r := f.read(0, nil)
	r.tee = tee
	if _, _, err := r.cursor.next(); err != nil { // the header, which Open has read
		return err
	}
	r.onSpace = func(s *Space) {
		wrong = errors.Join(wrong, end())
		space, counted = s, Counts{}
	}
	for {
		n, err := r.next()
		if errors.Is(err, io.EOF) {
			return errors.Join(wrong, end())
		}
		if err = errors.Join(wrong, err); err != nil {
			return err
		}
		counted.add(n)
	}
}
