package certificate

import (
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
)

// accepted are losses that somebody knows of and can't mend: by SPACE:/path, all that is
// at that path and below it, its versions, and what was deleted from there.
type accepted map[string][]string // paths, by space

func acceptedOf(places []string) accepted {
	a := accepted{}
	for _, p := range places {
		if space, path, ok := strings.Cut(p, ":/"); ok {
			a[space] = append(a[space], strings.TrimSuffix("/"+path, "/"))
		}
	}
	return a
}

// has tells whether what is lost at a path is accepted. A space goes by its id, its name
// or its alias.
func (a accepted) has(s *catalog.Space, path string) bool {
	for _, name := range []string{s.ID, s.Name, s.Alias} {
		for _, p := range a[name] {
			if rest, ok := strings.CutPrefix(path, p); ok && (rest == "" || rest[0] == '/') {
				return true
			}
		}
	}
	return false
}
