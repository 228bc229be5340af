package census

import (
	"cmp"
	"slices"
	"time"
)

// racy is how old the last change of an inode must be for Count to remember the
// inode. A change that follows within one tick of the kernel's clock leaves the
// ctime as it is and would go unseen; so would one within the clock difference to
// a file server.
const racy = 2 * time.Second

// clock is what ctimes are compared with; tests set it.
var clock = time.Now

// Known remembers the inodes of a tree between a Count and a Recount, in 48 bytes
// each (and briefly twice that). It may be used from several goroutines.
type Known struct {
	inodes []inode // in the order of compare
}

// inode is what is remembered of one.
type inode struct {
	ino, dev uint64 // dev is 0 for that of the root
	ctime    int64  // ns since 1970
	hash     digest
	xattrs   uint32
}

// find returns what is known of an inode that has not changed since.
func (k *Known) find(id inode) (*inode, bool) {
	if k == nil {
		return nil, false
	}
	i, ok := slices.BinarySearchFunc(k.inodes, id, compare)
	if !ok || k.inodes[i].ctime != id.ctime {
		return nil, false
	}
	return &k.inodes[i], true
}

func compare(a, b inode) int {
	if a.ino != b.ino {
		return cmp.Compare(a.ino, b.ino)
	}
	return cmp.Compare(a.dev, b.dev)
}

// gather collects what one worker gets to know. It grows by whole chunks: a slice
// that is made larger again and again needs several times the memory.
type gather struct {
	chunks [][]inode
}

const chunkLen = 2048

func (g *gather) add(id inode, now time.Time) {
	if now.UnixNano()-id.ctime < int64(racy) {
		return
	}
	last := len(g.chunks) - 1
	if last < 0 || len(g.chunks[last]) == chunkLen {
		g.chunks = append(g.chunks, make([]inode, 0, chunkLen))
		last++
	}
	g.chunks[last] = append(g.chunks[last], id)
}

// merge makes a Known of what the workers gathered.
func merge(all []*gather) *Known {
	n := 0
	for _, g := range all {
		for _, c := range g.chunks {
			n += len(c)
		}
	}
	k := &Known{inodes: make([]inode, 0, n)}
	for _, g := range all {
		for i, c := range g.chunks {
			k.inodes = append(k.inodes, c...)
			g.chunks[i] = nil
		}
	}
	slices.SortFunc(k.inodes, compare)
	return k
}
