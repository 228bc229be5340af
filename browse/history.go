package browse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
)

// The states in which a set has a content, the best first.
const (
	Current = "current" // what users saw at that path
	Version = "version" // an older version of the file
	Trash   = "trash"   // deleted, and not yet purged
)

// Content is one content that a path has had, in however many sets. docs/json.md
// describes it.
type Content struct {
	Kind  catalog.Kind `json:"kind"` // folder or file
	Size  int64        `json:"size"`
	MTime time.Time    `json:"mtime,omitzero"` // in the last set that has it
	SHA1  string       `json:"sha1,omitempty"`
	// First and Last are the oldest and the newest set that has it, Sets is how many do.
	First string `json:"first"`
	Last  string `json:"last"`
	Sets  int    `json:"sets"`
	// Where says how Last has it: current, version or trash. Version is the key of the
	// version, Trash that of the item in the trash, which may be that of a folder above it.
	Where   string    `json:"where"`
	Version string    `json:"version,omitempty"`
	Trash   string    `json:"trash,omitempty"`
	Deleted time.Time `json:"deleted,omitzero"`
	// Lost is the newest set that names it, and has lost it: what is there is missing or
	// another content. Such sets do not count as having it; when none has it, First, Last
	// and Get are empty.
	Lost string `json:"lost,omitempty"`
	// Get are the arguments with which "ocbackup get" brings it back.
	Get []string `json:"get,omitempty"`

	key string
}

// Skipped is a set that could not be looked into.
type Skipped struct {
	Set    string `json:"set"`
	Reason string `json:"reason"`
}

// Trail is what history finds out; docs/json.md describes it.
type Trail struct {
	Place string `json:"place"` // what was looked for
	Space string `json:"space"` // its id
	Path  string `json:"path"`
	// Searched is how many sets were looked into.
	Searched int `json:"searched"`
	// Newest is the last of them.
	Newest  string    `json:"newest,omitempty"`
	Skipped []Skipped `json:"skipped,omitempty"`
	// Contents are sorted: what was seen last comes first.
	Contents []*Content `json:"contents"`
	// Damage is why some of the skipped sets were: they are damaged. It carries its code.
	Damage error `json:"-"`
}

// Sources are where History reads sets.
type Sources struct {
	// Open opens the catalog of a set. A set for which its error is a fail.Usage or
	// fail.Inconsistent is skipped, others end the search.
	Open func(*manifest.Set) (*catalog.File, error)
	// Certificate reads the certificate of a set that is inconsistent.
	Certificate func(*manifest.Set) (*certificate.Certificate, error)
}

// History follows a place through sets, which are in order, oldest first: by the space's
// id, which is found by its name in the newest set that has such a space, and the path.
// The error of a space that no set has is that of the newest set.
func History(ctx context.Context, sets []manifest.Set, place Place, from Sources) (*Trail, error) {
	t := &Trail{Place: place.Space + ":" + place.Path, Path: place.Path, Contents: []*Content{}}
	h := &history{Trail: t, sets: sets, name: place.Space, byKey: map[string]*Content{}, opened: map[int]*catalog.File{}, skips: map[int]error{}, from: from}
	defer h.close()
	if err := h.findSpace(ctx); err != nil {
		return nil, err
	}
	for i := range sets {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f, err := h.get(i)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if err := h.look(&sets[i], f); err != nil {
			h.skip(i, fail.Wrap(fail.Inconsistent, err, "read the catalog", ""))
		} else {
			t.Searched++
			t.Newest = sets[i].ID
		}
		h.release(i)
	}
	for i := range sets {
		if err := h.skips[i]; err != nil {
			t.Skipped = append(t.Skipped, Skipped{sets[i].ID, err.Error()})
			if fail.CodeOf(err) == fail.Inconsistent {
				t.Damage = errors.Join(t.Damage, fmt.Errorf("set %s: %w", sets[i].ID, err))
			}
		}
	}
	slices.SortStableFunc(t.Contents, func(a, b *Content) int {
		return cmp.Or(
			strings.Compare(max(b.Last, b.Lost), max(a.Last, a.Lost)), rank(a.Where)-rank(b.Where),
			b.Deleted.Compare(a.Deleted), strings.Compare(a.Trash, b.Trash),
			cmpBool(a.Version != "", b.Version != ""), strings.Compare(b.Version, a.Version),
		)
	})
	return t, nil
}

type history struct {
	*Trail
	sets   []manifest.Set
	byKey  map[string]*Content
	opened map[int]*catalog.File
	skips  map[int]error
	from   Sources
	lost   []certificate.Finding // of the set that is looked into, at the path
	name   string                // of the space, as the user wrote it
	ref    string                // of the space in the set that is looked into
}

// findSpace finds the space's id.
func (h *history) findSpace(ctx context.Context) error {
	var unknown *catalog.NotFoundError
	var first error
	for i := len(h.sets) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f, err := h.get(i)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		s, err := f.Resolve(h.name)
		switch {
		case err == nil:
			h.Space = s.ID
			return nil
		case !errors.As(err, &unknown):
			return fmt.Errorf("set %s: %w", h.sets[i].ID, err)
		case first == nil:
			first = fmt.Errorf("set %s: %w", h.sets[i].ID, err)
		}
		h.release(i) // opened again when its turn comes
	}
	for i := len(h.sets) - 1; i >= 0 && first == nil; i-- {
		first = h.skips[i]
	}
	return first
}

