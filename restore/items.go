package restore

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/snapshot"
)

// item is a root of the set on its way back.
type item struct {
	manifest.Root
	target string // where it goes on this host, with symbolic links resolved
	// link is where a symbolic link to the target is to be made, because the root's
	// configured path was one; empty: none.
	link  string
	group *group
	// driver is set for what is copied from a snapshot that is kept on this host, and view
	// is where that can be read.
	driver snapshot.Driver
	view   string
}

// partial tells whether the root is only some of what is in its directory.
func (it *item) partial() bool { return len(it.Include) > 0 }

// absent tells whether the set has nothing for the root: there was nothing, and so
// what is there now gives way to nothing.
func (it *item) absent() bool { return it.Snapshot == "" }

// rootless tells whether the root is the file system's root itself, which has no
// name in its snapshot.
func (it *item) rootless() bool { return it.Entry == "" || it.Entry == "." || it.Entry == "/" }

// group is a tree that is staged as one: a root with those that are nested in it.
type group struct {
	outer *item
	items []*item // innermost first, the outer one last
	// anchor is the directory, on the file system of the target, that takes the
	// staging and the old data.
	anchor string
	stage  string // directory of the staged tree
	aside  string // directory that takes the old data
}

// top is where the outer root is staged.
func (g *group) top() string {
	if g.outer.rootless() {
		return filepath.Join(g.stage, "root")
	}
	return filepath.Join(g.stage, g.outer.Entry)
}

// staged is where what goes to the path p is staged.
func (g *group) staged(p string) string {
	rel, ok := paths.Below(g.outer.target, p)
	if !ok {
		return g.top()
	}
	return filepath.Join(g.top(), rel)
}

// isOutput tells whether a root is a stream in the repository, not a place on
// disk: a container image, or what a command printed.
func isOutput(x manifest.Root) bool { return x.Path == "" }

// choose makes the list of the roots to restore, and of those that are not.
func choose(m *manifest.Manifest, want []opencloud.Component) (items []*item, not []manifest.Root, err error) {
	for _, c := range want {
		if !slices.Contains(m.Components, c) {
			return nil, nil, fail.Usagef("choose among "+join(m.Components)+", or another set (ocbackup list)",
				"set %s does not hold component %q", m.Set, c)
		}
	}
	for _, x := range m.Roots {
		chosen := len(want) == 0 || slices.ContainsFunc(x.Components, func(c opencloud.Component) bool { return slices.Contains(want, c) })
		switch {
		case chosen && isOutput(x):
			not = append(not, x)
		case chosen:
			items = append(items, &item{Root: x})
		}
	}
	return items, not, nil
}

// locate finds out where each item goes on this host.
func locate(items []*item, maps mapper) error {
	for _, it := range items {
		real := it.Real
		if real == "" {
			real = it.Path // an absent root
		}
		p := maps.path(it.Path)
		t, err := resolve(p)
		if err != nil {
			return fmt.Errorf("root %s: %w", it.Name, err)
		}
		if real != it.Path && !paths.Exists(p) {
			// The configured path led there through a symbolic link, which is gone here.
			if t, err = resolve(maps.path(real)); err != nil {
				return fmt.Errorf("root %s: %w", it.Name, err)
			}
			if t != p {
				it.link = p
			}
		}
		it.target = t
	}
	dropLinks(items)
	for _, it := range items {
		for _, l := range items {
			if rel, ok := paths.Below(l.link, it.target); ok && l.link != "" {
				it.target = filepath.Join(l.target, rel)
			}
		}
	}
	return nil
}

// dropLinks drops the links that another one makes unnecessary: a link to the
// directory above leads to what is nested in it as well.
func dropLinks(items []*item) {
	for _, it := range items {
		for _, other := range items {
			if other == it || other.link == "" || it.link == "" {
				continue
			}
			if rel, ok := paths.Below(other.link, it.link); ok && filepath.Join(other.target, rel) == it.target {
				it.link = ""
			}
			if it.link == other.link && it != other && it.target == other.target && it.Name > other.Name {
				it.link = ""
			}
		}
	}
}

// arrange puts the items into groups. A root that is nested in another is staged
// inside it, unless a mount point lies between: what is staged must be on the file
// system that it goes to.
func arrange(items []*item, m mounts) []*group {
	var groups []*group
	sorted := slices.Clone(items)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, b := sorted[i], sorted[j]
		if len(a.target) != len(b.target) {
			return len(a.target) < len(b.target)
		}
		return !a.partial() && b.partial()
	})
	for i, it := range sorted {
		var outer *item
		for _, o := range sorted[:i] {
			if o.absent() || o.partial() || !o.Dir || it.partial() && it.target != o.target {
				continue
			}
			if paths.Within(o.target, it.target) && !m.between(o.target, it.target) {
				outer = o // the last is the nearest; all of them are in one group
			}
		}
		if outer != nil {
			it.group = outer.group
			it.group.items = append([]*item{it}, it.group.items...)
			continue
		}
		g := &group{outer: it, items: []*item{it}, anchor: anchor(it, m)}
		it.group = g
		groups = append(groups, g)
	}
	for _, g := range groups {
		for _, h := range groups {
			// Never stage inside a tree that is about to be replaced.
			if g.outer.partial() && !h.outer.partial() && paths.Within(h.outer.target, g.anchor) && !m.between(h.outer.target, g.anchor) {
				g.anchor = h.anchor
			}
		}
	}
	return groups
}

// anchor returns the directory that takes an item's staging and its old data.
func anchor(it *item, m mounts) string {
	switch {
	case it.partial() && paths.IsDir(it.target):
		return it.target // only some of it is replaced: the directory itself stays
	case m.at(it.target):
		return it.target // a mount point can't be renamed
	}
	return filepath.Dir(it.target)
}

// names of the directories that staging and old data are kept in.
const (
	stagePrefix = ".ocbackup-stage-"
	asidePrefix = ".ocbackup-aside-"
)

// ours tells whether a directory entry is one of ocbackup's own.
func ours(name string) bool {
	return strings.HasPrefix(name, stagePrefix) || strings.HasPrefix(name, asidePrefix)
}

func join[T ~string](list []T) string {
	var s []string
	for _, x := range list {
		s = append(s, string(x))
	}
	return strings.Join(s, ", ")
}
