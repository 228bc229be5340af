package extract

import (
	"strconv"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// item is a folder or file that is brought.
type item struct {
	path   string // as users see it, in the space
	rel    string // where it goes, below what takes it
	folder bool
	size   int64
	mtime  time.Time
	sum    sum
	// loose tells that the metadata is damaged: what the blob has is what the file had.
	loose bool
	// pending tells that OpenCloud was still processing the upload.
	pending bool
	// skipped tells that it is not brought.
	skipped bool
}

// blob is a content, and the items that have it.
type blob struct {
	at    string // catalog.Node.At
	items []*item
}

// size is the size by the metadata.
func (b *blob) size() uint64 { return uint64(max(b.items[0].size, 0)) }

// fault is why an item is not brought, when that is no reason to end it all.
type fault struct {
	class Class
	text  string
}

func (f *fault) Error() string { return f.text }

// Class says why something was not brought.
type Class string

// The classes of what was not brought. Those of damage are the certificate's.
const (
	Missing      Class = "missing" // the set does not hold the content
	SizeMismatch Class = "size-mismatch"
	HashMismatch Class = "hash-mismatch"
	Unreadable   Class = "unreadable"     // the content, or what the metadata says of it, can't be read
	Pending      Class = "pending-upload" // OpenCloud was still processing the upload
	Exists       Class = "exists"         // something else has that name already
	Refused      Class = "refused"        // what takes it does not take this name, or this file
)

// damage tells whether the class is one of damage in the set.
func (c Class) damage() bool {
	return c == Missing || c == SizeMismatch || c == HashMismatch || c == Unreadable
}

// maxName is how many bytes a name may have on Linux' file systems.
const maxName = 255

// newItem makes an item of a node that goes to rel. The fault is a name that can't be
// one: what a catalog says may have been made up.
func newItem(n *catalog.Node, rel string) (*item, *fault) {
	// There may be millions. The texts of a node are parts of its whole line in the catalog,
	// so that what is kept is copied; and of the two paths, one is the end of the other.
	path := strings.Clone(n.Path)
	switch {
	case strings.HasSuffix(rel, path):
		path = rel[len(rel)-len(path):]
	case strings.HasSuffix(path, rel):
		rel = path[len(path)-len(rel):]
	}
	it := &item{
		path: path, rel: rel, folder: n.Kind == catalog.KindFolder || n.Kind == catalog.KindSpace, size: n.Size, mtime: n.MTime,
		sum: sumOf(n), pending: n.Pending != "",
	}
	if it.folder {
		it.size = 0
	}
	it.loose = n.Problem != nil && it.sum.hex == "" && n.Size == 0 && n.At != ""
	if n.Size < 0 {
		it.size = 0
		return it, &fault{Unreadable, "its metadata says that it has " + strconv.FormatInt(n.Size, 10) + " bytes"}
	}
	for name := range strings.SplitSeq(rel, "/") {
		if text := badName(name); text != "" {
			return it, &fault{Refused, text}
		}
	}
	return it, nil
}

// badName says why a name can't be one; "" when it can.
func badName(name string) string {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return strconv.Quote(name) + " can't be a name"
	case len(name) > maxName:
		return "the name has " + strconv.Itoa(len(name)) + " bytes; a file's can have " + strconv.Itoa(maxName)
	}
	return ""
}

// safeName makes a name of one that people gave to a space: any text.
func safeName(name, id string) string {
	clean := func(s string) string {
		s = strings.Map(func(c rune) rune {
			if c == '/' || c < ' ' || c == 0x7f {
				return '_'
			}
			return c
		}, strings.ToValidUTF8(s, "_"))
		for len(s) > maxName {
			s = strings.ToValidUTF8(s[:maxName], "")
		}
		if strings.Trim(s, ". ") == "" {
			return ""
		}
		return s
	}
	if s := clean(name); s != "" {
		return s
	}
	if s := clean(id); s != "" {
		return s
	}
	return "space"
}
