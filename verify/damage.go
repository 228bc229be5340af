package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/holdings"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/proc"
	"github.com/ocbackup/ocbackup/repo"
)

// broken is what restic's check found damaged: packs of which nothing can be read, and
// blobs in packs that can be read for the rest.
type broken struct {
	packs, blobs []string
	data, trees  []string // the blobs in the packs: of contents, of folders' lists
	more         bool     // there are more than what is looked for
}

// mostBlobs is how many blobs of a kind are looked for: restic goes through all of a
// snapshot for each thousand.
var mostBlobs = 20_000

// limit leaves out of what is broken what is too much.
func (b *broken) limit() {
	for _, list := range []*[]string{&b.blobs, &b.data, &b.trees} {
		if len(*list) > mostBlobs {
			*list, b.more = (*list)[:mostBlobs], true
		}
	}
}

var (
	packText = regexp.MustCompile(`^pack ([0-9a-f]{64}):`)
	blobText = regexp.MustCompile(`\bblob ([0-9a-f]{64})\b`)
)

// brokenIn reads it from check's findings: "pack ID: does not exist", "pack ID contains 2
// errors: [blob ID: ...", "file "name" blob ID not found in index".
func brokenIn(findings []string) broken {
	var b broken
	for _, text := range findings {
		if m := packText.FindStringSubmatch(text); m != nil {
			b.packs = append(b.packs, m[1])
			continue
		}
		for _, m := range blobText.FindAllStringSubmatch(text, -1) {
			b.blobs = append(b.blobs, m[1])
		}
	}
	slices.Sort(b.packs)
	slices.Sort(b.blobs)
	b.packs, b.blobs = slices.Compact(b.packs), slices.Compact(b.blobs)
	return b
}

// damage is what can't be read of a root, by paths in its snapshot.
type damage struct {
	root  *manifest.Root
	files map[string]string // why, by the path
	dirs  map[string]string // folders whose lists can't be read, and with them what is below
	// seen are the folders that are left where not all could be listed; nil: all could.
	seen paths
}

// paths is a set of paths, by hashes of them: a space may have millions.
type paths map[uint64]struct{}

var seed = maphash.MakeSeed() // of those hashes

func (p paths) add(path string) { p[maphash.String(seed, path)] = struct{}{} }

func (p paths) has(path string) bool {
	_, ok := p[maphash.String(seed, path)]
	return ok
}

// goneList is why nothing can be read that is in a folder.
const goneList = "the list of its folder is damaged in the repository, or gone"

func newDamage(root *manifest.Root) *damage {
	return &damage{root: root, files: map[string]string{}, dirs: map[string]string{}}
}

// empty tells whether there is none; of a root that is gone, which is nil, all is known.
func (d *damage) empty() bool { return d == nil || len(d.files)+len(d.dirs) == 0 && d.seen == nil }

// find finds what of a root lies in what is broken. That it can't be found is no error:
// what is broken has been told already.
func (d *damage) find(ctx context.Context, r *repo.Repo, b broken) error {
	note := func(why string) func(repo.Found) error {
		return func(f repo.Found) error {
			if f.Type == "tree" {
				d.dirs[f.Path] = goneList
			} else {
				d.files[f.Path] = why
			}
			return nil
		}
	}
	_ = r.FindBlobs(ctx, d.root.Snapshot, b.data, note("it lies in a pack of the repository that is damaged or gone"))
	_ = r.FindTrees(ctx, d.root.Snapshot, b.trees, note(goneList))
	_ = r.FindBlobs(ctx, d.root.Snapshot, b.blobs, note("it is damaged in the repository"))
	return context.Cause(ctx)
}

// below tells why something can't be read that lies in a folder whose list can't be, or
// is one.
func (d *damage) below(path string, folder bool) (why string, ok bool) {
	path = string([]rune(path)) // as restic's lists have it
	if !folder {
		path = path[:strings.LastIndexByte(path, '/')]
	}
	for ; path != ""; path = path[:strings.LastIndexByte(path, '/')] {
		if why, ok := d.dirs[path]; ok {
			return why, true
		}
		if d.seen != nil && !d.seen.has(path) {
			return goneList, true
		}
	}
	return "", false
}

// lost tells whether an error says that what was stored is damaged or gone: others say
// that it is not known.
func lost(err error) bool {
	if local(err) {
		return false
	}
	var x *proc.ExitError // restic before 0.19 stumbles over folders that it can't load
	return errors.Is(err, repo.ErrDamaged) || errors.Is(err, fs.ErrNotExist) ||
		errors.As(err, &x) && strings.HasPrefix(x.Stderr, "panic: runtime error")
}

// local tells whether a system call on this host has failed: for want of room, or of the
// directory for temporary files. That the repository lacks something is no such error.
func local(err error) bool {
	var n syscall.Errno
	return errors.As(err, &n)
}

// listing is what the repository has of a root.
type listing struct{ files, bytes uint64 }

