package s3mirror

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// unindex takes what is about to be deleted out of the index, and out of what a pass
// that did not end has left, before anything is: the index never claims what is not
// there. An object that is not deleted after all is copied again, or adopted by the
// next reconcile.
func (x *expiry) unindex() error {
	ix, _, err := openIndex(x.pool.StateDir, x.id)
	if err != nil {
		return err
	}
	defer ix.close()
	u := &unindexing{held: x.held, apart: map[string]bool{}}
	if err := u.prepare(x); err != nil {
		return err
	}
	defer u.due.close()
	for _, dir := range []string{ix.work(), ix.before()} {
		parts, err := filepath.Glob(filepath.Join(dir, "index-*"))
		if err != nil {
			return err
		}
		for _, path := range parts {
			if err := u.segment(path); err != nil {
				return err
			}
		}
	}
	if ix.file == nil {
		return nil // it is made anew from the listing
	}
	work := segments{x.files.file("unindexed")}
	if err := os.Mkdir(work.dir, 0o700); err != nil {
		return err
	}
	spaces := slices.Sorted(maps.Keys(ix.parts))
	for _, space := range spaces {
		if err := u.rewrite(ix.space(space), work.file("index", space)); err != nil {
			return err
		}
	}
	return ix.replace(work, spaces, ix.state)
}

// unindexing is an unindex under way.
type unindexing struct {
	held  *holdings
	due   *sections       // objects under blobs/
	apart map[string]bool // paths elsewhere: few
}

// prepare divides what is due by where it lies.
func (u *unindexing) prepare(x *expiry) error {
	next, done, err := savedEntries{path: x.path(journalFile)}.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	path := x.files.file("due-blobs")
	out, err := createRecords(path)
	if err != nil {
		return err
	}
	for range x.due.objects {
		e, err := next()
		if err != nil {
			return errors.Join(err, out.close())
		}
		if key := keyOf(e.Path); key == e.Path {
			u.apart[e.Path] = true
		} else if err := out.add(&Object{Key: key, Size: e.Size}); err != nil {
			return errors.Join(err, out.close())
		}
	}
	if err := out.close(); err != nil {
		return err
	}
	u.due, err = openSections(path)
	return err
}

// segment rewrites a segment of a pass that did not end.
func (u *unindexing) segment(path string) error {
	if err := mend(path); err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	if err := u.rewrite(newReader(in, path), path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// rewrite writes the records of a reader to a file, without what is due.
func (u *unindexing) rewrite(in *reader, path string) error {
	return writeObjects(path, func(write func(*Object) error) error { return u.filter(in, write) })
}

func (u *unindexing) filter(in *reader, write func(*Object) error) error {
	var due *reader
	space, more := "", false
	for in.next() {
		o := in.at
		if s := spaceOf(o.Key); due == nil || s != space {
			space, due = s, u.due.space(s)
			more = due.next()
		}
		for more && compare(due.at.Key, o.Key) < 0 {
			more = due.next()
		}
		if err := due.failed(); err != nil {
			return err
		}
		blob := more && due.at.Key == o.Key
		switch {
		case o.At == "" && blob:
			continue
		case u.apart[o.At]:
			// What was there first is the newest again, where it stays: the next copy must not
			// overwrite it.
			first := Object{Key: o.Key, At: place(o.Key)}
			there, err := u.held.find(first.Path())
			if err != nil {
				return err
			}
			if there == nil || blob || u.apart[first.At] {
				continue
			}
			first.Size = there.Size
			o = &first
		}
		if err := write(o); err != nil {
			return err
		}
	}
	return in.failed()
}
