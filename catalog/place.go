package catalog

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud"
)

// Place is where a node's content lies as far as that follows from the rest of it, in
// the form of Node.At: on posix that of a live file, on the other drivers all that has
// a blob. Empty: it has none, or it doesn't follow; also where an id would lead out of
// its place.
func Place(driver opencloud.Driver, s *Space, n *Node) string {
	var at string
	switch {
	case driver == opencloud.Posix:
		if n.Kind != KindFile || n.Trash != "" || s == nil || s.Dir == "" {
			return ""
		}
		at = s.Dir + n.Path
	case n.Blob == "":
		return ""
	case driver == opencloud.Decomposed:
		at = "spaces/" + pathify(n.Space, 1) + "/blobs/" + pathify(n.Blob, 4)
	case driver == opencloud.DecomposedS3:
		at = n.Space + "/" + pathify(n.Blob, 4)
	}
	odd := strings.Contains(at, "/.") || strings.Contains(at, "//") || strings.HasPrefix(at, ".") || strings.HasPrefix(at, "/") || strings.HasSuffix(at, "/")
	if odd && (path.Clean(at) != at || !filepath.IsLocal(at)) {
		return ""
	}
	return at
}

// pathify makes folders of the first depth pairs of an id, as reva does
// (pkg/storage/pkg/decomposedfs/lookup, Pathify with width 2).
func pathify(id string, depth int) string {
	buf := make([]byte, 0, 64)
	for ; depth > 0 && len(id) > 2; depth-- {
		buf = append(append(buf, id[:2]...), '/')
		id = id[2:]
	}
	return string(append(buf, id...))
}
