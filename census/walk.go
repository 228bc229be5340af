package census

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batchLen is how many entries of a directory are one piece of work, so that
	// the workers share one large directory as well as many small ones.
	batchLen = 256
	// maxQueued is how many pieces of one directory may wait. With more, whoever
	// reads the directory works on them itself; it bounds the memory.
	maxQueued = 64
	// maxErrors is how many errors are named.
	maxErrors = 100
	// direntBuf is how much is read of a directory at once.
	direntBuf = 32 << 10
)

// walker is one walk of a tree.
type walker struct {
	root   string
	filter Filter
	known  *Known      // what need not be read again
	keep   bool        // whether to remember the inodes
	cold   atomic.Bool // the caches are: read everything
	blocks int64       // blocksRead at the beginning
	dev    uint64      // of the root

	mu      sync.Mutex
	wake    *sync.Cond
	queue   []work // a stack: depth first keeps it short
	pending int    // pieces that are queued or under way
	stopped bool
	bad     UnreadableError
}

// work is one piece of work: a directory to read, or some of its entries.
type work struct {
	dir     string // absolute
	entries []entry
}

// worker is one goroutine's part of a walk.
type worker struct {
	*walker
	*hasher
	gather
	sum     Sum
	changes Changes
	newest  int64 // ctime, ns since 1970
	digest  digest
	now     time.Time // taken before the inodes at hand are looked at
	path    []byte
	samples int    // known inodes so far
	dirs    []work // found, not yet queued
	dirent  []byte
}

func walk(ctx context.Context, root string, f Filter, workers int, known *Known, keep bool) (Result, error) {
	root = filepath.Clean(root)
	w := &walker{root: root, filter: f, known: known, keep: keep, blocks: blocksRead()}
	w.wake = sync.NewCond(&w.mu)
	if workers <= 0 {
		workers = DefaultWorkers()
	}
	all := make([]*worker, workers)
	for i := range all {
		all[i] = &worker{walker: w, hasher: newHasher(), dirent: make([]byte, direntBuf)}
	}

	first := all[0]
	first.now = clock()
	var st unix.Stat_t
	if err := lstat(root, &st); err != nil {
		return Result{}, fmt.Errorf("%s: %w", root, err)
	}
	w.dev = uint64(st.Dev) //nolint:unconvert // 32 bits wide on some platforms
	first.count(root, &st)
	w.push(first.dirs)
	first.dirs = nil

	stop := context.AfterFunc(ctx, w.stop)
	defer stop()
	var wg sync.WaitGroup
	for _, k := range all {
		wg.Go(k.run)
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return Result{}, context.Cause(ctx)
	}

	var res Result
	sum, changes := &res.Sum, &res.Changes
	var newest int64
	var d digest
	gathered := make([]*gather, len(all))
	for i, k := range all {
		sum.Files += k.sum.Files
		sum.Regular += k.sum.Regular
		sum.Dirs += k.sum.Dirs
		sum.Bytes += k.sum.Bytes
		sum.Xattrs += k.sum.Xattrs
		changes.Inodes += k.changes.Inodes
		changes.Bytes += k.changes.Bytes
		newest = max(newest, k.newest)
		d.add(k.digest)
		gathered[i] = &k.gather
	}
	sum.Digest = d.String()
	changes.Newest = time.Unix(0, newest)
	if keep {
		res.Known = merge(gathered)
	}
	if len(w.bad.Items) > 0 {
		return res, &w.bad
	}
	return res, nil
}

// run works until the whole tree has been walked.
func (k *worker) run() {
	for {
		w, ok := k.next()
		if !ok {
			return
		}
		if w.entries != nil {
			k.batch(w)
		} else {
			k.readDir(w.dir)
		}
		k.done()
	}
}

// readDir reads a directory and works on its entries, or leaves them to others.
func (k *worker) readDir(dir string) {
	fd, err := openDir(dir)
	if err != nil {
		k.failed(dir, err)
		return
	}
	defer func() { _ = unix.Close(fd) }()
	for more := true; more; {
		list := make([]entry, 0, batchLen)
		for more && len(list) < batchLen {
			if list, more, err = readEntries(fd, k.dirent, list); err != nil {
				k.failed(dir, err)
				return
			}
		}
		// Inodes that lie together on disk are read together.
		slices.SortFunc(list, func(a, b entry) int {
			switch {
			case a.ino < b.ino:
				return -1
			case a.ino > b.ino:
				return 1
			}
			return 0
		})
		for len(list) > 0 {
			n := min(len(list), batchLen)
			w := work{dir: dir, entries: list[:n:n]}
			list = list[n:]
			if !more && len(list) == 0 || !k.offer(w) {
				k.batch(w)
			}
		}
		if k.isStopped() {
			return
		}
	}
}

