package s3mirror

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// known writes what is known of a space: by the segment of a pass that did not end,
// else by the index, else by the last inventory.
func (r *reconciliation) known(space, file string) error {
	segment := r.before.file("index", space)
	if err := mend(segment); err != nil {
		return err
	}
	in, err := os.Open(segment)
	var also io.Reader = strings.NewReader("")
	if err == nil {
		defer in.Close() //nolint:errcheck // it was only read
		also = in
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := merge(newReader(also, segment), r.ix.space(space), file+".1"); err != nil {
		return err
	}
	both, err := os.Open(file + ".1")
	if err != nil {
		return err
	}
	defer both.Close() //nolint:errcheck // it was only read
	if err := merge(newReader(both, file), r.inventory.space(space), file); err != nil {
		return err
	}
	return os.Remove(file + ".1")
}

// merge writes the objects of both readers to a file; of a key that both have, first's.
func merge(first, second *reader, file string) error {
	return writeObjects(file, func(write func(*Object) error) error {
		return join(first, second, func(a, b *Object) error {
			if a == nil {
				a = b
			}
			return write(a)
		})
	})
}

// mend cuts a segment off where it is no longer what a recorder writes: at what a
// process that was killed, or a machine that lost power, has half written.
func mend(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	whole, last := int64(0), ""
	for br := bufio.NewReaderSize(f, 64<<10); ; {
		line, err := br.ReadBytes('\n')
		var o Object
		if err != nil || json.Unmarshal(line, &o) != nil || o.Key == "" || o.Size < 0 || compare(last, o.Key) >= 0 {
			return errors.Join(f.Truncate(whole), f.Close())
		}
		whole, last = whole+int64(len(line)), o.Key
	}
}

// spaces are those that there are segments of, by the first object of each.
func (s segments) spaces(kind string) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(s.dir, kind+"-*"))
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		if r := newReader(f, file); r.next() {
			names = append(names, spaceOf(r.at.Key))
		}
		_ = f.Close()
	}
	return names, err
}
