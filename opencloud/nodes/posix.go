package nodes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/catalog"
)

// On driver posix users' folders and files are folders and files, with their metadata in
// extended attributes. In each space's root are also
//
//	.oc-nodes/aa/bb/cc/dd/<rest of id>.REV.<time>  old versions, whole
//	.oc-nodes/aa/bb/cc/dd/<rest of id>.mpk         grants and tags that are too much for attributes
//	.oc-nodes/locks, .oc-tmp                       nothing of users
//	.Trash/files/<key>.trashitem                   what was deleted: a file, or a folder with all in it
//	.Trash/info/<key>.trashinfo                    where it was, and when it was deleted
//
// Sources: reva, pkg/storage/fs/posix: lookup, tree, trashbin, ignore, blobstore.

// readPosix reads all spaces, several at a time: in a small one there is little to read
// at a time.
func readPosix(ctx context.Context, r *reader) error {
	found, err := findRoots(ctx, r.Tree)
	if err != nil {
		return fmt.Errorf("list the spaces: %w", err)
	}
	roots := found.list
	index, err := readTypeIndex(ctx, r.Tree)
	if err != nil {
		return err
	}
	complete, err := r.judgeIndex(index, found)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	ahead := newAhead(ctx, r.Workers, posixWindow)
	defer ahead.close()
	group.SetLimit(max(1, r.Workers/2))
	for i := range roots {
		s := &posixSpace{reader: r, ctx: ctx, ahead: ahead, root: &roots[i], ids: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
		s.indexFault = index.fault
		s.nobodys = complete && errors.Is(s.root.Err, errLost)
		s.shelf = shelf{tree: r.Tree, dir: path.Join(s.root.Dir, posixMetadata)}
		group.Go(s.read)
	}
	return group.Wait()
}

// judgeIndex compares OpenCloud's index of spaces with the roots. complete: it names no
// space but those that have their ids, so that directories that have lost theirs are spaces
// that OpenCloud was purging, which begins with the index, or somebody's copies.
func (r *reader) judgeIndex(index typeIndex, found *rootFinder) (complete bool, err error) {
	if !index.known {
		return false, nil
	}
	anonymous := false
	for i := range found.list {
		root := &found.list[i]
		if root.known {
			delete(index.spaces, root.ID)
		}
		anonymous = anonymous || root.Err != nil && !root.copied
	}
	if anonymous || len(index.spaces) == 0 {
		return len(index.spaces) == 0, nil
	}
	why, fatal := "it was removed behind OpenCloud's back", false
	if len(found.links) > 0 {
		why, fatal = "is it where the symbolic link "+short(found.links[0])+" leads, which the backup does not follow?", true
	}
	for id, kind := range index.spaces {
		if err := r.lostSpace(id, kind, "", problem(broken, fatal, "the space is in OpenCloud's index (indexes/by-type/%s.mpk), and no directory has its id: %s", kind, why)); err != nil {
			return false, err
		}
	}
	return false, nil
}

// posixWindow is how many nodes are read ahead of the walk, some kilobyte each.
const posixWindow = 8 << 10

// posixSpace is a space being read.
type posixSpace struct {
	*reader
	ctx     context.Context
	ahead   *ahead
	root    *Root
	rootID  string // of its node
	nobodys bool   // it was a space, and is none of OpenCloud's any more
	// indexFault is why OpenCloud's index of spaces can't be read.
	indexFault string
	shelf      shelf
	section    *catalog.Section
	// ids are hashes of the ids that were met, parents the parents of all folders; they are
	// for the walk alone.
	seed    maphash.Seed
	ids     map[uint64]struct{}
	parents map[string]string
	lost    int // files that have lost their ids, but not all attributes
}

func (s *posixSpace) read() (err error) {
	var wrong troubles
	s.judgeRoot(&wrong)
	s.rootID = cmp.Or(s.root.attrs.get(attrID), s.root.attrs.get(attrSpaceID))
	top := &posixFolder{dir: s.root.Dir, id: s.rootID, top: true}
	s.list(top)
	if err := s.ahead.need(top.job); err != nil {
		return err
	}
	if top.err != nil {
		wrong.add(unreadable, true, "the folder can't be listed: %v", cause(top.err))
	}
	s.root.Space.Problem = wrong.problem()
	if s.section, err = s.to.Section(s.root.Space); err != nil {
		return err
	}
	s.ids[s.hash(s.rootID)] = struct{}{}
	if err := s.walk(top, s.addNode); err != nil {
		return err
	}
	if err := s.readTrash(&wrong); err != nil {
		return err
	}
	if s.lost > 0 && !s.nobodys {
		s.judgeVersions(&wrong)
	}
	s.section.SetProblem(wrong.problem())
	return s.section.Close()
}

// judgeRoot tells what keeps OpenCloud from showing the space. The root's name, the
// space's name and type are needed to list it, the owner to open a personal one (reva,
// pkg/storage/pkg/decomposedfs: spaces.go, node.go).
func (s *posixSpace) judgeRoot(wrong *troubles) {
	a := s.root.attrs
	if s.indexFault != "" {
		wrong.add(unreadable, false, indexUnreadable, s.indexFault)
	}
	switch {
	case s.nobodys:
		wrong.add(broken, false, "%s %v, and OpenCloud's index of spaces lacks none: a space that it was removing, or a copy of one?", s.root.Dir, s.root.Err)
		return
	case s.root.Err != nil:
		wrong.add(cond(s.root.unread, unreadable, broken), !s.root.copied, "the root of the space in %s %v", s.root.Dir, s.root.Err)
		return
	}
	for _, name := range []string{attrName, attrSpaceName, attrSpaceType} {
		if !a.has(name) {
			wrong.add(broken, true, "the root of the space has lost %s: OpenCloud does not list it", name)
		}
	}
	if a.get(attrOwnerID) == "" && s.root.Type == "personal" {
		wrong.add(broken, true, "the root of the space has lost %s: nobody may open it", attrOwnerID)
	}
	if id := a.get(attrID); id != s.root.ID {
		wrong.add(broken, false, "the root of the space has the id %q, not the space's", id)
	}
	s.judgeOffloaded(a, a.get(attrID), wrong)
}

// addNode brings a node into the catalog that the walk has come to.
func (s *posixSpace) addNode(it *posixItem) error {
	if it.node.ID != "" {
		h := s.hash(it.node.ID)
		if _, ok := s.ids[h]; ok {
			it.wrong.add(broken, false, "has the id of another: OpenCloud takes it for a copy, and gives it a new one")
			it.versions = nil // they are the other's
		}
		s.ids[h] = struct{}{}
	}
	if it.lostID {
		s.lost++
	}
	if it.stray && !s.nobodys {
		s.judgeParent(it)
	}
	it.node.Problem = it.wrong.problem()
	if err := s.add(s.section, &it.node); err != nil {
		return err
	}
	for i := range it.versions {
		if err := s.add(s.section, &it.versions[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *posixSpace) hash(id string) uint64 { return maphash.String(s.seed, id) }
