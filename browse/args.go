// Package browse is what the commands that look into sets have in common: how people
// name things in them, how names are printed, and what is found out over several sets.
package browse

import (
	"regexp"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
)

// Place names something in a set as people do: SPACE:/path.
type Place struct {
	Space string // a name, an alias, an id or the beginning of one
	Path  string // begins with "/", which is the space's root, and does not end with another
}

// setRef is what is taken for a set where it could be a space: an id, or the
// beginning of one from the year on.
var setRef = regexp.MustCompile(`^\d{4,8}$|^\d{8}T\d{0,6}$|^\d{8}T\d{6}Z(-[0-9a-f]{0,4})?$`)

// IsSet reports whether an argument that may be a set or a space is a set: "latest", an
// id, or the beginning of one. A space of such a name is written with ":/".
func IsSet(arg string) bool { return arg == manifest.Latest || setRef.MatchString(arg) }

// ParsePlace takes SPACE:/path apart, at the first ":/" (or at the ":" at its end).
// What has neither is a space, and means its root.
func ParsePlace(arg string) (Place, error) {
	space, path, ok := strings.Cut(arg, ":/")
	if !ok {
		space = strings.TrimSuffix(arg, ":")
	}
	if space == "" {
		return Place{}, fail.Usagef("write SPACE:/path; \"ocbackup spaces\" lists the spaces", "%q names no space", arg)
	}
	p := Place{Space: space, Path: "/"}
	for e := range strings.SplitSeq(path, "/") {
		if e != "" {
			p.Path = strings.TrimSuffix(p.Path, "/") + "/" + e
		}
	}
	return p, nil
}

// ParseArgs tells the arguments [SET] [SPACE[:/path]] apart. set is "" where none is
// named; place is nil without one.
func ParseArgs(args []string) (set string, place *Place, err error) {
	switch {
	case len(args) > 2:
		return "", nil, fail.Usagef("quote what has spaces in it: 'SPACE:/path'", "there are %d arguments, and two are the most: SET and SPACE:/path", len(args))
	case len(args) == 2:
		set, args = args[0], args[1:]
	case len(args) == 1 && IsSet(args[0]):
		return args[0], nil, nil
	}
	if len(args) == 0 {
		return set, nil, nil
	}
	p, err := ParsePlace(args[0])
	return set, &p, err
}
