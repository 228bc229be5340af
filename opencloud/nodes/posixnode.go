package nodes

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
)

// readItem reads what lies at dir, and what belongs to it in .oc-nodes. rel is its path in
// the space. What OpenCloud does with what is not in order: reva,
// pkg/storage/fs/posix/tree/assimilation.go, and readNode of decomposedfs/node.
func (s *posixSpace) readItem(f *posixFolder, it *posixItem, dir, rel string) {
	n := &it.node
	n.Kind, n.Space, n.Path, n.Trash, n.Deleted = catalog.KindFile, s.root.ID, rel, f.key, f.deleted
	n.MTime = it.MTime
	switch {
	case it.Type.IsDir():
		n.Kind = catalog.KindFolder
	case it.Type.IsRegular():
		n.Size, n.At = it.Size, dir
	default:
		it.wrong.add(broken, false, "%s: OpenCloud does not show it, and it is not followed", special(it.Type))
		return
	}
	a, err := s.Tree.Attrs(s.ctx, dir, wantNode)
	if err != nil {
		it.wrong.add(unreadable, true, "its attributes can't be read: %v", cause(err))
	} else {
		s.judge(f, it, a)
	}
	if n.Kind == catalog.KindFolder {
		it.sub = &posixFolder{dir: dir, rel: rel, id: n.ID, trash: f.trash}
		s.list(it.sub)
		return
	}
	if n.ID != "" {
		s.readVersions(it)
	}
}

// special names a type that is neither file nor folder.
func special(t fs.FileMode) string {
	switch {
	case t&fs.ModeSymlink != 0:
		return "a symbolic link"
	case t&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case t&fs.ModeSocket != 0:
		return "a socket"
	case t&fs.ModeDevice != 0:
		return "a device"
	}
	return "neither file nor folder"
}

// judge takes what attributes tell, and compares it with what lies there.
func (s *posixSpace) judge(f *posixFolder, it *posixItem, a attrs) {
	n, w := &it.node, &it.wrong
	if len(a) == 0 {
		w.add(broken, false, "has no metadata: OpenCloud has not met it yet, or it has lost all of it, and versions and shares with it")
		return
	}
	flaws := a.fill(n)
	n.MTime = it.MTime // which OpenCloud shows
	item := it.node.Item
	if n.ID == "" {
		it.lostID = true
		w.add(broken, item, "has lost its id: %s", cond(item, "OpenCloud can't restore it", "OpenCloud gives it a new one, without the versions and shares of the old"))
	}
	if it.parent = a.get(attrParentID); !item {
		switch {
		case it.parent == "":
			w.add(broken, n.ID != "", "has lost the id of its parent: OpenCloud does not show it")
		case it.parent != f.id && f.id == "" && !f.top:
			// The server takes the folder in anew when it meets it, and then what is in it (seen on 4.0).
			w.add(broken, false, "lies in a folder that has lost its id: OpenCloud takes both in anew, without the shares of the folder")
		case it.parent != f.id:
			it.stray = true
		}
		switch name := a.get(attrName); name {
		case it.Name:
		case "":
			w.add(broken, n.ID != "", "has lost its name: OpenCloud does not show it")
		default:
			w.add(broken, false, "is called %q in its metadata: it was renamed behind OpenCloud's back", name)
		}
	}
	judgeType(n.Kind, a, w)
	s.judgeOffloaded(a, n.ID, w)
	if n.Kind == catalog.KindFile {
		judgeContent(n, it.Entry, a, flaws, w)
	}
	if s.root.attrs != nil && a.has(attrSpaceID) {
		w.add(broken, false, "is marked as the root of a space, which it is not here")
	}
}

// judgeType compares with what lies there; OpenCloud believes the attribute.
func judgeType(kind catalog.Kind, a attrs, w *troubles) {
	want := cond(kind == catalog.KindFolder, typeFolder, typeFile)
	switch t := a.get(attrType); t {
	case want:
	case "":
		w.add(broken, false, "has lost its type")
	case typeFile, typeFolder:
		w.add(broken, true, "is a %s on disk, but not in its metadata: OpenCloud can't open it", kind)
	default:
		w.add(broken, false, "has an unknown type %q", t)
	}
}

