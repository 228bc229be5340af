package nodes

import (
	"path"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// posixFolder is a directory of a walk: the root of a space, or something below it or in its
// trash.
type posixFolder struct {
	dir string // below the users root
	rel string // in the space, as users see it, or saw it before it was deleted; "" is the root
	id  string // of its node
	top bool   // the root of the space
	trash

	job     *job // lists it, and reads the first batch
	err     error
	batches []*batch
}

// trash is what all have in common that were deleted at once.
type trash struct {
	key     string
	deleted time.Time
}

// batch is a stretch of a directory whose nodes are read at a time.
type batch struct {
	job   *job // nil: read with the listing
	items []posixItem
}

// batchSize is large enough for jobs to be few, small enough for a directory to be read by
// all workers.
const batchSize = 64

// posixItem is a thing in a directory.
type posixItem struct {
	Entry
	node     catalog.Node
	versions []catalog.Node
	wrong    troubles
	lostID   bool         // it has attributes, but no id
	parent   string       // the id it takes for its parent's
	stray    bool         // which is not that of the folder it lies in
	sub      *posixFolder // of a folder
}

// list queues the listing of a folder.
func (s *posixSpace) list(f *posixFolder) {
	f.job = newJob(f.at(), func() int {
		entries, err := s.Tree.List(s.ctx, f.dir)
		if err != nil {
			f.err = err
			return 0
		}
		var items []posixItem
		for _, e := range entries {
			if posixLock(e.Name) || f.top && posixInternal(e.Name) {
				continue
			}
			items = append(items, posixItem{Entry: e})
		}
		f.split(s, items)
		return len(items)
	})
	s.ahead.submit(f.job)
}

// at is where a folder comes in the order of walks: live ones by their directories, what is
// in the trash after them.
func (f *posixFolder) at() string {
	if f.key == "" {
		return f.dir
	}
	return f.dir[:max(0, len(f.dir)-len(f.rel))] + "/\xff" + f.rel
}

// split makes batches of a folder's items: the first is read at once.
func (f *posixFolder) split(s *posixSpace, items []posixItem) {
	for start := 0; start < len(items); start += batchSize {
		b := &batch{items: items[start:min(start+batchSize, len(items))]}
		f.batches = append(f.batches, b)
		if start == 0 {
			s.readBatch(f, b)
			continue
		}
		b.job = newJob(f.at()+"/"+b.items[0].Name, func() int {
			s.readBatch(f, b)
			return 0
		})
		s.ahead.submit(b.job)
	}
}

// readBatch reads nodes, and has the folders among them listed.
func (s *posixSpace) readBatch(f *posixFolder, b *batch) {
	for i := range b.items {
		it := &b.items[i]
		if s.ctx.Err() != nil {
			return
		}
		s.readItem(f, it, path.Join(f.dir, it.Name), f.rel+"/"+it.Name)
	}
}

// walk goes through a folder and all in it, in the order of the catalog.
func (s *posixSpace) walk(f *posixFolder, emit func(*posixItem) error) error {
	if err := s.ahead.need(f.job); err != nil {
		return err
	}
	for i, b := range f.batches {
		if b.job != nil {
			if err := s.ahead.need(b.job); err != nil {
				return err
			}
		}
		for i := range b.items {
			if err := s.walkItem(&b.items[i], emit); err != nil {
				return err
			}
		}
		s.ahead.walked(len(b.items))
		f.batches[i] = nil
	}
	return nil
}

// walkItem goes through an item and, of a folder, all in it.
func (s *posixSpace) walkItem(it *posixItem, emit func(*posixItem) error) error {
	sub := it.sub
	if sub == nil {
		return emit(it)
	}
	if err := s.ahead.need(sub.job); err != nil {
		return err
	}
	if sub.err != nil {
		it.wrong.add(unreadable, true, "the folder can't be listed: %v", cause(sub.err))
	}
	if err := emit(it); err != nil {
		return err
	}
	it.sub = nil
	return s.walk(sub, emit)
}
