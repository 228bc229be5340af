package nodes

import (
	"context"
	"path"
	"strings"
	"sync"
)

// shelf is a space's .oc-nodes, in which versions are found by the id of their file. What
// directories there are on its first two levels is remembered: most files have no
// versions, and are not looked for then.
type shelf struct {
	tree   Tree
	dir    string
	mu     sync.Mutex
	levels map[string]*level
}

// level is what directories are in one.
type level struct {
	once  sync.Once
	names map[string]struct{}
	err   error
}

// versions lists the versions of a file, and tells where they are.
func (s *shelf) versions(ctx context.Context, id string) (dir string, list []Entry, err error) {
	p, ok := shard(id)
	if !ok {
		return "", nil, nil
	}
	steps := strings.Split(p, "/")
	for i := range min(2, len(steps)-1) {
		ok, err := s.has(ctx, path.Join(steps[:i]...), steps[i])
		if err != nil || !ok {
			return "", nil, err
		}
	}
	dir = path.Join(s.dir, path.Dir(p))
	entries, err := s.tree.List(ctx, dir)
	if gone(err) {
		return dir, nil, nil
	}
	prefix := path.Base(p) + revision
	for _, e := range entries {
		if strings.HasPrefix(e.Name, prefix) && e.Type.IsRegular() && !posixLock(e.Name) && !strings.HasSuffix(e.Name, ".lock") {
			list = append(list, e)
		}
	}
	return dir, list, err
}

// has tells whether a directory of the shelf has another in it.
func (s *shelf) has(ctx context.Context, dir, name string) (bool, error) {
	s.mu.Lock()
	if s.levels == nil {
		s.levels = map[string]*level{}
	}
	l := s.levels[dir]
	if l == nil {
		l = &level{}
		s.levels[dir] = l
	}
	s.mu.Unlock()
	l.once.Do(func() {
		entries, err := s.tree.List(ctx, path.Join(s.dir, dir))
		if err != nil && !gone(err) {
			l.err = err
		}
		l.names = make(map[string]struct{}, len(entries))
		for _, e := range entries {
			if e.Type.IsDir() {
				l.names[e.Name] = struct{}{}
			}
		}
	})
	_, ok := l.names[name]
	return ok, l.err
}