// judgeContent compares what the metadata says of a live or deleted file's content with
// what lies there.
func judgeContent(n *catalog.Node, e Entry, a attrs, flaws flaws, w *troubles) {
	if flaws.size {
		n.Size = e.Size
		w.add(broken, false, "has lost its size: it is taken from the disk")
	}
	if !a.has(attrBlobID) {
		w.add(broken, false, "has lost its blob id")
	}
	judgeSums(n, flaws, w)
	if n.Pending != "" {
		return
	}
	switch written, err := time.Parse(time.RFC3339Nano, a.get(attrMTime)); {
	case err != nil:
		w.add(broken, false, "has lost its modification time: it is taken from the disk")
	case !sameTime(e.MTime, written):
		// OpenCloud reads such a file anew when it meets it.
		n.Size, n.SHA1, n.MD5, n.Adler32 = e.Size, "", "", ""
		w.add(broken, false, "was changed on disk after OpenCloud had written it on %s: size and time are those on disk", written.UTC().Format(time.RFC3339))
	}
}

// judgeSums tells of checksums that are none, and of a content without any.
func judgeSums(n *catalog.Node, flaws flaws, w *troubles) {
	if len(flaws.sums) > 0 {
		w.add(broken, false, "has malformed checksums: %s", strings.Join(flaws.sums, ", "))
	}
	if n.Size > 0 && n.SHA1 == "" && n.MD5 == "" && n.Pending == "" {
		w.add(broken, false, "has no checksums: nothing but its size proves it")
	}
}

// sameTime compares as OpenCloud does, save that the file system may keep less of a time.
func sameTime(disk, written time.Time) bool {
	for _, fine := range []time.Duration{1, 100, time.Microsecond, time.Millisecond, time.Second, 2 * time.Second} {
		if disk.Equal(written.Truncate(fine)) {
			return true
		}
	}
	return false
}

// judgeOffloaded reads the file in which grants and tags are that are too much for
// attributes. OpenCloud does not show a node without it (reva,
// decomposedfs/metadata/hybrid_backend.go, getAll).
func (s *posixSpace) judgeOffloaded(a attrs, id string, w *troubles) {
	if a.get(attrOffloaded) != "1" || id == "" {
		return
	}
	file, ok := shard(id)
	if !ok {
		return
	}
	file = path.Join(s.shelf.dir, file+".mpk")
	b, err := s.Tree.Read(s.ctx, file, maxMetadata)
	if err == nil {
		_, err = decodeMetadata(b)
	}
	if err != nil {
		w.add(unreadable, true, "OpenCloud does not show it without its grants and tags in %s: %v", file, cause(err))
	}
}

// readVersions reads the old contents of a file, the newest first.
func (s *posixSpace) readVersions(it *posixItem) {
	dir, names, err := s.shelf.versions(s.ctx, it.node.ID)
	if err != nil {
		it.wrong.add(unreadable, true, "its versions can't be listed: %v", cause(err))
		return
	}
	for _, e := range names {
		_, key, _ := strings.Cut(e.Name, revision)
		file := path.Join(dir, e.Name)
		v := catalog.Node{
			Kind: catalog.KindVersion, Space: it.node.Space, Path: it.node.Path, ID: it.node.ID,
			Trash: it.node.Trash, Deleted: it.node.Deleted, Version: key, Size: e.Size, MTime: e.MTime, At: file,
		}
		var w troubles
		switch a, err := s.Tree.Attrs(s.ctx, file, wantNode); {
		case err != nil:
			w.add(unreadable, false, "its attributes can't be read: %v", cause(err))
		case len(a) == 0:
			w.add(broken, false, "has lost its metadata: size and time are taken from the disk")
		default:
			delete(a, attrID)
			flaws := attrs(a).fill(&v)
			if flaws.size {
				w.add(broken, false, "has lost its size: it is taken from the disk")
			}
			judgeSums(&v, flaws, &w)
		}
		v.Problem = w.problem()
		it.versions = append(it.versions, v)
	}
	slices.SortFunc(it.versions, func(a, b catalog.Node) int { return strings.Compare(b.Version, a.Version) })
}

// shard is pathify for ids that come from a tree: one that would lead elsewhere is none.
func shard(id string) (string, bool) {
	p := pathify(id)
	return p, fs.ValidPath(p) && !strings.ContainsRune(id, '/') && !strings.ContainsRune(id, 0)
}

func cond(c bool, yes, no string) string {
	if c {
		return yes
	}
	return no
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
