package nodes

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// Names of attributes.
const (
	attrID         = attrPrefix + "id"
	attrParentID   = attrPrefix + "parentid"
	attrName       = attrPrefix + "name"
	attrType       = attrPrefix + "type"
	attrBlobID     = attrPrefix + "blobid"
	attrBlobSize   = attrPrefix + "blobsize"
	attrMTime      = attrPrefix + "mtime"
	attrDTime      = attrPrefix + "dtime" // when a space was disabled
	attrStatus     = attrPrefix + "nodestatus"
	attrOffloaded  = attrPrefix + "metadata_offloaded"
	attrSHA1       = attrPrefix + "cs.sha1"
	attrMD5        = attrPrefix + "cs.md5"
	attrAdler32    = attrPrefix + "cs.adler32"
	attrOwnerID    = attrPrefix + "owner.id"
	attrSpaceID    = attrPrefix + "space.id"
	attrSpaceName  = attrPrefix + "space.name"
	attrSpaceType  = attrPrefix + "space.type"
	attrSpaceAlias = attrPrefix + "space.alias"
	attrTrash      = attrPrefix + "trash.origin" // of drivers decomposed
)

// Values of attrType: the resource types of the CS3 APIs.
const (
	typeFile   = "1"
	typeFolder = "2"
)

// processing begins the status of a node whose upload is not done.
const processing = "processing:"

// wantNode asks for the attributes of nodes.
func wantNode(name string) bool {
	switch name {
	case attrID, attrParentID, attrName, attrType, attrBlobID, attrBlobSize, attrMTime, attrStatus, attrOffloaded,
		attrSHA1, attrMD5, attrAdler32, attrTrash, attrSpaceID:
		return true
	}
	return false
}

// wantSpace asks for the attributes of space roots.
func wantSpace(name string) bool {
	switch name {
	case attrOwnerID, attrSpaceName, attrSpaceType, attrSpaceAlias, attrDTime:
		return true
	}
	return wantNode(name)
}

// attrs are the attributes of a node, by their whole names.
type attrs map[string][]byte

func (a attrs) get(name string) string { return string(a[name]) }

func (a attrs) has(name string) bool {
	_, ok := a[name]
	return ok
}

// flaws is what is wrong with attributes that tell something of a node's content. Each
// driver makes other problems of them.
type flaws struct {
	// size: it is not there, or no number. mtime, sums: likewise.
	size, mtime bool
	// sums names checksums that are none.
	sums []string
}

// fill sets what attributes say of a node: id, size, time, blob, checksums, and whether its
// upload is pending. What they do not say is left as it is.
func (a attrs) fill(n *catalog.Node) (f flaws) {
	if id := a.get(attrID); id != "" {
		n.ID = id
	}
	if t, err := time.Parse(time.RFC3339Nano, a.get(attrMTime)); err == nil {
		n.MTime = t.UTC()
	} else {
		f.mtime = true
	}
	if s, ok := strings.CutPrefix(a.get(attrStatus), processing); ok {
		n.Pending = s
	}
	if n.Kind == catalog.KindFolder {
		return f
	}
	if size, err := strconv.ParseInt(a.get(attrBlobSize), 10, 64); err == nil && size >= 0 {
		n.Size = size
	} else {
		f.size = true
	}
	n.Blob = a.get(attrBlobID)
	for _, sum := range []struct {
		to   *string
		name string
		size int
	}{{&n.SHA1, attrSHA1, 20}, {&n.MD5, attrMD5, 16}, {&n.Adler32, attrAdler32, 4}} {
		switch v := a[sum.name]; len(v) {
		case 0:
		case sum.size:
			*sum.to = hex.EncodeToString(v)
		default:
			f.sums = append(f.sums, strings.TrimPrefix(sum.name, attrPrefix+"cs."))
		}
	}
	return f
}

// space makes a space of what the attributes of its root say. Its time of being disabled
// is the zero of Unix where it can't be read: it is disabled.
func (a attrs) space(dir string) catalog.Space {
	s := catalog.Space{
		Kind: catalog.KindSpace, ID: a.get(attrSpaceID), Name: a.get(attrSpaceName), Type: a.get(attrSpaceType),
		Alias: a.get(attrSpaceAlias), Owner: a.get(attrOwnerID), Dir: dir,
	}
	if v := a.get(attrDTime); v != "" {
		var err error
		if s.Disabled, err = time.Parse(time.RFC3339Nano, v); err != nil {
			s.Disabled = time.Unix(0, 0)
		}
		s.Disabled = s.Disabled.UTC()
	}
	return s
}

// pathify gives the path of an id below nodes, blobs or .oc-nodes: aa/bb/cc/dd/<rest>
// (reva, Pathify of the lookups).
func pathify(id string) string {
	const depth, width = 4, 2
	var b strings.Builder
	for i := 0; i < depth && len(id) > width; i++ {
		b.WriteString(id[:width])
		b.WriteByte('/')
		id = id[width:]
	}
	b.WriteString(id)
	return b.String()
}
