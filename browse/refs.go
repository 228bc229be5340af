package browse

import (
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// Refs names the spaces of a set so that each name leads back to its space: by the
// name that users know, else the alias, else the id.
type Refs struct {
	spaces map[string]*catalog.Space
	refs   map[string]string
}

// RefsOf names these spaces, which are all of a set's.
func RefsOf(spaces []catalog.Space) *Refs {
	meant := map[string]int{} // how many spaces a text may mean
	for i := range spaces {
		s := &spaces[i]
		meant[s.ID]++
		if s.Name != s.ID {
			meant[s.Name]++
		}
		if s.Alias != s.ID && s.Alias != s.Name {
			meant[s.Alias]++
		}
	}
	r := &Refs{map[string]*catalog.Space{}, map[string]string{}}
	for i := range spaces {
		s := &spaces[i]
		ref := s.ID
		for _, name := range []string{s.Name, s.Alias} {
			if meant[name] == 1 && writable(name) {
				ref = name
				break
			}
		}
		r.spaces[s.ID], r.refs[s.ID] = s, ref
	}
	return r
}

// writable reports whether a name means a space wherever it is written: it is no flag,
// no SPACE:/path, no set.
func writable(name string) bool {
	return name != "" && !strings.HasPrefix(name, "-") && !strings.Contains(name, ":/") && !strings.HasSuffix(name, ":") && !strings.Contains(name, "\x00")
}

// Space returns a space by its id; nil for one that the set does not have.
func (r *Refs) Space(id string) *catalog.Space { return r.spaces[id] }

// Place names what is at a path of a space, by its id: SPACE:/path, to be quoted.
func (r *Refs) Place(space, path string) string {
	ref, ok := r.refs[space]
	if !ok {
		ref = space
	}
	return ref + ":" + path
}
