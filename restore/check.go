package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
)

// check compares what was staged with what the set says, while nothing is stopped
// yet: a server that is started on data without its attributes writes new ones.
func (r *run) check(ctx context.Context, step progress.Step) (string, error) {
	var n uint64
	for _, it := range r.items {
		step.Update("comparing " + it.Name)
		sum, err := r.compare(ctx, it, it.group.staged(it.target), nil)
		if err != nil {
			return "", err
		}
		n += sum.Files + sum.Dirs
	}
	if err := r.moveNested(); err != nil {
		return "", err
	}
	if err := r.judgeIndex(ctx, func(it *item) string { return it.group.staged(it.target) }); err != nil {
		return "", err
	}
	if err := r.dropIDCache(func(it *item) string { return it.group.staged(it.target) }); err != nil {
		return "", err
	}
	summary := humanize.Comma(int64(n)) + " files and folders are as the set says"
	if r.reindexWhy != "" {
		summary += "; the search index is to be built again: " + r.reindexWhy
	}
	return summary, fault.Point("restore.checked")
}

// compare counts a restored root at path and holds it against the census of the set.
// What is spared, relative to the root, is not part of it.
func (r *run) compare(ctx context.Context, it *item, path string, spared []string) (census.Sum, error) {
	if it.absent() {
		return census.Sum{}, nil
	}
	if !it.Dir {
		st, err := os.Stat(path)
		if err == nil && uint64(st.Size()) != it.Bytes {
			err = fmt.Errorf("%d bytes expected, %d found", it.Bytes, st.Size())
		}
		if err != nil {
			err = it.unlike(err.Error())
		}
		return census.Sum{Files: 1}, err
	}
	belongs := it.Filter()
	counted, err := census.Count(ctx, path, func(rel string, isDir bool) bool {
		return !slices.Contains(spared, rel) && belongs(rel, isDir)
	}, 0)
	if err != nil {
		return counted.Sum, fail.Wrap(fail.Failed, err, "count what was restored of root "+it.Name, "")
	}
	sum := counted.Sum
	if it.Census == nil {
		return sum, nil
	}
	if diff := r.differences(it, sum); len(diff) > 0 {
		return sum, it.unlike(strings.Join(diff, "; "))
	}
	return sum, nil
}

// unlike is the error of a root that is not what was backed up.
func (it *item) unlike(why string) error {
	if it.driver != "" {
		return fail.New(fail.Inconsistent, fmt.Sprintf("the %s of root %s is not what was backed up: %s", origin(it.from()), it.Name, why),
			"nothing of it is used; run this command again with --from-repository")
	}
	return fail.New(fail.Failed, fmt.Sprintf("root %s was not restored as it was backed up: %s", it.Name, why),
		"nothing of it is used; check the repository with \"ocbackup verify\", and the file system")
}

// differences holds a census against that of the set. Of a root that is picked by
// wildcards, directories that hold nothing of it were counted at the backup and are
// in no snapshot, so only what it is made of is compared.
func (r *run) differences(it *item, found census.Sum) []string {
	want := *it.Census
	wild := slices.ContainsFunc(it.Include, func(g string) bool { return opencloud.Glob(opencloud.Unglob(g)) != g })
	if wild {
		want.Dirs, want.Digest = found.Dirs, found.Digest
	}
	return want.Diff(found)
}

// moveNested moves files that one root includes, and that lie inside another root,
// to where that one is staged.
func (r *run) moveNested() error {
	for _, g := range r.groups {
		if !g.outer.partial() || g.outer.absent() {
			continue
		}
		for _, staged := range globs(g.top(), g.outer.Include) {
			rel, _ := paths.Below(g.top(), staged)
			target := filepath.Join(g.outer.target, rel)
			for _, h := range r.groups {
				if _, ok := paths.Below(h.outer.target, target); !ok || h.outer.partial() || h.outer.absent() || !h.outer.Dir {
					continue
				}
				if err := moveInto(staged, h.staged(target)); err != nil {
					return fail.Wrap(fail.Failed, err, "put "+target+" in its place", "restore with --in-place")
				}
			}
		}
	}
	return nil
}

// moveInto renames a file into a tree without touching the times of its directory.
func moveInto(from, to string) error {
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m, err := guard.ReadMeta(dir)
	if err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return m.Apply(dir)
}

// wantsReindex says why the search index must be built again after the restore, as
// far as the set tells; empty: it need not.
func (r *run) wantsReindex() string {
	m := r.set.Manifest
	data := r.has(opencloud.Metadata) || r.has(opencloud.Blobs)
	search := slices.ContainsFunc(r.items, func(it *item) bool { return it.Has(opencloud.Search) })
	switch {
	case !data && !search:
		return ""
	case m.Layout.SearchExternal:
		return "it is kept outside OpenCloud"
	case !search:
		return "it is not part of the restore"
	case !data:
		return "it is of another moment than the files"
	case m.Search.NeedsReindex():
		return "the set's index is " + string(m.Search.State)
	case r.other:
		return "the server has another version than the set"
	}
	for _, it := range r.items {
		if it.Has(opencloud.Search) && it.absent() {
			return "the set holds none"
		}
	}
	return ""
}

// idCaches are the streams in which nats keeps the posix driver's cache of node ids,
// below the data directory.
const idCaches = "nats/jetstream/$G/streams/KV_ids-storage-users*"

// dropIDCache leaves out the cache of node ids when the storage goes to another path
// than it had: the cache names the old one, and if that is still there the server
// takes the restored files for copies, gives them new ids, and drops their shares
// (seen on 4.0). Without it the server makes a new one. at says where a root is.
func (r *run) dropIDCache(at func(*item) string) error {
	l := r.set.Manifest.Layout
	if l.Driver != opencloud.Posix || r.maps.path(l.UsersRoot) == l.UsersRoot {
		return nil
	}
	for _, it := range r.items {
		if it.Name != "system" || it.absent() {
			continue
		}
		for _, dir := range globs(at(it), []string{idCaches}) {
			parent := filepath.Dir(dir)
			m, err := guard.ReadMeta(parent)
			if err == nil {
				err = os.RemoveAll(dir)
			}
			if err == nil {
				err = m.Apply(parent)
			}
			if err != nil {
				return fmt.Errorf("leave out the id cache: %w", err)
			}
		}
	}
	return nil
}

// judgeIndex judges the restored search index before the server is started: a
// damaged one keeps all of OpenCloud 4.0 from starting, and is taken out. at says
// where a root is.
func (r *run) judgeIndex(ctx context.Context, at func(*item) string) error {
	for _, it := range r.items {
		if !it.Has(opencloud.Search) || it.absent() {
			continue
		}
		dir := at(it)
		v := index.Judge(ctx, dir, true)
		if err := ctx.Err(); err != nil {
			return err
		}
		if v.State == index.Unknown {
			r.note("Whether the restored search index is sound could not be told: " + v.Detail)
		}
		if v.NeedsReindex() && r.reindexWhy == "" {
			r.reindexWhy, r.reindexState = "the restored index is "+string(v.State), v.State
		}
		if r.reindexWhy == "" {
			continue
		}
		if v.State == index.Damaged || v.State == index.Schema {
			r.note("The restored search index is " + string(v.State) + " (" + v.Detail + "); it was left out.")
		}
		// The rebuild starts from nothing: servers before 7.x pass over what the index
		// says is there.
		if err := removeIndex(dir); err != nil {
			return err
		}
	}
	return nil
}

func removeIndex(searchDir string) error {
	dirs, err := index.Dirs(searchDir)
	for _, d := range dirs {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}
