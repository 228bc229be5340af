package restore

import (
	"path"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud"
)

// holds reports whether what lies at rel, relative to the root's path, belongs to
// the root. The root's own directory (".") does, unless only some of what is in it
// is included.
func holds(r opencloud.Root, rel string) bool {
	if rel == "." {
		return len(r.Include) == 0
	}
	if matches(r.Exclude, rel) {
		return false
	}
	return len(r.Include) == 0 || matches(r.Include, rel)
}

// leads reports whether something that the root includes may lie below rel.
func leads(r opencloud.Root, rel string) bool {
	if rel == "." {
		return len(r.Include) > 0
	}
	if matches(r.Exclude, rel) {
		return false
	}
	n := strings.Count(rel, "/") + 1
	for _, g := range r.Include {
		parts := strings.Split(g, "/")
		if len(parts) <= n {
			continue
		}
		if ok, err := path.Match(strings.Join(parts[:n], "/"), rel); err == nil && ok {
			return true
		}
	}
	return false
}

// matches reports whether one of the globs matches rel or a directory above it.
func matches(globs []string, rel string) bool {
	for _, g := range globs {
		for p := rel; p != "."; p = path.Dir(p) {
			if ok, err := path.Match(g, p); err == nil && ok {
				return true
			}
		}
	}
	return false
}
