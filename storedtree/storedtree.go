// Package storedtree is a users root as the repository holds it, while OpenCloud goes
// on changing the one on disk. What has not changed since is read from the disk: a
// process of restic takes a second.
package storedtree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud/nodes"
	"github.com/ocbackup/ocbackup/repo"
)

// Repo is what of a repository is needed; a *repo.Repo has it.
type Repo interface {
	Ls(ctx context.Context, snapshot, dir string, fn func(repo.Node) error) error
	EachInTree(ctx context.Context, snapshot, dir string, fn func(*repo.TreeNode) error) error
	Dump(ctx context.Context, snapshot, file string, w io.Writer) error
	Restore(ctx context.Context, s repo.RestoreSpec) (repo.RestoreSummary, error)
}

// Options say which tree.
type Options struct {
	Repo Repo
	// Stored lists the snapshots that hold it, the one with the metadata first. Those
	// without an id are passed over.
	Stored []Stored
	// Live is the directory that was stored, as it is now.
	Live string
	// TempDir takes the list of what was stored, and what changed since; empty: the
	// system's. Extended attributes come through it faster where its file system takes them.
	TempDir string
}

// Stored is a snapshot of the tree, or of a part of it.
type Stored struct {
	Snapshot string
	Entry    string // the name of the tree's root in the snapshot
	Files    uint64 // how many files were stored, so that the list is known to be whole; 0: not known
}

// Tree is what was stored: a nodes.Tree, whose methods may be called from several
// goroutines. Attributes and contents come from the disk where inode and ctime still
// are those that were stored, before and after reading, else from the repository.
type Tree struct {
	opt    Options
	spool  *spool
	layers []layer
	dirs   dirCache
	bulk   bulk
	fetch  fetcher
}

// layer is a snapshot.
type layer struct {
	Stored
	top  int64 // where in the spool what is directly in the top of the snapshot is
	meta bool  // it is the first: the one with the metadata
}

// path is the path in the snapshot of what lies at rel.
func (l *layer) path(rel string) string { return path.Join("/", l.Entry, rel) }

// Open lists the snapshots.
func Open(ctx context.Context, o Options) (*Tree, error) {
	s, err := newSpool(o.TempDir)
	if err != nil {
		return nil, err
	}
	t := &Tree{opt: o, spool: s, dirs: newDirCache(), fetch: newFetcher()}
	for i, st := range o.Stored {
		if st.Snapshot == "" {
			continue
		}
		l := layer{Stored: st, meta: i == 0}
		if l.top, err = t.list(ctx, st); err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.layers = append(t.layers, l)
	}
	if _, err := t.find(ctx, "."); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// list writes what a snapshot holds to the spool.
func (t *Tree) list(ctx context.Context, st Stored) (int64, error) {
	w := newListing(t.spool)
	// From the top of the snapshot: its own node is on the way, and needed.
	if err := t.opt.Repo.Ls(ctx, st.Snapshot, "", w.add); err != nil {
		return 0, err
	}
	if st.Files > 0 && w.files != st.Files {
		return 0, fmt.Errorf("restic lists %d files in snapshot %s, and has stored %d", w.files, st.Snapshot, st.Files)
	}
	return w.close()
}

// Close removes the temporary files.
func (t *Tree) Close() error {
	return errors.Join(t.spool.close(), t.bulk.close())
}

// List lists a directory.
func (t *Tree) List(ctx context.Context, dir string) ([]nodes.Entry, error) {
	l, err := t.entries(ctx, dir)
	if err != nil {
		return nil, pathError("list", dir, err)
	}
	out := make([]nodes.Entry, len(l))
	for i := range l {
		out[i] = nodes.Entry{Name: l[i].name, Type: l[i].mode, Size: l[i].size, MTime: l[i].mtime}
	}
	return out, nil
}

// Attrs reads extended attributes.
func (t *Tree) Attrs(ctx context.Context, p string, want func(name string) bool) (map[string][]byte, error) {
	e, err := t.find(ctx, p)
	if err != nil {
		return nil, pathError("getxattr", p, err)
	}
	if e.mode.IsRegular() || e.mode.IsDir() {
		if m, ok := t.attrsOnDisk(p, e, want); ok {
			return m, nil
		}
	}
	f, err := t.fetchMeta(ctx, p, e)
	if err != nil {
		return nil, pathError("getxattr", p, err)
	}
	m := map[string][]byte{}
	for name, value := range f.XAttrs {
		if strings.HasPrefix(name, attrPrefix) && want(name) {
			m[name] = value
		}
	}
	return m, nil
}

// Read reads a regular file.
func (t *Tree) Read(ctx context.Context, p string, limit int64) ([]byte, error) {
	e, err := t.find(ctx, p)
	switch {
	case err != nil:
		return nil, pathError("read", p, err)
	case !e.mode.IsRegular():
		return nil, pathError("read", p, errNotFile)
	case e.size > limit:
		return nil, pathError("read", p, errTooLarge)
	}
	if b, ok := t.contentOnDisk(p, e); ok {
		return b, nil
	}
	b, err := t.fetchContent(ctx, p, e)
	if err != nil {
		return nil, pathError("read", p, err)
	}
	return b, nil
}

// What something is not.
var (
	errTooLarge = errors.New("larger than it may be")
	errNotDir   = errors.New("not a directory")
	errNotFile  = errors.New("not a regular file")
	errNotLink  = errors.New("not a symbolic link")
)

// Link reads where a symbolic link leads.
func (t *Tree) Link(ctx context.Context, p string) (string, error) {
	e, err := t.find(ctx, p)
	switch {
	case err != nil:
		return "", pathError("readlink", p, err)
	case e.mode != fs.ModeSymlink:
		return "", pathError("readlink", p, errNotLink)
	}
	if to, ok := t.linkOnDisk(p, e); ok {
		return to, nil
	}
	f, err := t.fetchMeta(ctx, p, e)
	if err != nil {
		return "", pathError("readlink", p, err)
	}
	return string(f.Target), nil
}

// Files calls fn for all regular files, with their sizes in bytes. An error of fn ends
// it and is returned.
func (t *Tree) Files(fn func(rel string, size int64) error) error {
	return t.files(context.Background(), ".", fn)
}

func (t *Tree) files(ctx context.Context, dir string, fn func(string, int64) error) error {
	l, err := t.entries(ctx, dir)
	if err != nil {
		return pathError("list", dir, err)
	}
	for i := range l {
		p := path.Join(dir, l[i].name)
		switch {
		case l[i].mode.IsRegular():
			err = fn(p, l[i].size)
		case l[i].mode.IsDir():
			err = t.files(ctx, p, fn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find finds what was stored at a path.
func (t *Tree) find(ctx context.Context, p string) (*entry, error) {
	switch {
	case p == ".":
		return t.root()
	case !validPath(p):
		return nil, fs.ErrInvalid
	}
	l, err := t.entries(ctx, path.Dir(p))
	if err != nil {
		return nil, err
	}
	name := path.Base(p)
	i, ok := slices.BinarySearchFunc(l, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &l[i], nil
}

// validPath is fs.ValidPath for names of any bytes.
func validPath(p string) bool {
	for _, name := range strings.Split(p, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

func pathError(op, p string, err error) error {
	var have *fs.PathError
	if errors.As(err, &have) && have.Path == p {
		return err
	}
	return &fs.PathError{Op: op, Path: p, Err: err}
}