// get opens the catalog of a set; nil where there is none to be had.
func (h *history) get(i int) (*catalog.File, error) {
	if f, ok := h.opened[i]; ok || h.skips[i] != nil {
		return f, nil
	}
	f, err := h.from.Open(&h.sets[i])
	if code := fail.CodeOf(err); code == fail.Usage || code == fail.Inconsistent {
		h.skip(i, err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h.opened[i] = f
	return f, nil
}

func (h *history) skip(i int, err error) { h.skips[i] = err }

func (h *history) release(i int) {
	_ = h.opened[i].Close()
	delete(h.opened, i)
}

func (h *history) close() {
	for i := range h.opened {
		h.release(i)
	}
}

// look adds what one set has at the path.
func (h *history) look(s *manifest.Set, f *catalog.File) error {
	if err := h.findLost(s); err != nil {
		return err
	}
	h.ref = h.Space
	if space, err := f.Resolve(h.name); err == nil && space.ID == h.Space {
		h.ref = h.name // it may have had another name then
	}
	n, err := f.Lookup(h.Space, h.Path)
	switch {
	case err == nil:
		h.add(s, n, Current)
		if n.Kind == catalog.KindFile {
			versions, err := f.Versions(h.Space, h.Path)
			if err != nil {
				return err
			}
			for i := range versions {
				h.add(s, &versions[i], Version)
			}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for n, err := range f.Trash(h.Space, h.Path) {
		if errors.Is(err, fs.ErrNotExist) {
			break // there was no such space
		}
		if err != nil {
			return err
		}
		if n.Path != h.Path {
			break // below it
		}
		h.add(s, n, Trash)
	}
	return nil
}

// add notes that a set has a content. Sets come oldest first, and what a set has in
// better states first.
func (h *history) add(s *manifest.Set, n *catalog.Node, where string) {
	key := identity(n)
	c := h.byKey[key]
	if c == nil {
		c = &Content{Kind: n.Kind, key: key, Size: n.Size, MTime: n.MTime, SHA1: n.SHA1}
		if n.Kind == catalog.KindVersion {
			c.Kind = catalog.KindFile
		}
		h.byKey[key], h.Contents = c, append(h.Contents, c)
	}
	if c.Last == s.ID {
		return
	}
	if h.isLost(n) {
		c.Lost = s.ID
		if c.Last == "" {
			c.Where, c.Version, c.Trash, c.Deleted = where, n.Version, n.Trash, n.Deleted
		}
		return
	}
	c.First = cmp.Or(c.First, s.ID)
	c.Last, c.Where = s.ID, where
	c.Version, c.Trash, c.Deleted = n.Version, n.Trash, n.Deleted
	c.Size, c.MTime, c.SHA1 = n.Size, n.MTime, n.SHA1
	c.Sets++
	c.Get = append([]string{s.ID, h.ref + ":" + h.Path}, GetFlags(n)...)
}

// findLost finds what a set has lost of what is at the path.
func (h *history) findLost(s *manifest.Set) error {
	h.lost = nil
	if !s.Inconsistent() {
		return nil
	}
	c, err := h.from.Certificate(s)
	if err != nil {
		return err
	}
	for _, f := range c.Findings {
		if f.Fatal && f.Space == h.Space && f.Path == h.Path {
			h.lost = append(h.lost, f)
		}
	}
	return nil
}

// isLost tells whether the set that is looked into has lost a node's content.
func (h *history) isLost(n *catalog.Node) bool {
	return slices.ContainsFunc(h.lost, func(f certificate.Finding) bool {
		return f.Kind == n.Kind && f.Version == n.Version && f.Trash == n.Trash
	})
}

// identity is the same of nodes with the same content.
func identity(n *catalog.Node) string {
	switch {
	case n.Kind == catalog.KindFolder || n.Kind == catalog.KindSpace:
		return "folder"
	case n.Size == 0:
		return "empty"
	case n.SHA1 != "":
		return fmt.Sprint("sha1 ", n.SHA1, " ", n.Size)
	case n.MD5 != "":
		return fmt.Sprint("md5 ", n.MD5, " ", n.Size)
	case n.Blob != "":
		return fmt.Sprint("blob ", n.Blob, " ", n.Size)
	}
	return fmt.Sprint("node ", n.ID, " ", n.Size, " ", n.MTime.UnixNano())
}

// GetFlags are the flags of "ocbackup get" that name this node among those that have
// its path.
func GetFlags(n *catalog.Node) []string {
	var flags []string
	if n.Trash != "" {
		flags = append(flags, "--trash", "--item", n.Trash)
	}
	if n.Version != "" {
		flags = append(flags, "--version", n.Version)
	}
	return flags
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func rank(where string) int { return slices.Index([]string{Current, Version, Trash}, where) }
