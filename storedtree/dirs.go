package storedtree

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/ocbackup/ocbackup/repo"
)

// dirCache keeps the directories that were used last, up to keepEntries entries of them.
type dirCache struct {
	mu      sync.Mutex
	byPath  map[string]*list.Element
	lru     *list.List // of *cachedDir, the one used last first
	entries int
}

type cachedDir struct {
	path string
	l    []entry
}

// keepEntries is some 20 MiB.
const keepEntries = 100_000

func newDirCache() dirCache {
	return dirCache{byPath: map[string]*list.Element{}, lru: list.New()}
}

func (c *dirCache) get(dir string) ([]entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byPath[dir]
	if !ok {
		return nil, false
	}
	c.lru.MoveToFront(e)
	return e.Value.(*cachedDir).l, true
}

func (c *dirCache) put(dir string, l []entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byPath[dir]; ok {
		return
	}
	c.byPath[dir] = c.lru.PushFront(&cachedDir{dir, l})
	c.entries += len(l) + 1
	for c.entries > keepEntries && c.lru.Len() > 1 {
		d := c.lru.Remove(c.lru.Back()).(*cachedDir)
		delete(c.byPath, d.path)
		c.entries -= len(d.l) + 1
	}
}

// root is the root of the tree: what the snapshots have by the name of their entry.
func (t *Tree) root() (*entry, error) {
	var root *entry
	for i := range t.layers {
		l, _, err := t.spool.dir(place{i, t.layers[i].top})
		if err != nil {
			return nil, err
		}
		k := slices.IndexFunc(l, func(e entry) bool { return e.name == t.layers[i].Entry })
		switch {
		case k < 0:
			return nil, fmt.Errorf("%w in snapshot %s, as %s", fs.ErrNotExist, t.layers[i].Snapshot, t.layers[i].Entry)
		case root == nil:
			root = &l[k]
		default:
			root.kids = append(root.kids, l[k].kids...)
		}
	}
	if root == nil {
		return nil, fs.ErrNotExist
	}
	return root, nil
}

// entries lists a directory, in the order of names. Nobody may change what it gives.
func (t *Tree) entries(ctx context.Context, dir string) ([]entry, error) {
	if l, ok := t.dirs.get(dir); ok {
		return l, nil
	}
	d, err := t.find(ctx, dir)
	switch {
	case err != nil:
		return nil, err
	case !d.mode.IsDir():
		return nil, errNotDir
	}
	var l []entry
	for i, k := range d.kids {
		one, lossy, err := t.spool.dir(k)
		if err == nil && lossy {
			err = t.trueNames(ctx, dir, k.layer, one)
		}
		if err != nil {
			return nil, err
		}
		if l = append(l, one...); i > 0 {
			l = merge(l)
		}
	}
	t.dirs.put(dir, l)
	return l, nil
}

// merge sorts the entries that several snapshots have of one directory. What more than
// one has is taken from the first, with what is in it from all.
func merge(l []entry) []entry {
	slices.SortStableFunc(l, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	out := l[:0]
	for _, e := range l {
		if last := len(out) - 1; last >= 0 && out[last].name == e.name {
			out[last].kids = append(out[last].kids, e.kids...)
			continue
		}
		out = append(out, e)
	}
	return out
}

// trueNames gives the entries of a directory their names in true bytes: restic's list
// has U+FFFD in place of what is no UTF-8. The repository has them in the same order.
func (t *Tree) trueNames(ctx context.Context, dir string, layer int, l []entry) error {
	i := 0
	err := t.fetch.process(ctx, func() error {
		return t.opt.Repo.EachInTree(ctx, t.layers[layer].Snapshot, t.layers[layer].path(dir), func(n *repo.TreeNode) error {
			if i == len(l) || l[i].inode != n.Inode || l[i].ctime != n.CTime.UnixNano() {
				return errOtherOrder
			}
			l[i].name = n.Name
			i++
			return nil
		})
	})
	if err == nil && i != len(l) {
		err = errOtherOrder
	}
	if err != nil {
		return fmt.Errorf("names in %s that are no UTF-8: %w", path.Join(t.opt.Live, dir), err)
	}
	return nil
}

var errOtherOrder = errors.New("restic's list and its tree differ")
