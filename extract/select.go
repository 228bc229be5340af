package extract

import (
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/shellword"

	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
)

// selection is what is brought.
type selection struct {
	top     *catalog.Node
	rel     string  // where the top goes: its name; "" for a space whose contents go to a space
	folders []*item // parents first
	empty   []*item // files without content
	blobs   []*blob // sorted by at
	skipped []skippedItem
	// tops are the names that what takes it must not have yet.
	tops []string
}

type skippedItem struct {
	it    *item
	fault *fault
}

func (s *selection) total() (a amount) {
	a.files = uint64(len(s.empty))
	for _, b := range s.blobs {
		for _, it := range b.items {
			a.files++
			a.bytes += uint64(it.size)
		}
	}
	return a
}

func (s *selection) result(r *run) *Result {
	res := &Result{
		Set: r.Set.ID, Space: r.Space.ID, SpaceName: r.Space.Name, Path: s.top.Path, Kind: catalog.KindFolder,
		Version: s.top.Version, Item: s.top.Trash, Skipped: []Skipped{}, Sources: []*Source{},
	}
	if s.top.Kind == catalog.KindFile || s.top.Kind == catalog.KindVersion {
		res.Kind = catalog.KindFile
	}
	if r.Path == "/" {
		res.Kind = catalog.KindSpace
	}
	return res
}

// choose finds what the options name in the catalog.
func (r *run) choose() (*selection, error) {
	r.Path = path.Clean("/" + r.Path)
	top, err := r.find()
	if err != nil {
		return nil, err
	}
	s := &selection{top: top}
	switch {
	case r.Path != "/":
		s.rel = path.Base(top.Path)
	case r.Upload == nil || r.Upload.Folder != "":
		s.rel = safeName(r.Space.Name, r.Space.ID)
	}
	if r.Stdout != nil && top.Kind != catalog.KindFile && top.Kind != catalog.KindVersion {
		return nil, fail.Usagef("name a directory: --to DIR", "%s is a folder; only a file can go to standard output", r.place())
	}
	if err := s.gather(r, top); err != nil {
		return nil, err
	}
	return s, nil
}

// place is what is brought, for people.
func (r *run) place() string { return shellword.Visible(r.Space.Name + ":" + r.Path) }

// find finds the node: the present one, or one of its versions, or what is in the trash.
func (r *run) find() (*catalog.Node, error) {
	if r.Trash {
		return r.findTrash()
	}
	if r.Item != "" {
		return nil, fail.Usagef("add --trash", "--item names something in the trash")
	}
	n, err := r.Catalog.Lookup(r.Space.ID, r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, r.notFound()
	}
	if err != nil {
		return nil, r.unreadable(err)
	}
	if r.Version == "" {
		return n, nil
	}
	if n.Kind != catalog.KindFile {
		return nil, fail.Usagef("leave --version out", "%s is a folder: only files have versions", r.place())
	}
	versions, err := r.Catalog.Versions(r.Space.ID, r.Path)
	if err != nil {
		return nil, r.unreadable(err)
	}
	return r.pickVersion(versions)
}

// notFound tells of a path that nothing has where else it was seen.
func (r *run) notFound() error {
	for n, err := range r.Catalog.Trash(r.Space.ID, r.Path) {
		if err == nil && n.Path == r.Path {
			return fail.Usagef("add --trash to get it", "set %s has %s in the trash only", r.Set.ID, r.place())
		}
		break
	}
	return fail.Usagef("ocbackup history tells where it was; ocbackup find looks for a name", "set %s has no %s", r.Set.ID, r.place())
}

func (r *run) unreadable(err error) error {
	if fail.CodeOf(err) != fail.Failed {
		return err
	}
	return fail.Wrap(fail.Inconsistent, err, "read the catalog of set "+r.Set.ID, "\"ocbackup verify\" tells what is damaged; other sets may be sound")
}

// pickVersion finds the version that the options name among those of a file, newest
// first.
func (r *run) pickVersion(versions []catalog.Node) (*catalog.Node, error) {
	var keys []string
	for _, v := range versions {
		keys = append(keys, v.Version)
	}
	hint := "ocbackup history lists them"
	if len(keys) == 0 {
		return nil, fail.Usagef("leave --version out, or look into other sets: ocbackup history", "%s has no versions in set %s", r.place(), r.Set.ID)
	}
	if i, err := strconv.Atoi(r.Version); err == nil && len(r.Version) < 4 {
		if i < 1 || i > len(versions) {
			return nil, fail.Usagef(hint, "%s has %s in set %s, from 1 (the newest): there is no version %d",
				r.place(), english.Plural(len(versions), "version", ""), r.Set.ID, i)
		}
		return &versions[i-1], nil
	}
	i, err := pick(keys, r.Version)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "the versions of "+r.place(), hint)
	}
	return &versions[i], nil
}

// pick finds the one key that is, or begins with, what was given.
func pick(keys []string, given string) (int, error) {
	if i := slices.Index(keys, given); i >= 0 {
		return i, nil
	}
	found := -1
	for i, k := range keys {
		if !strings.HasPrefix(k, given) {
			continue
		}
		if found >= 0 && keys[found] != k {
			return 0, errors.New(strconv.Quote(given) + " is the beginning of " + keys[found] + " and of " + k)
		}
		found = i
	}
	if found < 0 {
		return 0, errors.New("none has the key " + strconv.Quote(given) + "; there are " + strings.Join(keys, ", "))
	}
	return found, nil
}

