package nodes

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// attrPrefix begins the names of all of OpenCloud's attributes: reva,
// pkg/storage/pkg/decomposedfs/metadata/prefixes.
const attrPrefix = "user.oc."

// Attrs reads extended attributes. The file is not opened for it; its directory is, once
// for all that is in it, so that no symbolic link comes between.
func (d *disk) Attrs(_ context.Context, name string, want func(string) bool) (map[string][]byte, error) {
	dir, err := d.dirs.use(d, path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer d.dirs.done(dir)
	b := attrBuffers.Get().(*attrBuffer)
	defer attrBuffers.Put(b)
	// The base of "." is ".", which is the root.
	attrs, err := b.read(xattrsOf{dir: dir.fd, name: path.Base(name), path: path.Join(d.path, name)}, &d.names, want)
	if err != nil {
		return nil, &fs.PathError{Op: "read the attributes of", Path: path.Join(d.path, name), Err: err}
	}
	return attrs, nil
}

// attrBuffer is what system calls write to; there is one for each that runs.
type attrBuffer struct{ list, value []byte }

var attrBuffers = sync.Pool{New: func() any {
	return &attrBuffer{list: make([]byte, 1<<10), value: make([]byte, 1<<10)}
}}

// read reads attributes. One that goes in between is left out: the tree is in use.
func (b *attrBuffer) read(of xattrsOf, known *attrNames, want func(string) bool) (map[string][]byte, error) {
	n, err := grow(&b.list, of.names)
	if errors.Is(err, unix.ENOTSUP) {
		return map[string][]byte{}, nil // a file system without attributes has none
	}
	if err != nil {
		return nil, err
	}
	attrs := make(map[string][]byte, bytes.Count(b.list[:n], []byte{0}))
	for raw := range bytes.SplitSeq(b.list[:n], []byte{0}) {
		if !bytes.HasPrefix(raw, []byte(attrPrefix)) {
			continue
		}
		name, ok := known.wanted(raw, want)
		if !ok {
			continue
		}
		n, err := grow(&b.value, func(buf []byte) (int, error) { return of.get(name, buf) })
		switch {
		case err == nil:
			attrs[name] = bytes.Clone(b.value[:n])
		case !errors.Is(err, unix.ENODATA):
			return nil, err
		}
	}
	return attrs, nil
}

// grow calls, with a larger buffer where it is too small.
func grow(buf *[]byte, call func([]byte) (int, error)) (int, error) {
	const most = 1 << 20 // more than Linux has in an attribute, or in a list of them
	for {
		n, err := call(*buf)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.ERANGE) && len(*buf) < most:
			*buf = make([]byte, 8*len(*buf))
		case !errors.Is(err, unix.EINTR):
			return 0, err
		}
	}
}

// attrNames remembers names of attributes, so that those of a million files are a few strings.
type attrNames struct {
	mu    sync.RWMutex
	known map[string]string
}

// wanted asks want, by a string that is made once for names that many have.
func (n *attrNames) wanted(raw []byte, want func(string) bool) (string, bool) {
	n.mu.RLock()
	name, ok := n.known[string(raw)]
	n.mu.RUnlock()
	if ok {
		return name, want(name)
	}
	name = string(raw)
	if !want(name) {
		return "", false // as a rule, the grants: each user has one of its own
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	const many = 1 << 10
	if n.known == nil {
		n.known = map[string]string{}
	}
	if len(n.known) < many {
		n.known[name] = name
	}
	return name, true
}

// dirCache keeps the directories open that things are read from by their names.
type dirCache struct {
	mu     sync.Mutex
	byPath map[string]*openDir
	clock  uint64
}

// openDir is an open directory.
type openDir struct {
	fd   int
	path string
	used int // by how many, now
	last uint64
}

// cachedDirs is how many directories stay open that nobody uses.
const cachedDirs = 64

// use opens a directory, or takes the one that is open. Whoever uses it says when it is
// done.
func (c *dirCache) use(d *disk, dir string) (*openDir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	if o := c.byPath[dir]; o != nil {
		o.used, o.last = o.used+1, c.clock
		return o, nil
	}
	fd, err := d.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	if len(c.byPath) >= cachedDirs {
		c.drop()
	}
	o := &openDir{fd: fd, path: dir, used: 1, last: c.clock}
	c.byPath[dir] = o
	return o, nil
}

func (c *dirCache) done(o *openDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.used--
}

// drop closes the directory that was used last the longest ago.
func (c *dirCache) drop() {
	var old *openDir
	for _, o := range c.byPath {
		if o.used == 0 && (old == nil || o.last < old.last) {
			old = o
		}
	}
	if old != nil {
		delete(c.byPath, old.path)
		_ = unix.Close(old.fd)
	}
}

// release closes all that nobody uses.
func (c *dirCache) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for dir, o := range c.byPath {
		if o.used == 0 {
			delete(c.byPath, dir)
			_ = unix.Close(o.fd)
		}
	}
}
