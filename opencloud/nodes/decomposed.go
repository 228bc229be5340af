package nodes

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// The drivers decomposed and decomposeds3 keep a space in spaces/<2>/<rest of its id>:
//
//	nodes/aa/bb/cc/dd/-<rest of the id>        a node: a directory, or an empty file
//	nodes/aa/bb/cc/dd/-<rest>/<name>           a link to the node of that name in a folder
//	nodes/aa/bb/cc/dd/-<rest>.mpk              its metadata
//	nodes/aa/bb/cc/dd/-<rest>.REV.<time>       an older version of a file, and its metadata
//	nodes/aa/bb/cc/dd/-<rest>.T.<time>         a deleted node; what was in it stays where it is
//	trash/aa/bb/cc/dd/-<rest>                  a link to it
//	blobs/aa/bb/cc/dd/-<rest of the blob's id> contents (decomposed)
//
// The root of a space is the node that has the space's id. The reference is reva's
// pkg/storage/pkg/decomposedfs.

// readDecomposed reads all spaces of a users root of these drivers, one after the other.
func readDecomposed(ctx context.Context, r *reader) error {
	spool, err := newSpool(r.TempDir)
	if err != nil {
		return err
	}
	defer spool.close()
	index, err := readTypeIndex(ctx, r.Tree)
	if err != nil {
		return err
	}
	uploads, err := readUploads(ctx, r.Tree)
	if err != nil {
		return err
	}
	ids, err := decomposedSpaces(ctx, r.Tree)
	if err != nil {
		return err
	}
	for id, kind := range index.spaces {
		if _, ok := slices.BinarySearch(ids, id); ok {
			continue
		}
		dir := spaceDir(id)
		if err := r.lostSpace(id, kind, dir, problem(broken, true, "the space is in OpenCloud's index (indexes/by-type/%s.mpk), and its directory %s is not there", kind, dir)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		s := &space{r: r, spool: spool, id: id, dir: spaceDir(id), index: index, uploads: uploads}
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// spaceDir is the directory of a space below the users root.
func spaceDir(id string) string {
	if len(id) <= idWidth {
		return "spaces/" + id
	}
	return "spaces/" + id[:idWidth] + "/" + id[idWidth:]
}

// decomposedSpaces lists the ids of spaces, in order.
func decomposedSpaces(ctx context.Context, t Tree) ([]string, error) {
	firsts, err := t.List(ctx, "spaces")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, a := range firsts {
		if !a.Type.IsDir() || len(a.Name) != idWidth {
			continue
		}
		rests, err := t.List(ctx, "spaces/"+a.Name)
		if err != nil {
			return nil, err
		}
		for _, b := range rests {
			if b.Type.IsDir() {
				ids = append(ids, a.Name+b.Name)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// typeIndex is what indexes/by-type says: the spaces that there are. Creating a space
// ends with it, purging one begins with it.
type typeIndex struct {
	known  bool
	spaces map[string]string // id: type
	fault  string            // why it is not known, where it is there
}

// shareIndex lists spaces in which something is shared, and keeps those that were purged
// (reva, decomposedfs: updateIndexes, DeleteStorageSpace).
const shareIndex = "share"

const indexUnreadable = "OpenCloud's index of spaces can't be read: %s"

// maxIndex is how large the index of one type may be: some hundred bytes for each space.
const maxIndex = 256 << 20

// readTypeIndex reads the index of spaces. Older releases had it as links: it is not
// known then.
func readTypeIndex(ctx context.Context, t Tree) (typeIndex, error) {
	const dir, ext = "indexes/by-type", ".mpk"
	x := typeIndex{spaces: map[string]string{}}
	unknown := func(file string, err error) (typeIndex, error) { // nodes are judged without it
		return typeIndex{fault: file + ": " + cause(err)}, ctx.Err()
	}
	entries, err := t.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return unknown(dir, err)
	}
	for _, e := range entries {
		kind, ok := strings.CutSuffix(e.Name, ext)
		if !ok || kind == shareIndex || !e.Type.IsRegular() {
			continue
		}
		file := path.Join(dir, e.Name)
		data, err := t.Read(ctx, file, maxIndex)
		if err != nil {
			return unknown(file, err)
		}
		x.known = true
		if len(data) == 0 {
			continue // for OpenCloud, too, it lists none then (spaceidindex.go)
		}
		spaces, err := decodeMetadata(data)
		if err != nil {
			return unknown(file, err)
		}
		for id := range spaces {
			if id != "" {
				x.spaces[id] = kind
			}
		}
	}
	return x, nil
}

// readUploads lists the uploads that are under way, where they are: the directory may be
// another, or a link.
func readUploads(ctx context.Context, t Tree) (map[string]bool, error) {
	entries, err := listNames(ctx, t, "uploads")
	if err != nil {
		return nil, ctx.Err()
	}
	uploads := map[string]bool{}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name, ".info"); ok {
			uploads[id] = true
		}
	}
	return uploads, nil
}

// lostSpace tells of a space that the index names and that is not there.
func (r *reader) lostSpace(id, kind, dir string, p *catalog.Problem) error {
	section, err := r.to.Section(catalog.Space{Kind: catalog.KindSpace, ID: id, Name: id, Type: kind, Dir: dir, Problem: p})
	if err != nil {
		return err
	}
	return section.Close()
}

// isName tells whether a name can be one in a directory.
func isName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
