package restore

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
)

// findKeep lists what lies in the midst of the targets and is not restored, and so
// stays as it is: roots that were not chosen, what the set leaves out (thumbnails),
// ocbackup's own state, a repository.
func (r *run) findKeep() ([]string, error) {
	var found []string
	for _, it := range r.items {
		found = append(found, globs(it.target, it.Exclude)...)
	}
	var others []*item
	for _, x := range r.set.Manifest.Roots {
		if !isOutput(x) && !slices.ContainsFunc(r.items, func(it *item) bool { return it.Name == x.Name }) {
			others = append(others, &item{Root: x})
		}
	}
	if err := locate(others, r.maps); err != nil {
		return nil, fail.Wrap(fail.Failed, err, "find the roots that are not restored", "")
	}
	for _, it := range others {
		if it.partial() {
			found = append(found, globs(it.target, it.Include)...)
		} else {
			found = append(found, it.target)
		}
	}
	found = slices.DeleteFunc(found, r.covered)
	// What is ocbackup's own stays in any case.
	own := []string{r.stateDir()}
	for _, x := range []config.Repository{r.cfg.Repository, r.Bare} {
		if p, local := config.LocalPath(x.Location); local && p != "" {
			own = append(own, p)
		}
	}
	for _, p := range own {
		if p == "" {
			continue
		}
		real, err := resolve(p)
		if err != nil {
			return nil, err
		}
		found = append(found, real)
	}
	found = slices.DeleteFunc(found, func(p string) bool { return !paths.Exists(p) || !r.inside(p) })
	sort.Strings(found)
	return slices.Compact(found), nil
}

// inside tells whether a path lies strictly inside a target.
func (r *run) inside(p string) bool {
	return slices.ContainsFunc(r.items, func(it *item) bool {
		_, ok := paths.Below(it.target, p)
		return ok
	})
}

// covered tells whether a path belongs to what is restored.
func (r *run) covered(p string) bool {
	return slices.ContainsFunc(r.items, func(it *item) bool {
		if p == it.target {
			return !it.partial()
		}
		rel, ok := paths.Below(it.target, p)
		return ok && holds(it.Root.Root, rel)
	})
}

// globs lists what exists below dir for globs that are relative to it.
func globs(dir string, patterns []string) []string {
	var out []string
	for _, g := range patterns {
		found, err := filepath.Glob(filepath.Join(opencloud.Glob(dir), g))
		if err == nil { // they were valid when the set was made
			out = append(out, found...)
		}
	}
	return out
}

// checkMounts refuses targets that can't be exchanged by renames.
func (r *run) checkMounts() error {
	const hint = "restore with --in-place: it writes onto the old data while OpenCloud is stopped, and can't be undone"
	for _, it := range r.items {
		for _, m := range r.mounts.inside(it.target) {
			rel, _ := paths.Below(it.target, m)
			isTarget := slices.ContainsFunc(r.items, func(o *item) bool { return o.target == m })
			kept := slices.ContainsFunc(r.keep, func(k string) bool { return paths.Within(k, m) })
			if !isTarget && !kept && holds(it.Root.Root, rel) {
				return fail.Usagef(hint, "%s is a mount point inside root %s (%s): new data can't be put in its place by renaming", m, it.Name, it.target)
			}
		}
	}
	users, err := resolve(r.cfg.Layout.UsersRoot)
	if err != nil {
		return err
	}
	posix := r.set.Manifest.Layout.Driver == opencloud.Posix && r.cfg.Layout.UsersRoot != ""
	for _, g := range r.groups {
		if posix && paths.Within(users, g.anchor) {
			// The server would take what is kept or staged there for copies of its spaces,
			// and give new ids to them.
			return fail.Usagef(hint, "%s is a mount point: the old data could only be kept inside it, where OpenCloud would take it for its own", users)
		}
		if err := g.sameDevice(); err != nil {
			return fail.Usagef(hint, "root %s: %v", g.outer.Name, err)
		}
	}
	return nil
}

// sameDevice makes sure that what is staged at the anchor can be renamed to its
// place: included files may lie on other file systems than their common directory.
func (g *group) sameDevice() error {
	at, err := device(existing(g.anchor))
	if err != nil {
		return err
	}
	targets := []string{g.outer.target}
	if g.outer.partial() {
		targets = nil
		for _, inc := range g.outer.Include {
			if opencloud.Glob(opencloud.Unglob(inc)) == inc {
				targets = append(targets, filepath.Join(g.outer.target, opencloud.Unglob(inc)))
			}
		}
	}
	for _, p := range targets {
		from := filepath.Dir(p)
		if p == g.anchor {
			from = p
		}
		d, err := device(existing(from))
		if err != nil {
			return err
		}
		if d != at {
			return fmt.Errorf("%s is on another file system than %s", p, g.anchor)
		}
	}
	return nil
}
