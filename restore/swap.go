package restore

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"

	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
)

// exchange is what planSwap makes a plan for: staged trees, what they replace, and
// what in the midst of it must stay where it is.
type exchange struct {
	starts []start
	// keep lists existing paths that do not belong to what is restored.
	keep []string
	// mounts are paths that can't be renamed: mount points and subvolumes.
	mounts func(path string) bool
	tree   tree
}

// start is one staged tree and its place.
type start struct {
	root   opencloud.Root
	target string
	staged string // empty: what is at the target gives way to nothing
	aside  string // where what is at the target goes
}

// tree is the file system as planSwap looks at it.
type tree interface {
	Kind(path string) kind
	Names(dir string) []string // of the entries of a directory
}

type kind int

const (
	none kind = iota
	dir
	other // a file, a link, anything that is no directory
)

// plan is how new data takes the place of the old.
type plan struct {
	// Steps are done in this order: old data out of the way, new data in.
	Steps []guard.Rename
	// Stay are directories that can't be renamed, or hold something that stays; they
	// take on owner, mode and attributes of the staged directory.
	Stay []stay
}

type stay struct{ Path, Staged string }

// planSwap plans the fewest renames that bring the staged trees to their places.
// A target is renamed as a whole where it can be. Where it is a mount point, or
// holds one, or holds something that does not belong to the restore, it stays, and
// the same is asked of each of its entries.
func planSwap(x exchange) (*plan, error) {
	p := &planner{exchange: x, plan: &plan{}, starting: map[string]bool{}}
	for _, s := range x.starts {
		if len(s.root.Include) == 0 {
			p.starting[s.target] = true
		}
	}
	for _, s := range x.starts {
		var err error
		if len(s.root.Include) > 0 {
			err = p.some(s, ".")
		} else {
			err = p.put(s.target, s.staged, s.aside)
		}
		if err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

type planner struct {
	exchange
	plan     *plan
	starting map[string]bool // targets of starts
}

// put brings what is staged to the target, and what is there now aside.
func (p *planner) put(target, staged, aside string) error {
	live, fresh := p.tree.Kind(target), none
	if staged != "" {
		fresh = p.tree.Kind(staged)
	}
	if live != dir || !p.mustStay(target) {
		if live != none {
			if p.mounts(target) {
				return fmt.Errorf("%s is a mount point, and can't be replaced by another file", target)
			}
			p.plan.Steps = append(p.plan.Steps, guard.Rename{From: target, To: aside})
		}
		if fresh != none {
			p.plan.Steps = append(p.plan.Steps, guard.Rename{From: staged, To: target})
		}
		return nil
	}
	switch fresh {
	case other:
		return fmt.Errorf("%s must stay a directory, but the set has a file there", target)
	case dir:
		p.plan.Stay = append(p.plan.Stay, stay{target, staged})
	}
	for _, name := range p.names(target, staged) {
		t := filepath.Join(target, name)
		if slices.Contains(p.keep, t) || p.starting[t] {
			continue
		}
		s := ""
		if fresh == dir {
			s = filepath.Join(staged, name)
		}
		if err := p.put(t, s, filepath.Join(aside, name)); err != nil {
			return err
		}
	}
	return nil
}

// some brings only what the root includes to its place. rel is the directory to
// look at, relative to the start.
func (p *planner) some(s start, rel string) error {
	at := func(base string) string {
		if base == "" {
			return ""
		}
		return filepath.Join(base, rel)
	}
	target, staged, aside := at(s.target), at(s.staged), at(s.aside)
	switch {
	case p.tree.Kind(target) == none:
		return p.put(target, staged, aside)
	case p.tree.Kind(target) == other && p.tree.Kind(staged) == dir:
		return fmt.Errorf("%s is no directory, but the set has one there", target)
	}
	for _, name := range p.names(target, staged) {
		r := filepath.Join(rel, name)
		t, st := filepath.Join(target, name), ""
		if staged != "" {
			st = filepath.Join(staged, name)
		}
		var err error
		switch {
		case slices.Contains(p.keep, t) || p.starting[t]:
		case holds(s.root, r):
			err = p.put(t, st, filepath.Join(aside, name))
		case leads(s.root, r):
			err = p.some(s, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mustStay tells whether an existing directory can't be renamed as a whole.
func (p *planner) mustStay(target string) bool {
	if p.mounts(target) {
		return true
	}
	for _, k := range p.keep {
		if _, ok := paths.Below(target, k); ok {
			return true
		}
	}
	for t := range p.starting {
		if _, ok := paths.Below(target, t); ok && p.tree.Kind(t) != none {
			return true
		}
	}
	return false
}

// names lists the entries of the live and the staged directory, without ocbackup's own.
func (p *planner) names(live, staged string) []string {
	names := slices.Clone(p.tree.Names(live))
	if staged != "" {
		names = append(names, p.tree.Names(staged)...)
	}
	sort.Strings(names)
	return slices.DeleteFunc(slices.Compact(names), ours)
}
