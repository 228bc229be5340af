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
	// Get are the arguments with which "ocbackup get" brings it back.
	Get []string `json:"get"`

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
	Searched int       `json:"searched"`
	Skipped  []Skipped `json:"skipped,omitempty"`
	// Contents are sorted: what was seen last comes first.
	Contents []*Content `json:"contents"`
	// Damage is why some of the skipped sets were: they are damaged. It carries its code.
	Damage error `json:"-"`
}

// History follows a place through sets, which are in order, oldest first: by the space's
// id, which is found by its name in the newest set that has such a space, and the path.
// open opens a catalog; a set for which its error is a fail.Usage or fail.Inconsistent
// is skipped, others end the search. The error of a space that no set has is that of
// the newest set.
func History(ctx context.Context, sets []manifest.Set, place Place, open func(*manifest.Set) (*catalog.File, error)) (*Trail, error) {
	t := &Trail{Place: place.Space + ":" + place.Path, Path: place.Path, Contents: []*Content{}}
	h := &history{Trail: t, sets: sets, name: place.Space, byKey: map[string]*Content{}, opened: map[int]*catalog.File{}, skips: map[int]error{}, open: open}
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
			strings.Compare(b.Last, a.Last), rank(a.Where)-rank(b.Where),
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
	open   func(*manifest.Set) (*catalog.File, error)
	name   string // of the space, as the user wrote it
	ref    string // of the space in the set that is looked into
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
	f, err := h.open(&h.sets[i])
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
		c = &Content{First: s.ID, Kind: n.Kind, key: key}
		if n.Kind == catalog.KindVersion {
			c.Kind = catalog.KindFile
		}
		h.byKey[key], h.Contents = c, append(h.Contents, c)
	}
	if c.Last == s.ID {
		return
	}
	c.Last, c.Where = s.ID, where
	c.Version, c.Trash, c.Deleted = n.Version, n.Trash, n.Deleted
	c.Size, c.MTime, c.SHA1 = n.Size, n.MTime, n.SHA1
	c.Sets++
	c.Get = append([]string{s.ID, h.ref + ":" + h.Path}, GetFlags(n)...)
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
