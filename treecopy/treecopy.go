// Package treecopy copies a tree as it is: contents, owners, modes, times, links,
// extended attributes. Contents are shared with the source where the file system can
// (btrfs, XFS), so that a copy takes as long as its metadata does, and no room.
//
// The libraries that do this (containerd/continuity, tonistiigi/fsutil) copy one file
// at a time, and choose by patterns, if at all, not by asking for each path.
package treecopy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Options say what is copied.
type Options struct {
	// Filter says what belongs to the copy; nil: all. rel is relative to the source and
	// slash-separated; the source itself is not asked for. What it refuses is left out,
	// with all that is below it. It is called from several goroutines.
	Filter func(rel string, isDir bool) bool
	// OnProgress is told now and then how much has been copied; it may be nil.
	OnProgress func(files, bytes uint64)
}

// Stats is what was copied.
type Stats struct {
	Files  uint64 // everything that is no directory; each name of a hard link counts
	Dirs   uint64
	Bytes  uint64 // of regular files, each hard link once
	Shared uint64 // those of Bytes that are shared with the source
}

const (
	// batchLen is how many entries of a directory are one piece of work, so that large
	// directories are shared by the workers as small ones are.
	batchLen = 128
	// reportEvery is how often OnProgress is called.
	reportEvery = 200 * time.Millisecond
)

// workers is how many files are copied at once. Their work is metadata; more of them
// than cores keep a disk's queue filled while nothing is cached.
func workers() int { return min(4*runtime.NumCPU(), 16) }

// Copy copies the tree at src, which must not change meanwhile, to dst. The directory
// above dst must exist. Directories of the copy that are there already are taken over
// and become what the source's are, with what is in them; anything else that is there
// already is an error. Both may be no directory. Sockets are left out.
//
// What can't be read or made, with all of its metadata, is an error that names its
// path; what was copied until then is left there. Labels of a machine's security policy
// and properties of a file system are no error: they are copied where dst takes them.
// Times of access are not copied. Only root can do all this.
func Copy(ctx context.Context, src, dst string, o Options) (Stats, error) {
	c := &copier{src: src, dst: dst, filter: o.Filter, made: map[inode]string{}}
	stop := c.report(o.OnProgress)
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	c.group, c.ctx = g, gctx
	g.Go(func() error { return c.entry("") })
	err := g.Wait()
	if err == nil {
		err = c.link()
	}
	if err == nil {
		err = c.finishDirs(ctx)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return Stats{Files: c.files.Load(), Dirs: uint64(len(c.dirs)), Bytes: c.bytes.Load(), Shared: c.shared.Load()}, err
}

// copier is one copy under way. Paths are relative to src and dst; that of the tree
// itself is empty.
type copier struct {
	src, dst string
	filter   func(rel string, isDir bool) bool
	group    *errgroup.Group
	ctx      context.Context

	files, bytes, shared atomic.Uint64

	mu    sync.Mutex
	dirs  []node           // their metadata comes last
	made  map[inode]string // of hard links: the name that was copied
	links []hardLink       // their other names
}

type node struct {
	rel string
	st  *unix.Stat_t
}

func below(base, rel string) string {
	if rel == "" {
		return base
	}
	return base + "/" + rel
}

// spawn has somebody else do the work, or does it if nobody is free.
func (c *copier) spawn(work func() error) error {
	if c.group.TryGo(work) {
		return nil
	}
	return work()
}

// entry copies what rel is, with all that is below it.
func (c *copier) entry(rel string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	st := &unix.Stat_t{}
	from := below(c.src, rel)
	if err := retry(func() error { return unix.Lstat(from, st) }); err != nil {
		return failed("lstat", from, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK || rel != "" && c.filter != nil && !c.filter(rel, kind == unix.S_IFDIR) {
		return nil
	}
	if kind == unix.S_IFDIR {
		return c.spawn(func() error { return c.dir(rel, st) })
	}
	if st.Nlink > 1 && c.copied(rel, st) {
		return nil
	}
	err := c.make(rel, st)
	if err == nil && rel == "" {
		err = strip(below(c.dst, rel)) // as in dir
	}
	if err == nil {
		err = c.meta(rel, st)
	}
	if err == nil {
		c.files.Add(1)
	}
	return err
}

// dir makes a directory and copies what is in it.
func (c *copier) dir(rel string, st *unix.Stat_t) error {
	to := below(c.dst, rel)
	fresh, err := mkdir(to)
	if err == nil && (rel == "" || !fresh) {
		err = strip(to) // those below a fresh one inherit nothing
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.dirs = append(c.dirs, node{rel, st})
	c.mu.Unlock()

	names, err := readNames(below(c.src, rel))
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(names, batchLen) {
		err := c.spawn(func() error {
			for _, n := range batch {
				if rel != "" {
					n = rel + "/" + n
				}
				if err := c.entry(n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory, unless it is there.
func mkdir(path string) (fresh bool, err error) {
	err = os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if st, lerr := os.Lstat(path); lerr == nil && st.IsDir() {
			return false, nil
		}
	}
	return true, err
}

func readNames(dir string) (_ []string, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return f.Readdirnames(-1)
}

// finishDirs gives directories their metadata, when nothing comes into them any more:
// that would change their times, and take on their access control lists.
func (c *copier) finishDirs(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	for batch := range slices.Chunk(c.dirs, batchLen) {
		g.Go(func() error {
			for _, d := range batch {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := c.meta(d.rel, d.st); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// report calls on now and then, until what it returns is called.
func (c *copier) report(on func(files, bytes uint64)) (stop func()) {
	if on == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(reportEvery)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				on(c.files.Load(), c.bytes.Load())
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
