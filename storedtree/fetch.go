package storedtree

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/ocbackup/ocbackup/repo"
)

// meta is what the repository has of something besides its entry in a list.
type meta struct {
	XAttrs map[string][]byte `json:"x,omitempty"`
	Target []byte            `json:"t,omitempty"`
}

// fetcher remembers what has been read from the repository, in the spool.
type fetcher struct {
	procs chan struct{} // bounds the processes of restic

	mu      sync.Mutex
	stored  map[string]span
	flights map[string]chan struct{} // what is being read, by path; closed when it has been
	failed  error                    // the first failure of what could not be had in another way
}

func newFetcher() fetcher {
	return fetcher{procs: make(chan struct{}, 2), stored: map[string]span{}, flights: map[string]chan struct{}{}}
}

// process runs what runs a process of restic.
func (f *fetcher) process(ctx context.Context, run func() error) error {
	select {
	case f.procs <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-f.procs }()
	return run()
}

// once reads what is stored under key; where there is nothing, it lets fetch store it,
// unless somebody else is at it, who is fetching the same flight.
func (t *Tree) once(ctx context.Context, key, flight string, fetch func() error) ([]byte, error) {
	f := &t.fetch
	for {
		f.mu.Lock()
		where, ok := f.stored[key]
		busy := f.flights[flight]
		if !ok && busy == nil {
			busy = make(chan struct{})
			f.flights[flight] = busy
			f.mu.Unlock()
			err := f.process(ctx, fetch)
			f.mu.Lock()
			delete(f.flights, flight)
			close(busy)
			where, ok = f.stored[key]
			if f.failed == nil {
				f.failed = err
			}
			f.mu.Unlock()
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, fs.ErrNotExist
			}
			return t.spool.read(where)
		}
		f.mu.Unlock()
		if ok {
			return t.spool.read(where)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Err is the first failure to read from the repository, or to remember what it gave: what
// the methods failed with then says nothing of what was stored.
func (t *Tree) Err() error {
	t.fetch.mu.Lock()
	defer t.fetch.mu.Unlock()
	return t.fetch.failed
}

// keep stores what was read under key.
func (t *Tree) keep(key string, b []byte) error {
	t.fetch.mu.Lock()
	defer t.fetch.mu.Unlock()
	where, err := t.spool.write(b)
	if err == nil {
		t.fetch.stored[key] = where
	}
	return err
}

// fetchMeta reads attributes and link target from the repository: of all that is in
// the same directory and has changed on disk, since it is one process for one or all.
func (t *Tree) fetchMeta(ctx context.Context, p string, e *entry) (*meta, error) {
	if m, ok := t.broughtMeta(ctx, p, e); ok {
		return m, nil
	}
	layer := &t.layers[e.layer]
	at := layer.path(p)
	key := func(name string) string { return "meta " + path.Join(path.Dir(at), name) }
	want := path.Base(at)
	var siblings []entry
	if p != "." {
		var err error
		if siblings, err = t.entries(ctx, path.Dir(p)); err != nil {
			return nil, err
		}
	}
	b, err := t.once(ctx, key(want), path.Dir(at), func() error {
		changed := map[string]bool{want: true}
		for i := range siblings {
			if s := &siblings[i]; s.layer == e.layer && !t.unchanged(path.Join(path.Dir(p), s.name), s) {
				changed[s.name] = true
			}
		}
		return t.opt.Repo.EachInTree(ctx, layer.Snapshot, path.Dir(at), func(n *repo.TreeNode) error {
			if !changed[n.Name] {
				return nil
			}
			b, err := json.Marshal(meta{XAttrs: n.XAttrs, Target: []byte(n.Target)})
			if err != nil {
				return err
			}
			return t.keep(key(n.Name), b)
		})
	})
	if err != nil {
		return nil, err
	}
	m := &meta{}
	return m, json.Unmarshal(b, m)
}

// fetchContent reads a file from the repository.
func (t *Tree) fetchContent(ctx context.Context, p string, e *entry) ([]byte, error) {
	if b, ok := t.broughtContent(ctx, p, e); ok {
		return b, nil
	}
	layer := &t.layers[e.layer]
	at := layer.path(p)
	return t.once(ctx, "content "+at, "content "+at, func() error {
		b := bytes.NewBuffer(make([]byte, 0, e.size))
		if err := t.opt.Repo.Dump(ctx, layer.Snapshot, at, b); err != nil {
			return err
		}
		if int64(b.Len()) != e.size {
			return fmt.Errorf("the repository has %d bytes of it, and lists %d", b.Len(), e.size)
		}
		return t.keep("content "+at, b.Bytes())
	})
}

// broughtMeta is fetchMeta for what was brought at once.
func (t *Tree) broughtMeta(ctx context.Context, p string, e *entry) (m *meta, ok bool) {
	dir, ok := t.brought(ctx, p)
	if !ok || !t.bulk.attrs {
		return nil, false
	}
	file := filepath.Join(dir, filepath.FromSlash(t.layers[e.layer].path(p)))
	m = &meta{}
	var err error
	if e.mode == fs.ModeSymlink {
		var to string
		to, err = os.Readlink(file)
		m.Target = []byte(to)
	} else {
		err = withFile(file, func(fd int) (err error) {
			m.XAttrs, err = attrs(fd, func(string) bool { return true })
			return err
		})
	}
	return m, err == nil
}

// broughtContent is fetchContent for what was brought at once.
func (t *Tree) broughtContent(ctx context.Context, p string, e *entry) (b []byte, ok bool) {
	dir, ok := t.brought(ctx, p)
	if !ok {
		return nil, false
	}
	err := withFile(filepath.Join(dir, filepath.FromSlash(t.layers[e.layer].path(p))), func(fd int) (err error) {
		b, err = content(fd, e.size)
		return err
	})
	return b, err == nil
}
