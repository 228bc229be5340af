package index

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Versions of the zap segment format that are known here. OpenCloud 0.1 to 7.x
// write 16 (bleve 2.4, 2.5), bleve 2.6 writes 17; 11 to 15 can still be read by them.
const (
	oldestSegment   = 11
	sectionsSegment = 16 // first with a sections index
	newestSegment   = 17
)

// segmentFooter is the end of a segment file: github.com/blevesearch/zapx,
// v11 to v17, write.go, persistFooter. All numbers are big-endian.
type segmentFooter struct {
	docs     uint64
	stored   uint64 // offset of the stored-fields index: 8 bytes per document
	sections uint64 // offset of the sections index (of the fields index before version 16)
	version  uint32
	crc      uint32 // CRC-32 (IEEE) of all that lies before it
	size     int64
}

// checkSegment opens a segment file the way the server does (zapx segment.go,
// Open): footer, then the list of fields. It returns how many documents it
// holds. With deep set all of the file is read and its checksum compared.
func checkSegment(ctx context.Context, path string, version uint32, deep bool) (docs uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("is no file")
	}
	foot, err := readFooter(f, info.Size(), version)
	if err != nil {
		return 0, err
	}
	body := info.Size() - foot.size
	if err := foot.checkFields(f, body); err != nil {
		return 0, err
	}
	if deep {
		if err := foot.checkSum(ctx, f, info.Size()); err != nil {
			return 0, err
		}
	}
	return foot.docs, nil
}

func readFooter(f io.ReaderAt, size int64, version uint32) (*segmentFooter, error) {
	be := binary.BigEndian
	tail := make([]byte, 12) // chunk mode 4, version 4, CRC 4
	if size < int64(len(tail)) {
		return nil, fmt.Errorf("is cut off: %d bytes", size)
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	foot := &segmentFooter{version: be.Uint32(tail[4:]), crc: be.Uint32(tail[8:])}
	// A version 16 server reads older segments, too, and keeps them until they are merged.
	if foot.version != version && (version != sectionsSegment || foot.version < oldestSegment || foot.version > version) {
		return nil, fmt.Errorf("ends in version %d, not %d: cut off or overwritten", foot.version, version)
	}
	// What precedes the tail, by version:
	//   11 to 15: docs, stored, fields, doc values
	//   16:       docs, stored, fields, sections, doc values
	//   17:       writer id, its length (4 bytes), docs, stored, sections
	var numbers, sectionsAt int
	switch {
	case foot.version < sectionsSegment:
		numbers, sectionsAt = 4, 2
	case foot.version == sectionsSegment:
		numbers, sectionsAt = 5, 3
	default:
		numbers, sectionsAt = 3, 2
	}
	foot.size = int64(len(tail) + 8*numbers)
	idLength := 0
	if foot.version > sectionsSegment {
		idLength = 4
	}
	if size < foot.size+int64(idLength) {
		return nil, fmt.Errorf("is cut off: %d bytes", size)
	}
	head := make([]byte, idLength+8*numbers)
	if _, err := f.ReadAt(head, size-foot.size-int64(idLength)); err != nil {
		return nil, err
	}
	if idLength > 0 {
		foot.size += int64(idLength) + int64(be.Uint32(head))
		head = head[idLength:]
	}
	foot.docs, foot.stored, foot.sections = be.Uint64(head), be.Uint64(head[8:]), be.Uint64(head[8*sectionsAt:])
	body := size - foot.size
	if body < 0 || foot.stored > uint64(body) || foot.sections > uint64(body) || foot.docs > (uint64(body)-foot.stored)/8 {
		return nil, errors.New("has an impossible footer")
	}
	return foot, nil
}

// checkFields checks that all fields lie in the file. Where they don't, the
// server panics.
func (foot *segmentFooter) checkFields(f io.ReaderAt, body int64) error {
	be := binary.BigEndian
	at := int64(foot.sections) //nolint:gosec // not beyond body
	r := bufio.NewReader(io.NewSectionReader(f, at, body-at))
	n := uint64(body-at) / 8
	if foot.version >= sectionsSegment {
		if foot.sections == 0 {
			return errors.New("has no list of fields")
		}
		var err error
		if n, err = binary.ReadUvarint(r); err != nil || n > uint64(body-at)/8 {
			return errors.New("has a damaged list of fields")
		}
	}
	address := make([]byte, 8)
	for range n {
		if _, err := io.ReadFull(r, address); err != nil {
			return errors.New("has a damaged list of fields")
		}
		if a := be.Uint64(address); a >= uint64(body) {
			return errors.New("names a field beyond its end")
		}
	}
	return nil
}

func (foot *segmentFooter) checkSum(ctx context.Context, f io.ReaderAt, size int64) error {
	sum := crc32.NewIEEE()
	r := io.NewSectionReader(f, 0, size-4)
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if sum.Sum32() != foot.crc {
		return errors.New("has a wrong checksum")
	}
	return nil
}
