package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
)

// Snapshots lists the snapshots of Options.Host (of all hosts, if it is empty) that
// carry all of the tags, the oldest first. When some can't be loaded, the others
// are returned with a *DamagedSnapshotsError.
func (r *Repo) Snapshots(ctx context.Context, tags ...string) ([]Snapshot, error) {
	if err := validTags(tags); err != nil {
		return nil, err
	}
	args := []string{"--json"}
	if r.opt.Host != "" {
		args = append(args, "--host="+r.opt.Host)
	}
	if len(tags) > 0 {
		args = append(args, "--tag="+strings.Join(tags, ",")) // one list: all of them
	}
	o, err := r.run(ctx, call{command: "snapshots", args: args})
	if err != nil {
		return nil, err
	}
	var l []Snapshot
	if err := json.Unmarshal(o.stdout, &l); err != nil {
		return nil, fmt.Errorf("understand restic's list of snapshots: %w", err)
	}
	sort.SliceStable(l, func(i, j int) bool { return l[i].Time.Before(l[j].Time) })
	return l, unloaded(o.plain)
}

// ignored is how restic up to 0.19 says that it left out a snapshot; it ends with 0 then.
var ignored = regexp.MustCompile(`^Ignoring "([^"]*)": (.*)$`)

// unloaded finds what the list of snapshots lacks.
func unloaded(plain []string) error {
	var damaged []Item
	for _, line := range plain {
		if m := ignored.FindStringSubmatch(line); m != nil {
			damaged = append(damaged, Item{Path: m[1], Err: m[2]})
		}
		if strings.HasPrefix(line, "could not load snapshots:") {
			return errors.New("restic snapshots: " + line)
		}
	}
	if len(damaged) > 0 {
		return &DamagedSnapshotsError{Items: damaged}
	}
	return nil
}

// fullID is a whole snapshot id: a prefix could mean another snapshot tomorrow.
var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Forget removes snapshots by their full ids, and makes sure that they are gone:
// restic may end with 0 though it removed nothing. A snapshot that was gone
// before is no error. The data stays until the repository is pruned.
func (r *Repo) Forget(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil // without ids, forget would take it for a policy
	}
	for _, id := range ids {
		if !fullID.MatchString(id) {
			return fmt.Errorf("forget snapshot %q: not a full snapshot id", id)
		}
	}
	o, err := r.run(ctx, call{command: "forget", args: append([]string{"--json", "--"}, ids...)})
	if err != nil {
		return err
	}
	list, err := r.run(ctx, call{command: "list", args: []string{"--no-lock", "snapshots"}})
	if err != nil {
		return fmt.Errorf("make sure that the snapshots are gone: %w", err)
	}
	there := map[string]bool{}
	for _, id := range strings.Fields(string(list.stdout)) {
		there[id] = true
	}
	var left []string
	for _, id := range ids {
		if there[id] {
			left = append(left, id)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("restic forget: %d of %d snapshots are still there (%s): %s",
			len(left), len(ids), strings.Join(left, ", "), o.words())
	}
	return nil
}