// batch counts some entries of a directory.
func (k *worker) batch(w work) {
	k.now = clock()
	for _, e := range w.entries {
		k.path = append(append(k.path[:0], w.dir...), '/')
		if w.dir == "/" {
			k.path = k.path[:1]
		}
		k.path = append(k.path, e.name...)
		path := string(k.path)
		var st unix.Stat_t
		if err := lstat(path, &st); err != nil {
			k.failed(path, err)
			continue
		}
		if k.filter != nil && !k.filter(k.rel(path), st.Mode&unix.S_IFMT == unix.S_IFDIR) {
			continue
		}
		k.count(path, &st)
	}
	k.push(k.dirs)
	k.dirs = k.dirs[:0]
}

// count counts one inode, and notes a directory for being read.
func (k *worker) count(path string, st *unix.Stat_t) {
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return
	}
	id := k.identify(st)
	known, unchanged := k.known.find(id)
	k.newest = max(k.newest, id.ctime)
	if !unchanged {
		k.changes.Inodes++
		if kind == unix.S_IFREG {
			k.changes.Bytes += uint64(st.Size)
		}
	}
	if unchanged && k.trusts(known, path, st) {
		id = *known
	} else {
		var err error
		k.path = append(append(k.path[:0], path...), 0)
		if id.hash, id.xattrs, err = k.inode(k.path, st); err != nil {
			k.failed(path, err)
			return
		}
	}
	if k.keep {
		k.gather.add(id, k.now)
	}
	k.digest.add(id.hash)
	k.sum.Xattrs += uint64(id.xattrs)
	switch kind {
	case unix.S_IFDIR:
		k.sum.Dirs++
		k.dirs = append(k.dirs, work{dir: path})
		return
	case unix.S_IFREG:
		k.sum.Regular++
		k.sum.Bytes += uint64(st.Size)
	}
	k.sum.Files++
}

const (
	// sampleEvery is how many known inodes come between two whose attributes are read
	// all the same, to see whether they are cached.
	sampleEvery = 64
	// coldBlocks is how many blocks of 512 bytes may come from the disk until the
	// caches are taken for cold: a few pages come from it on every machine.
	coldBlocks = 256
)

// trusts tells whether what is known of an inode that has not changed is taken for
// true. A Count, which is also there to warm the caches, trusts nothing any more once
// they turn out to be cold.
func (k *worker) trusts(known *inode, path string, st *unix.Stat_t) bool {
	if !k.keep {
		return true
	}
	if k.cold.Load() {
		return false
	}
	if k.samples++; k.samples%sampleEvery != 0 {
		return true
	}
	if blocksRead()-k.blocks > coldBlocks {
		k.cold.Store(true)
	}
	k.path = append(append(k.path[:0], path...), 0)
	hash, _, err := k.inode(k.path, st)
	return err == nil && hash == known.hash
}

// identify says which inode st is of, and when it has changed last. The device of the
// root counts as 0: it has another number after a reboot, and in each snapshot.
func (w *walker) identify(st *unix.Stat_t) inode {
	id := inode{ino: st.Ino, dev: uint64(st.Dev), ctime: st.Ctim.Nano()} //nolint:unconvert // 32 bits wide on some platforms
	if id.dev == w.dev {
		id.dev = 0
	}
	return id
}

// blocksRead is how much this process has had read from disks, in blocks of 512
// bytes. Unlike the time that a read takes, it does not depend on what else the
// machine is doing.
func blocksRead() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Inblock
}

// rel returns path relative to the root.
func (w *walker) rel(path string) string {
	if w.root == "/" {
		return path[1:]
	}
	return path[len(w.root)+1:]
}

// failed notes an error, unless it says that path is no longer there: the tree may be in use.
func (w *walker) failed(path string, err error) {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bad.Items) == maxErrors {
		w.bad.More++
		return
	}
	w.bad.Items = append(w.bad.Items, &fs.PathError{Op: "read", Path: path, Err: err})
}

// next waits for a piece of work; false when there is none left.
func (w *walker) next() (work, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && w.pending > 0 && !w.stopped {
		w.wake.Wait()
	}
	if len(w.queue) == 0 || w.stopped {
		return work{}, false
	}
	last := len(w.queue) - 1
	p := w.queue[last]
	w.queue[last] = work{}
	w.queue = w.queue[:last]
	return p, true
}

// done ends a piece of work that next gave.
func (w *walker) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending--; w.pending == 0 {
		w.wake.Broadcast()
	}
}

// push queues directories to be read.
func (w *walker) push(dirs []work) {
	if len(dirs) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, dirs...)
	w.pending += len(dirs)
	w.wake.Broadcast()
}

// offer queues entries for whoever has nothing to do; false when enough are waiting.
func (w *walker) offer(p work) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= maxQueued {
		return false
	}
	w.queue = append(w.queue, p)
	w.pending++
	w.wake.Signal()
	return true
}

func (w *walker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.wake.Broadcast()
}

func (w *walker) isStopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}
