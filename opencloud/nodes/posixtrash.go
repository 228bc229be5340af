package nodes

import (
	"errors"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// Names in the trash: reva, pkg/storage/fs/posix/trashbin.
const (
	itemSuffix = ".trashitem"
	infoSuffix = ".trashinfo"
)

// deleted is an item of the trash: a file, or a folder with all that is in it.
type deleted struct {
	Entry        // in .Trash/files; without a name: there is none
	key   string // of the trash item
	path  string // where it was
	date  time.Time
	wrong troubles
}

// readTrash reads the trash. An item's nodes come by where they were; those of items that
// were in the same place, one after the other or one in the other, are merged.
func (s *posixSpace) readTrash(wrong *troubles) error {
	items, err := s.listTrash(wrong)
	if err != nil {
		return err
	}
	batches := s.batchTrash(items)
	var open streams
	defer open.stop()
	for i := range items {
		b := batches[i/batchSize]
		if i%batchSize == 0 {
			if err := s.ahead.need(b.job); err != nil {
				return err
			}
		}
		it := &b.items[i%batchSize]
		if err := open.before(&it.node, s.addNode); err != nil {
			return err
		}
		if len(open) > 0 || i+1 < len(items) && below(items[i+1].path, items[i].path) {
			open.add(func(emit func(*posixItem) error) error { return s.walkItem(it, emit) })
		} else if err := s.walkItem(it, s.addNode); err != nil {
			return err
		}
		if i%batchSize == len(b.items)-1 {
			s.ahead.walked(len(b.items))
			batches[i/batchSize] = nil
		}
	}
	return open.before(nil, s.addNode)
}

// below tells whether a path is another, or in it.
func below(p, dir string) bool {
	rest, ok := strings.CutPrefix(p, dir)
	return ok && (rest == "" || rest[0] == '/')
}

// batchTrash has items read, in their order.
func (s *posixSpace) batchTrash(items []deleted) (batches []*batch) {
	for part := range slices.Chunk(items, batchSize) {
		b := &batch{items: make([]posixItem, len(part))}
		for i, d := range part {
			b.items[i] = posixItem{Entry: d.Entry, wrong: d.wrong, node: catalog.Node{
				Kind: catalog.KindFile, Space: s.root.ID, Path: d.path, Trash: d.key, Deleted: d.date, Item: true,
			}}
		}
		b.job = newJob(s.root.Dir+"/\xff"+part[0].path, func() int {
			for i := range b.items {
				it := &b.items[i]
				if it.Name == "" || s.ctx.Err() != nil {
					continue
				}
				f := &posixFolder{trash: trash{key: it.node.Trash, deleted: it.node.Deleted}}
				s.readItem(f, it, path.Join(s.root.Dir, posixTrash, "files", it.Name), it.node.Path)
			}
			return len(b.items)
		})
		s.ahead.submit(b.job)
		batches = append(batches, b)
	}
	return batches
}

// listTrash lists the items of the trash, by where they were.
func (s *posixSpace) listTrash(wrong *troubles) ([]deleted, error) {
	dir := path.Join(s.root.Dir, posixTrash)
	files, err := s.Tree.List(s.ctx, path.Join(dir, "files"))
	if err != nil && !gone(err) {
		wrong.add(unreadable, true, "the trash can't be listed: %v", cause(err))
	}
	infos, err := s.Tree.List(s.ctx, path.Join(dir, "info"))
	if err != nil && !gone(err) {
		wrong.add(unreadable, len(files) > 0, "what is known of the trash can't be listed: %v", cause(err))
	}
	written := make(map[string]time.Time, len(infos))
	for _, e := range infos {
		if key, ok := strings.CutSuffix(e.Name, infoSuffix); ok {
			written[key] = e.MTime
		}
	}
	var items []deleted
	for _, e := range files {
		if posixLock(e.Name) {
			continue
		}
		d := deleted{Entry: e}
		ok := false
		if d.key, ok = strings.CutSuffix(e.Name, itemSuffix); !ok {
			d.path = "/" + e.Name
			d.wrong.add(broken, false, "lies in the trash, but OpenCloud did not put it there")
		}
		items = append(items, d)
	}
	for _, e := range infos {
		key, ok := strings.CutSuffix(e.Name, infoSuffix)
		if _, found := slices.BinarySearchFunc(files, key+itemSuffix, func(e Entry, name string) int { return strings.Compare(e.Name, name) }); ok && !found {
			items = append(items, deleted{key: key})
		}
	}
	if err := s.readInfos(dir, items, written); err != nil {
		return nil, err
	}
	slices.SortFunc(items, func(a, b deleted) int {
		if c := catalog.ComparePaths(a.path, b.path); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	return items, nil
}

// readInfos reads where items were and when they were deleted. An item without that is
// kept under its key: OpenCloud does not list it.
func (s *posixSpace) readInfos(dir string, items []deleted, written map[string]time.Time) error {
	var jobs []*job
	for part := range slices.Chunk(items, batchSize) {
		jobs = append(jobs, newJob(s.root.Dir+"/\xfe", func() int {
			for i := range part {
				if d := &part[i]; d.path == "" {
					s.readInfo(path.Join(dir, "info", d.key+infoSuffix), d, written[d.key])
				}
			}
			return 0
		}))
	}
	s.ahead.submit(jobs...)
	for _, j := range jobs {
		if err := s.ahead.need(j); err != nil {
			return err
		}
	}
	return nil
}

func (s *posixSpace) readInfo(file string, d *deleted, written time.Time) {
	const most = 64 << 10 // of a path, which is at most 4096 bytes long, and a date
	b, err := s.Tree.Read(s.ctx, file, most)
	var date string
	if err == nil {
		d.path, date = parseTrashInfo(b)
		if d.path == "" {
			err = errors.New("does not tell where it was")
		}
	}
	lost := d.Name != ""
	if err == nil && date != "" {
		d.date, err = trashDate(date, written)
	}
	switch {
	case err != nil:
		d.wrong.add(broken, lost, "%s: %v: OpenCloud does not list it in the trash", file, cause(err))
	case date == "":
		d.wrong.add(broken, false, "%s does not tell when it was deleted", file)
	}
	if !lost {
		d.wrong.add(broken, false, "of what was deleted nothing is left but %s", file)
	}
	if d.path == "" {
		d.path = "/" + d.key
	}
}

// parseTrashInfo reads what OpenCloud writes:
//
//	[Trash Info]
//	Path=<path in the space>
//	DeletionDate=<time>
//
// The path is as it was, without any escapes: a line break in it is one. In any other
// order a line is a line. The path begins with "/"; empty: there is none that could be.
func parseTrashInfo(b []byte) (p, date string) {
	const path, deletion = "Path=", "DeletionDate="
	text := string(b)
	if rest, ok := strings.CutPrefix(text, "[Trash Info]\n"+path); ok && strings.Contains(rest, "\n"+deletion) {
		i := strings.LastIndex(rest, "\n"+deletion)
		p, date = rest[:i], rest[i+1+len(deletion):]
		date, _, _ = strings.Cut(date, "\n")
	} else {
		for line := range strings.SplitSeq(text, "\n") {
			if v, ok := strings.CutPrefix(line, deletion); ok {
				date = v
			}
			if v, ok := strings.CutPrefix(line, path); ok {
				p = v
			}
		}
	}
	p = strings.Trim(p, "/")
	if !validPath(p) {
		p = ""
	}
	return cond(p != "", "/"+p, ""), strings.TrimSpace(date)
}

// validPath tells whether all elements of a path may be names on a disk. They may be no
// UTF-8, which fs.ValidPath refuses.
func validPath(p string) bool {
	for step := range strings.SplitSeq(p, "/") {
		if step == "" || step == "." || step == ".." || strings.ContainsRune(step, 0) {
			return false
		}
	}
	return true
}

// trashDate reads a time that is in a zone which it does not tell: that of the server. The
// file was written then, so that its own time tells the zone; where that is no zone there
// is, the file was written anew, and the server's zone is taken for UTC, as in containers.
func trashDate(date string, written time.Time) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05", date)
	if err != nil {
		return time.Time{}, errors.New("malformed date of the deletion")
	}
	const quarter, slack = 15 * time.Minute, 2 * time.Second
	ahead := t.Sub(written).Round(quarter)
	if ahead.Abs() > 14*time.Hour || (t.Sub(written)-ahead).Abs() > slack {
		return t, nil
	}
	return t.Add(-ahead), nil
}

// streams are the nodes of items of the trash that are being merged.
type streams []*stream

type stream struct {
	next func() (*posixItem, bool)
	stop func()
	head *posixItem
	err  error
}

var errStopped = errors.New("stopped")

// add begins with another item.
func (ss *streams) add(walk func(emit func(*posixItem) error) error) {
	st := &stream{}
	st.next, st.stop = iter.Pull(func(yield func(*posixItem) bool) {
		st.err = walk(func(it *posixItem) error {
			if !yield(it) {
				return errStopped
			}
			return nil
		})
	})
	*ss = append(*ss, st)
}

// before gives all nodes that come before one; nil: all.
func (ss *streams) before(n *catalog.Node, emit func(*posixItem) error) error {
	for {
		var first *stream
		for i := 0; i < len(*ss); i++ {
			st := (*ss)[i]
			if st.head == nil {
				var ok bool
				if st.head, ok = st.next(); !ok {
					if st.err != nil {
						return st.err
					}
					*ss = slices.Delete(*ss, i, i+1)
					i--
					continue
				}
			}
			if first == nil || catalog.Compare(&st.head.node, &first.head.node) < 0 {
				first = st
			}
		}
		if first == nil || n != nil && catalog.Compare(n, &first.head.node) < 0 {
			return nil
		}
		if err := emit(first.head); err != nil {
			return err
		}
		first.head = nil
	}
}

func (ss *streams) stop() {
	for _, st := range *ss {
		st.stop()
	}
}