// findTrash finds what was at the path when it was deleted, itself or with a folder
// that it was in.
func (r *run) findTrash() (*catalog.Node, error) {
	if r.Path == "/" {
		return nil, fail.Usagef("\"ocbackup ls --trash\" lists what there is", "name one item of the trash of %s, by the path that it had", r.Space.Name)
	}
	var all, versions []catalog.Node
	for n, err := range r.Catalog.Trash(r.Space.ID, r.Path) {
		if err != nil {
			return nil, r.unreadable(err)
		}
		switch {
		case n.Path != r.Path:
		case n.Kind == catalog.KindVersion:
			versions = append(versions, *n)
		default:
			all = append(all, *n)
		}
	}
	if len(all) == 0 {
		return nil, fail.Usagef("\"ocbackup ls --trash\" lists what there is; ocbackup history looks into other sets", "the trash of set %s has no %s", r.Set.ID, r.place())
	}
	slices.SortStableFunc(all, func(a, b catalog.Node) int {
		return cmp.Or(b.Deleted.Compare(a.Deleted), strings.Compare(b.Trash, a.Trash))
	})
	i := 0
	if r.Item != "" {
		var keys []string
		for _, n := range all {
			keys = append(keys, n.Trash)
		}
		var err error
		if i, err = pick(keys, r.Item); err != nil {
			return nil, fail.Wrap(fail.Usage, err, "what was deleted from "+r.place(), "\"ocbackup ls --trash\" lists the keys")
		}
	} else if len(all) > 1 {
		note := "Deleted from this path were several, of which this is the last. The others:"
		for _, n := range all[1:] {
			note += "\n  --item " + n.Trash + "  deleted " + n.Deleted.Local().Format("2006-01-02 15:04:05")
		}
		r.Report.Note(note)
	}
	n := &all[i]
	if r.Version == "" {
		return n, nil
	}
	return r.pickVersion(slices.DeleteFunc(versions, func(v catalog.Node) bool { return v.Trash != n.Trash }))
}

// nodes gives the top and all below it.
func (r *run) nodes(top *catalog.Node) iter.Seq2[*catalog.Node, error] {
	if top.Kind == catalog.KindFile || top.Kind == catalog.KindVersion {
		return func(yield func(*catalog.Node, error) bool) { yield(top, nil) }
	}
	if r.Trash {
		return r.Catalog.Trash(r.Space.ID, r.Path)
	}
	return r.Catalog.Walk(r.Space.ID, r.Path)
}

// gather sorts what is brought into folders, empty files, and contents.
func (s *selection) gather(r *run, top *catalog.Node) error {
	contents := map[string]*blob{}
	last, file := "", "" // where the last item went, and the last file
	first := true
	for n, err := range r.nodes(top) {
		if err != nil {
			return r.unreadable(err)
		}
		if n.Kind == catalog.KindVersion && top.Kind != catalog.KindVersion || n.Trash != top.Trash {
			continue
		}
		rel, ok := s.place(top, n)
		if !ok {
			continue
		}
		it, f := newItem(n, rel)
		switch {
		case rel == "":
			continue // the root of the space that takes it
		case !first && rel == last:
			f = &fault{Exists, "the catalog has something else of this name"}
		case file != "" && strings.HasPrefix(rel, file+"/"):
			f = &fault{Exists, "what it lies in is a file"}
		case f == nil && !it.folder && n.At == "" && n.Size > 0:
			f = &fault{Missing, "the metadata does not say where its content is"}
		case f == nil && !it.folder && n.At == "":
			f = r.noFile(n)
		}
		if first, last = false, rel; !it.folder && f == nil {
			file = rel
		}
		if n := len(s.tops); !strings.Contains(rel, "/") && (n == 0 || s.tops[n-1] != rel) { // nodes come sorted
			s.tops = append(s.tops, rel)
		}
		switch {
		case f != nil:
			if it.pending {
				f.class = Pending
			}
			s.skipped = append(s.skipped, skippedItem{it, f})
		case it.folder:
			s.folders = append(s.folders, it)
		case n.Size == 0 && !it.loose:
			s.empty = append(s.empty, it)
		default:
			b := contents[n.At]
			if b == nil {
				b = &blob{at: strings.Clone(n.At)}
				contents[b.at] = b
				s.blobs = append(s.blobs, b)
			}
			b.items = append(b.items, it)
		}
	}
	sortBlobs(s.blobs)
	return nil
}

// noFile tells of a node without content that it is not because the file is empty.
func (r *run) noFile(n *catalog.Node) *fault {
	switch p := n.Problem; {
	case p == nil:
		return nil
	case p.Fatal || p.Class == string(Unreadable):
		return &fault{Unreadable, p.Text}
	case r.Catalog.Driver() == opencloud.Posix: // where an empty file is one on disk
		return &fault{Refused, p.Text}
	}
	return nil
}

// sortBlobs sorts blobs in the order in which a walk meets them.
func sortBlobs(blobs []*blob) {
	slices.SortFunc(blobs, func(a, b *blob) int { return catalog.ComparePaths(a.at, b.at) })
}

// place is where a node goes. It is not part of the selection when it is not below the
// top, whatever the catalog says.
func (s *selection) place(top, n *catalog.Node) (rel string, ok bool) {
	if n.Path == top.Path {
		return s.rel, true
	}
	below, ok := strings.CutPrefix(n.Path, strings.TrimSuffix(top.Path, "/")+"/")
	if s.rel == "" {
		return below, ok
	}
	return s.rel + "/" + below, ok
}
