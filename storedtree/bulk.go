package storedtree

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
)

// bulk is what was brought from the repository at once, when first something was asked
// for that has changed on disk: all files with metadata that have, and the extended
// attributes of directories, which restic restores with something in them.
type bulk struct {
	once  sync.Once
	dir   string
	attrs bool           // dir takes extended attributes
	group map[string]int // which part of dir has a path
}

// How large a file may be that is brought, and all together: what is larger is asked
// for by itself.
const (
	bulkFile = 4 << 20
	bulkAll  = 512 << 20
)

// groupLen is how many things a process is asked to restore: restic compares every
// name on the way with every one of them.
const groupLen = 300

// brought tells where what lies at p was brought to.
func (t *Tree) brought(ctx context.Context, p string) (dir string, ok bool) {
	t.bulk.once.Do(func() { t.bring(ctx) })
	group, ok := t.bulk.group[p]
	return t.bulk.part(group), ok
}

func (b *bulk) part(group int) string { return filepath.Join(b.dir, strconv.Itoa(group)) }

func (b *bulk) close() error {
	if b.dir == "" {
		return nil
	}
	// Directories come with the modes that they had.
	_ = filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(b.dir)
}

// bring looks for what has changed and restores it. What can't be brought this way is
// asked for later, one by one.
func (t *Tree) bring(ctx context.Context) {
	k := slices.IndexFunc(t.layers, func(l layer) bool { return l.meta })
	if k < 0 {
		return
	}
	s := survey{t: t, ctx: ctx, layer: k, dirs: map[string][]string{}}
	root, err := t.root()
	if err != nil {
		return
	}
	if _, err := s.dir(".", root); err != nil || s.changed < 2 {
		return // one is as soon asked for by itself
	}
	if t.bulk.dir, err = os.MkdirTemp(t.opt.TempDir, "ocbackup-stored-*"); err != nil {
		return
	}
	t.bulk.attrs = opencloud.XattrSupport(t.bulk.dir) == nil
	slices.Sort(s.files) // what lies close together is restored together
	t.bulk.group = map[string]int{}
	var mu sync.Mutex
	g := errgroup.Group{}
	n := 0
	for files := range slices.Chunk(s.files, groupLen) {
		group := n
		n++
		g.Go(func() error {
			if t.fetch.process(ctx, func() error { return t.restore(ctx, k, group, files) }) != nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			for _, f := range files {
				t.bulk.group[f] = group
				for _, d := range s.dirs[f] {
					t.bulk.group[d] = group
				}
			}
			return nil
		})
	}
	_ = g.Wait()
}

// restore restores files, and the directories above them with their attributes.
func (t *Tree) restore(ctx context.Context, layer, group int, files []string) error {
	spec := repo.RestoreSpec{Snapshot: t.layers[layer].Snapshot, Target: t.bulk.part(group)}
	for _, f := range files {
		spec.Include = append(spec.Include, escape.Replace(t.layers[layer].path(f)))
	}
	_, err := t.opt.Repo.Restore(ctx, spec)
	return err
}

// escape makes a restic pattern of a path.
var escape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// survey looks for what has changed on disk since it was stored.
type survey struct {
	t       *Tree
	ctx     context.Context
	layer   int
	changed int
	bytes   int64
	files   []string            // what is to be restored
	dirs    map[string][]string // directories that have changed, by what in files brings them
}

// dir looks into a directory. It returns something at or below it that is restored,
// if there is any.
func (s *survey) dir(p string, d *entry) (brings string, err error) {
	if err := s.ctx.Err(); err != nil {
		return "", err
	}
	l, err := s.t.entries(s.ctx, p)
	if err != nil {
		return "", err
	}
	smallest, bytes := "", int64(bulkFile+1)
	for i := range l {
		e, at := &l[i], path.Join(p, l[i].name)
		switch {
		case e.layer != s.layer:
		case e.mode.IsDir():
			below, err := s.dir(at, e)
			if err != nil {
				return "", err
			}
			if below != "" {
				brings = below
			}
		case e.mode.IsRegular(), e.mode == fs.ModeSymlink:
			if !s.t.unchanged(at, e) {
				s.changed++
				if s.take(at, e.size) {
					brings = at
				}
			}
			if e.size < bytes {
				smallest, bytes = at, e.size
			}
		}
	}
	if s.t.unchanged(p, d) {
		return brings, nil
	}
	s.changed++
	switch {
	case brings != "":
	case len(l) == 0 && p != ".":
		if s.take(p, 0) {
			return p, nil
		}
	case smallest != "" && s.take(smallest, bytes):
		brings = smallest
	}
	if brings != "" {
		s.dirs[brings] = append(s.dirs[brings], p)
	}
	return brings, nil
}

// take notes something that is to be restored, if there is room for it.
func (s *survey) take(p string, size int64) bool {
	if size > bulkFile || s.bytes+size > bulkAll {
		return false
	}
	s.bytes += size
	s.files = append(s.files, p)
	return true
}
