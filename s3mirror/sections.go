package s3mirror

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// sections is a sorted file of objects that is read space by space.
type sections struct {
	file    *os.File // nil: empty
	parts   map[string]part
	objects int64
	digest  string // SHA-256 of the file, in hex
}

// part is where the objects of a space are in the file.
type part struct{ offset, size int64 }

// openSections opens a file of objects and finds the part of each space.
func openSections(path string) (*sections, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, sum := &sections{file: f}, sha256.New()
	if s.parts, s.objects, err = partsOf(io.TeeReader(f, sum)); err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.digest = hex.EncodeToString(sum.Sum(nil))
	return s, nil
}

// fetch copies an inventory to a file and opens it. Without one it is empty; so is a
// damaged one, as what it tells can be had from the objects.
func fetch(ctx context.Context, last LastInventory, path string, log func(string)) (*sections, error) {
	if last == nil {
		return &sections{}, nil
	}
	in, err := last(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the last inventory: %w", err)
	}
	if in == nil {
		return &sections{}, nil
	}
	out, err := os.Create(path)
	if err != nil {
		return nil, ownFailure(errors.Join(err, in.Close()))
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, in.Close(), out.Close()); err != nil {
		return nil, fmt.Errorf("read the last inventory: %w", err)
	}
	s, err := openSections(path)
	if err != nil {
		log(fmt.Sprintf("the last inventory can't be used, so that objects are read again: %v", err))
		return &sections{}, nil
	}
	return s, nil
}

// space reads the objects of a space.
func (s *sections) space(name string) *reader {
	p := s.parts[name]
	if s.file == nil || p.size == 0 {
		return newReader(bytes.NewReader(nil), name)
	}
	return newReader(io.NewSectionReader(s.file, p.offset, p.size), s.file.Name())
}

func (s *sections) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
	*s = sections{}
}

// partsOf finds the part of each space in a sorted file of objects.
func partsOf(r io.Reader) (parts map[string]part, objects int64, err error) {
	parts = map[string]part{}
	br := bufio.NewReaderSize(r, 1<<20)
	last, begin, offset := "", int64(0), int64(0)
	end := func() {
		if offset > begin {
			parts[last] = part{begin, offset - begin}
		}
	}
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			end()
			return parts, objects, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("it is cut off: %w", err)
		}
		space, err := spaceOfLine(line)
		if err != nil {
			return nil, 0, err
		}
		if space != last {
			end()
			last, begin = space, offset
		}
		offset += int64(len(line))
		objects++
	}
}

// spaceOfLine is the space of an object's line, which nearly always stands at its
// beginning as it is.
func spaceOfLine(line []byte) (string, error) {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"key":"`)); ok {
		if i := bytes.IndexAny(rest, `/"\`); i > 0 && rest[i] == '/' {
			return string(rest[:i]), nil
		}
	}
	var o Object
	if err := json.Unmarshal(line, &o); err != nil {
		return "", fmt.Errorf("it holds a line that is no object: %w", err)
	}
	return spaceOf(o.Key), nil
}