// list lists a root and calls fn with everything in it. Where the list is damaged, it
// goes on with what is left, after begin: fn is then called anew for all of it.
func (d *damage) list(ctx context.Context, r *repo.Repo, begin func(), fn func(repo.Node)) (l listing, unreadable int, err error) {
	take := func(n repo.Node) {
		if n.Type == "file" {
			l.files++
			l.bytes += n.Size
		}
		fn(n)
	}
	begin()
	listed := r.Ls(ctx, d.root.Snapshot, "", func(n repo.Node) error {
		take(n)
		return nil
	})
	if listed == nil || !lost(listed) {
		return l, 0, listed
	}
	begin()
	l = listing{}
	d.seen = paths{}
	unreadable, err = r.Walk(ctx, d.root.Snapshot, func(n repo.Node) error {
		if n.Type == "dir" { // those that it can't list, restic leaves out
			d.seen.add(n.Path)
		}
		take(n)
		return nil
	})
	if err != nil {
		return l, 0, errors.Join(listed, err)
	}
	return l, max(unreadable, 1), nil
}

// blobs tells the certificate which contents are damaged.
func (d *damage) blobs(h *certificate.Holdings) {
	for path, why := range d.files {
		if at, ok := holdings.At(d.root, path); ok {
			h.Fail(at, errors.New(why))
		}
	}
}

// nodes tells the certificate which contents lie in folders whose lists are damaged, and
// finds the nodes whose metadata are. blobs is what is damaged of contents, meta what is of
// OpenCloud's metadata: one root with driver posix. Either may be nil.
func nodes(ctx context.Context, c *catalog.File, blobs, meta *damage, h *certificate.Holdings) ([]certificate.Finding, error) {
	if blobs.empty() && meta.empty() {
		return nil, nil
	}
	spaces, err := c.Spaces()
	if err != nil {
		return nil, err
	}
	bySpace := map[string]*catalog.Space{}
	for i := range spaces {
		bySpace[spaces[i].ID] = &spaces[i]
	}
	byNode := meta.byNode()
	var out []certificate.Finding
	for n, err := range c.All() {
		if err = cmp.Or(err, context.Cause(ctx)); err != nil {
			return nil, err
		}
		s := bySpace[n.Space]
		if s == nil {
			continue
		}
		hasContent := n.At != "" && n.Kind != catalog.KindFolder && n.Size > 0
		if hasContent && !blobs.empty() {
			if why, ok := blobs.below(holdings.Path(blobs.root, n.At), false); ok {
				h.Fail(n.At, errors.New(why))
				continue // which the certificate tells
			}
		}
		if meta.empty() {
			continue
		}
		why, ok := "", false
		switch {
		case c.Driver() != opencloud.Posix:
			why, ok = meta.ofNode(byNode, s, n)
		case !hasContent && n.Trash == "":
			why, ok = meta.below(holdings.Path(meta.root, s.Dir+n.Path), n.Kind == catalog.KindFolder)
		}
		if ok {
			out = append(out, certificate.Finding{
				Class: certificate.Unreadable, Fatal: true, Space: n.Space, SpaceName: s.Name, Path: n.Path, Kind: n.Kind,
				Version: n.Version, Trash: n.Trash, Node: n.ID, Blob: n.Blob, At: n.At, Text: "its metadata can't be read: " + why,
			})
		}
	}
	return out, nil
}

// byNode are the damaged metadata files of driver decomposed, by what nodes have them
// (reva, pkg/storage/pkg/decomposedfs): nodes/aa/bb/cc/dd/-rest.mpk, of a version with
// .REV. and its time before the end, of a trash item with .T. and its time.
func (d *damage) byNode() map[string]string {
	out := map[string]string{}
	if d.empty() {
		return out
	}
	for path, why := range d.files {
		if file, ok := strings.CutSuffix(path, ".mpk"); ok {
			out[trashTime.ReplaceAllString(file, ".T")] = why
		}
	}
	return out
}

func (d *damage) ofNode(byNode map[string]string, s *catalog.Space, n *catalog.Node) (why string, ok bool) {
	path := holdings.Path(d.root, s.Dir+"/nodes/"+scatter(n.ID))
	own := path
	switch {
	case n.Kind == catalog.KindVersion:
		own += ".REV." + n.Version
	case n.Item:
		own += ".T"
	}
	if why, ok = byNode[own]; !ok {
		why, ok = d.below(path, false)
	}
	return why, ok
}

// trashTime is what the files of a trash item have behind the node's id.
var trashTime = regexp.MustCompile(`\.T\.[^/]*$`)

// scatter is where the decomposed driver keeps something, by its id: aa/bb/cc/dd/-rest.
func scatter(id string) string {
	if len(id) < 8 {
		return id
	}
	return fmt.Sprintf("%s/%s/%s/%s/%s", id[:2], id[2:4], id[4:6], id[6:8], id[8:])
}

// examples names some of the files of a root that holds no nodes' contents: those are
// named by the certificate.
func (d *damage) examples() string {
	root := d.root
	if root.Has(opencloud.Blobs) || root.Has(opencloud.Metadata) {
		return ""
	}
	var names []string
	for path := range d.files {
		names = append(names, path)
	}
	slices.Sort(names)
	const most = 3
	more := ""
	if len(names) > most {
		names, more = names[:most], ", ..."
	}
	return ": " + strings.Join(names, ", ") + more
}
