package verify

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/holdings"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/repo"
)

// readers is how many units are read at a time: restic itself uses all cores.
const readers = 2

// salvages is how often restic is run, in one set, for what damage has left unread.
const salvages = 500

// contents reads a part of the contents that a root holds, and tells the certificate
// what they are.
type contents struct {
	repo    *repo.Repo
	root    *manifest.Root
	catalog *catalog.File
	part    Part
	h       *certificate.Holdings
	update  func(string)
	// damaged tells that damage was found: that restic ends well does not mean then that it
	// has read all.
	damaged bool

	mu        sync.Mutex // guards h and the following
	files     uint64
	bytes     uint64
	done      int
	doneBytes int64
	units     int
	total     int64
	salvaged  int
	unread    uint64 // because of too much damage
}

type unit struct {
	path  string
	whole bool
	bytes int64
}

// read reads the part. Its error says that it could not be read; damage is told to the
// certificate.
func (c *contents) read(ctx context.Context) error {
	list, err := c.plan(ctx)
	if err != nil {
		return err
	}
	for _, u := range list {
		c.total += u.bytes
	}
	c.units = len(list)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, u := range list {
		g.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			c.tell()
			if err := c.unit(ctx, u); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.done++
			c.doneBytes += u.bytes
			return nil
		})
	}
	return g.Wait()
}

func (c *contents) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.update(fmt.Sprintf("reading contents: %s of %s, %d of %d folders",
		humanize.IBytes(c.bytes), humanize.IBytes(uint64(c.total)), c.done, c.units))
}

// plan finds the units of the part.
func (c *contents) plan(ctx context.Context) ([]*unit, error) {
	all := newUnits(c.catalog.Driver())
	for n, err := range c.catalog.All() {
		if err = cmp.Or(err, context.Cause(ctx)); err != nil {
			return nil, err
		}
		if n.At != "" {
			all.add(n.At, n.Size)
		}
	}
	found := map[string]*unit{}
	for n, err := range c.catalog.All() {
		if err = cmp.Or(err, context.Cause(ctx)); err != nil {
			return nil, err
		}
		if n.At == "" {
			continue
		}
		name, whole := all.of(n.At)
		u := found[name]
		if u == nil {
			if !c.part.holds(name) {
				continue
			}
			u = &unit{path: name, whole: whole}
			found[name] = u
		}
		u.bytes += n.Size
	}
	list := slices.Collect(maps.Values(found))
	slices.SortFunc(list, func(a, b *unit) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// unit reads a unit, and what damage leaves of it.
func (c *contents) unit(ctx context.Context, u *unit) error {
	if !u.whole {
		return c.file(ctx, u.path)
	}
	seen := paths{}
	err := c.folder(ctx, u.path, seen)
	switch {
	case err == nil && !c.damaged, errors.Is(err, fs.ErrNotExist): // what is not there, the certificate misses
		return nil
	case err != nil && !lost(err):
		return err
	}
	// Damage ends restic: what else is in the folder is read bit by bit.
	var left []string
	for n, err := range c.catalog.All() {
		if err = cmp.Or(err, context.Cause(ctx)); err != nil {
			return err
		}
		if n.At != "" && !seen.has(n.At) && (u.path == "." || strings.HasPrefix(n.At, u.path+"/")) {
			left = append(left, n.At)
		}
	}
	slices.Sort(left)
	return c.salvage(ctx, u.path, slices.Compact(left), seen)
}

// salvage reads what of a folder was not seen: files one by one, folders as a whole as
// far as that goes.
func (c *contents) salvage(ctx context.Context, dir string, left []string, seen paths) error {
	for len(left) > 0 {
		at := left[0]
		if seen.has(at) {
			left = left[1:]
			continue
		}
		rel := strings.TrimPrefix(at, dir+"/")
		name, _, deeper := strings.Cut(rel, "/")
		c.mu.Lock()
		c.salvaged++
		over := c.salvaged > salvages
		if over {
			c.unread += uint64(len(left))
		}
		c.mu.Unlock()
		if over {
			return nil
		}
		if !deeper {
			left = left[1:]
			if err := c.file(ctx, at); err != nil {
				return err
			}
			continue
		}
		sub := path.Join(dir, name)
		n := len(left)
		for i, other := range left {
			if !strings.HasPrefix(other, sub+"/") {
				n = i
				break
			}
		}
		err := c.folder(ctx, sub, seen)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && !lost(err):
			return err
		default: // up to release 0.18, restic may end well and have left out what it can't load
			if err := c.salvage(ctx, sub, left[:n], seen); err != nil {
				return err
			}
		}
		left = left[n:]
	}
	return nil
}

// folder reads all files of a folder, and adds them to seen.
func (c *contents) folder(ctx context.Context, dir string, seen paths) error {
	return c.repo.DumpTar(ctx, c.root.Snapshot, holdings.Path(c.root, dir), func(t *tar.Header, content io.Reader) error {
		at := path.Join(dir, t.Name)
		if t.Typeflag != tar.TypeReg || seen.has(at) {
			return nil
		}
		s := newSums()
		if _, err := io.Copy(s, content); err != nil {
			return err
		}
		seen.add(at)
		c.note(at, s)
		return nil
	})
}

// file reads one file.
func (c *contents) file(ctx context.Context, at string) error {
	s := newSums()
	err := c.repo.Dump(ctx, c.root.Snapshot, holdings.Path(c.root, at), s)
	switch {
	case err == nil:
		c.note(at, s)
	case errors.Is(err, fs.ErrNotExist): // the certificate misses it
	case lost(err):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.h.Fail(at, errors.New("it is damaged in the repository"))
	default:
		return err
	}
	return nil
}

func (c *contents) note(at string, s *sums) {
	c.mu.Lock()
	c.h.Read(at, s.hashes())
	c.files++
	c.bytes += uint64(s.n)
	some := c.files%64 == 0
	c.mu.Unlock()
	if some {
		c.tell()
	}
}

// sums takes the hashes of a content.
type sums struct {
	sha1, md5 interface {
		io.Writer
		Sum(b []byte) []byte
	}
	n int64
}

func newSums() *sums { return &sums{sha1: sha1.New(), md5: md5.New()} }

func (s *sums) Write(p []byte) (int, error) {
	_, _ = s.sha1.Write(p) // a hash takes everything
	_, _ = s.md5.Write(p)
	s.n += int64(len(p))
	return len(p), nil
}

func (s *sums) hashes() certificate.Hashes {
	return certificate.Hashes{SHA1: hex.EncodeToString(s.sha1.Sum(nil)), MD5: hex.EncodeToString(s.md5.Sum(nil))}
}
