package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// NotFoundError tells that no space is meant by Ref.
type NotFoundError struct {
	Ref string
	// Near are names and aliases that Ref may be a slip of, the nearest first.
	Near []string
}

func (e *NotFoundError) Error() string {
	if len(e.Near) == 0 {
		return fmt.Sprintf("there is no space %q", e.Ref)
	}
	quoted := make([]string, len(e.Near))
	for i, name := range e.Near {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("there is no space %q; did you mean %s?", e.Ref, strings.Join(quoted, " or "))
}

// AmbiguousError tells that several spaces are meant by Ref.
type AmbiguousError struct {
	Ref    string
	Spaces []Space // in the order of their ids
}

func (e *AmbiguousError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q may be any of %d spaces; say which by its id or alias:", e.Ref, len(e.Spaces))
	for i, s := range e.Spaces {
		if i == maxListed {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Spaces)-i)
			break
		}
		disabled := ""
		if !s.Disabled.IsZero() {
			disabled = ", disabled"
		}
		fmt.Fprintf(&b, "\n  %s  %s  %q, %d files%s", s.ID, s.Alias, s.Name, s.Counts.Files, disabled)
	}
	return b.String()
}

const (
	maxListed = 20
	maxNear   = 3
)

// Resolve finds the space that an admin means: by its id, also in OpenCloud's form
// storageid$id, whose first part it does not look at; else by its name or alias; else by
// these in other case; else by the beginning of its id. The first of these that any space
// meets counts. Errors are *NotFoundError and *AmbiguousError, or of the file.
func (f *File) Resolve(ref string) (Space, error) {
	all, err := f.Spaces()
	if err != nil {
		return Space{}, err
	}
	id := ref
	if _, after, ok := strings.Cut(ref, "$"); ok {
		id = after
	}
	for _, means := range []func(*Space) bool{
		func(s *Space) bool { return s.ID == ref },
		func(s *Space) bool { return s.ID == id },
		func(s *Space) bool { return s.Name == ref || s.Alias == ref },
		func(s *Space) bool { return strings.EqualFold(s.Name, ref) || strings.EqualFold(s.Alias, ref) },
		func(s *Space) bool { return strings.HasPrefix(s.ID, ref) },
		func(s *Space) bool { return id != "" && strings.HasPrefix(s.ID, id) },
	} {
		var found []Space
		for i := range all {
			if ref != "" && means(&all[i]) {
				found = append(found, all[i])
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		return Space{}, &AmbiguousError{Ref: ref, Spaces: found}
	}
	return Space{}, &NotFoundError{Ref: ref, Near: near(ref, all)}
}

// near lists the names and aliases that are most like ref, if they are like it.
func near(ref string, spaces []Space) []string {
	type candidate struct {
		name     string
		distance int
	}
	var all []candidate
	ref = strings.ToLower(ref)
	for _, s := range spaces {
		for _, name := range []string{s.Name, s.Alias} {
			d := levenshtein.ComputeDistance(ref, strings.ToLower(name))
			// Part of a name is what people type when they don't remember it all.
			if part := len(ref) > 2 && strings.Contains(strings.ToLower(name), ref); name != "" && (part || d <= max(1, len(ref)/3)) {
				all = append(all, candidate{name, d})
			}
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range slices.Compact(all) {
		if names = append(names, c.name); len(names) == maxNear {
			break
		}
	}
	return names
}
