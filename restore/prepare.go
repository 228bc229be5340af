package restore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
)

// prepare makes sure of everything that could fail later. Nothing is stopped or
// written before all of it holds, and somebody has agreed to what is replaced.
func (r *run) prepare(ctx context.Context, step progress.Step) (string, error) {
	if err := r.checkLocations(); err != nil {
		return "", err
	}
	step.Update("reading the repository")
	if err := r.findSet(ctx); err != nil {
		return "", err
	}
	m := r.set.Manifest
	if r.Target != "" {
		if err := r.prepareBeside(ctx, step); err != nil {
			return "", err
		}
		return r.found(), fault.Point("restore.prepared")
	}
	if err := r.findInstance(ctx); err != nil {
		return "", err
	}
	if !r.DryRun {
		if err := r.takeLock(ctx); err != nil {
			return "", err
		}
	}
	if err := r.checkSet(m); err != nil {
		return "", err
	}
	if err := r.findTargets(); err != nil {
		return "", err
	}
	if err := r.openLocal(ctx); err != nil {
		return "", err
	}
	if err := r.findBucket(ctx, step); err != nil {
		return "", err
	}
	r.res.Mode = r.mode()
	if err := r.checkExtra(); err != nil {
		return "", err
	}
	step.Update("looking at the instance")
	checks := []func(context.Context) error{
		r.checkPlaces, // every path of the instance is one that the set goes to
		r.checkKey,    // the server never starts without its opencloud.yaml
		r.checkState,  // the instance can be stopped and started
		r.checkVersion,
		r.checkRoom, // space, and what the file systems can hold
	}
	if r.onlyBucket() {
		checks = nil // the instance is not touched
	}
	for _, check := range checks {
		if err := check(ctx); err != nil {
			return "", err
		}
	}
	if err := r.describe(ctx); err != nil {
		return "", err
	}
	if err := r.compareBucket(ctx, step); err != nil {
		return "", err
	}
	if r.DryRun {
		return r.found() + "; nothing was done", r.agreeExtra()
	}
	if err := r.agree(); err != nil {
		return "", err
	}
	if err := r.agreeExtra(); err != nil {
		return "", err
	}
	return r.found(), fault.Point("restore.prepared")
}

// found is the summary of prepare.
func (r *run) found() string {
	var bytes uint64
	for _, it := range r.items {
		bytes += it.Bytes
	}
	s := fmt.Sprintf("set %s of %s, OpenCloud %s", r.set.ID, r.set.Manifest.Instance, r.set.Manifest.OpenCloud)
	if len(r.items) > 0 {
		s += fmt.Sprintf(", %s, %s", english.Plural(len(r.items), "root", ""), humanize.IBytes(bytes)) +
			" " + r.origins()
	}
	if b := r.res.Bucket; b != nil {
		s += fmt.Sprintf(", %s of the bucket, %s", english.Plural(int(b.Objects), "object", ""), humanize.IBytes(b.Bytes))
	}
	return s
}

// findSet finds the set and sees that all of it is there.
func (r *run) findSet(ctx context.Context) error {
	if _, err := r.Repo.Prepare(ctx); err != nil {
		return r.Repo.Failure(err, "run restic")
	}
	if r.Config != nil {
		r.cfg = r.Config
	}
	set, passedOver, err := manifest.Find(ctx, r.Repo, r.cacheDir(), r.Set)
	r.cfg = nil
	switch {
	case fail.CodeOf(err) == fail.Usage: // there is no such set
		return err
	case err != nil:
		return r.Repo.Failure(err, "find the set")
	case set.Err != nil:
		return fail.Wrap(fail.Inconsistent, set.Err, "set "+set.ID, "restore another set: see \"ocbackup list\"")
	}
	r.set = set
	m := set.Manifest
	if n := len(passedOver); n > 0 {
		newest := passedOver[n-1]
		r.note(english.PluralWord(n, "A newer set was", fmt.Sprint(n, " newer sets were")) + " passed over, since data that the instance had lost is missing there: " +
			strings.Join(passedOver, ", ") + ". What is missing: \"ocbackup show --findings " + newest + "\"; to restore it all the same: \"ocbackup restore " + newest + "\".")
	}
	if set.Inconsistent() {
		r.note("Set " + set.ID + " lacks data that the instance had lost already when the set was made: see \"ocbackup show --findings " + set.ID + "\".")
	}
	r.res.Set, r.res.Instance, r.res.OpenCloud = set.ID, m.Instance, m.OpenCloud
	r.res.Full = len(r.Components) == 0
	r.res.Components = r.Components
	if r.res.Full {
		r.res.Components = m.Components
	}
	return nil
}

// checkSet refuses what can't be restored from this set.
func (r *run) checkSet(m *manifest.Manifest) error {
	if r.res.Full && !m.Full {
		return fail.Usagef("restore what it holds with --component "+strings.ReplaceAll(join(m.Components), " ", "")+
			", or choose a full set: see \"ocbackup list\"", "set %s is not a full set: it holds %s only", m.Set, join(m.Components))
	}
	if r.res.Full && m.Layout.Driver == opencloud.DecomposedS3 && m.Bucket == nil {
		return fail.Usagef("restore the rest with --component "+strings.ReplaceAll(join(m.Components), " ", ""),
			"set %s says that it is full, but it holds no S3 bucket, which the storage driver decomposeds3 keeps the blobs in", m.Set)
	}
	if c := r.cfg.Layout.Driver; c != "" && c != m.Layout.Driver {
		return fail.Usagef("restore with the configuration of an instance that has the same storage driver",
			"set %s was taken with storage driver %s, the configured instance has %s", m.Set, m.Layout.Driver, c)
	}
	if r.InPlace && m.Layout.Driver == opencloud.Decomposed && !r.res.Full &&
		slices.Contains(r.Components, opencloud.Metadata) != slices.Contains(r.Components, opencloud.Blobs) {
		return fail.Usagef("give both, --component metadata,blobs, or restore without --in-place",
			"metadata and blobs share their directories: one alone can't be restored in place")
	}
	return nil
}

// chooseRoots makes the list of what is restored.
func (r *run) chooseRoots() error {
	m := r.set.Manifest
	items, not, err := choose(m, r.Components)
	if err != nil {
		return err
	}
	var gone []string
	for _, it := range items {
		if slices.Contains(r.set.Missing, it.Name) {
			gone = append(gone, it.Name)
		}
	}
	if len(gone) > 0 {
		return fail.New(fail.Inconsistent, fmt.Sprintf("set %s is damaged: the snapshots of %s are gone from the repository", m.Set, join(gone)),
			"restore another set (ocbackup list), or what is left of this one with --component")
	}
	r.items = items
	for _, x := range not {
		r.res.Not = append(r.res.Not, r.outputHelp(x))
	}
	for _, n := range m.NotProtected {
		r.res.Not = append(r.res.Not, n+" (no set holds it)")
	}
	if len(items) == 0 && !r.wantsBucket() {
		hint := "see \"ocbackup show " + m.Set + "\""
		if len(r.res.Not) > 0 {
			hint = strings.Join(r.res.Not, "\n")
		}
		return fail.Usagef(hint, "set %s has nothing on disk for %s", m.Set, join(r.Components))
	}
	return nil
}

// outputHelp says how to get a root that is a stream.
func (r *run) outputHelp(x manifest.Root) string {
	name := outputName(x)
	get := fmt.Sprintf("restic -r %s dump %s /%s", r.Repo.Location(), shortID(x.Snapshot), name)
	if x.Has(opencloud.Binary) {
		ref := "the container image"
		if i := r.set.Manifest.Image; i != nil {
			ref = "container image " + i.Ref
		}
		engine := r.set.Manifest.Control.Engine
		switch {
		case engine != "":
		case r.set.Manifest.Control.Type == "podman":
			engine = "podman"
		default:
			engine = "docker"
		}
		return fmt.Sprintf("%s (loaded when it is missing; by hand: %s | %s load)", ref, get, engine)
	}
	return fmt.Sprintf("%s, the output of a command (%s > %s)", x.Name, get, name)
}

// outputName is the name that a stream has in its snapshot.
func outputName(x manifest.Root) string {
	switch {
	case x.Entry != "":
		return x.Entry
	case x.Has(opencloud.Binary):
		return "image.tar"
	}
	return x.Name
}

// findTargets finds out where everything goes, and what in the midst of it stays.
func (r *run) findTargets() error {
	if err := r.chooseRoots(); err != nil {
		return err
	}
	var err error
	if r.mounts, err = readMounts(); err != nil {
		return err
	}
	if err := locate(r.items, r.maps); err != nil {
		return fail.Wrap(fail.Failed, err, "find the places to restore to", "")
	}
	r.groups = arrange(r.items, r.mounts)
	taken := func(g *group) bool { return paths.Exists(filepath.Dir(g.aside)) }
	for at := r.started.UTC(); ; at = at.Add(time.Second) {
		for _, g := range r.groups {
			g.stage = filepath.Join(g.anchor, stagePrefix+r.set.ID, g.outer.Name)
			g.aside = filepath.Join(g.anchor, asidePrefix+r.set.ID+"-"+at.Format("20060102T150405Z"), g.outer.Name)
		}
		if !slices.ContainsFunc(r.groups, taken) {
			break // there was no restore in the same second
		}
	}
	r.keep, err = r.findKeep()
	return err
}

// takeLock makes sure that nobody else works on the instance, and finishes what an
// interrupted run has left.
func (r *run) takeLock(ctx context.Context) error {
	dir := r.stateDir()
	rep := r.Report
	if j, err := guard.Read(dir); err == nil && j != nil && j.Hold != "" {
		rep = progress.Discard // this restore may be what completes the one that was interrupted
	}
	recovered := r.recover(ctx, rep)
	if recovered != nil && fail.CodeOf(recovered) != fail.NotBack {
		return recovered
	}
	var err error
	if r.lock, err = guard.Acquire(dir, "restore"); err != nil {
		return err
	}
	j, err := guard.Read(dir)
	if err != nil {
		return err
	}
	switch {
	case j == nil || j.Hold != "":
	case recovered == nil:
		return fail.New(fail.Locked, "another run has just left the instance in the midst of its work", "run \"ocbackup recover\", then this command again")
	case oldDataMoved(j):
		return recovered
	case r.wantsBucket() && slices.Equal(r.Components, []opencloud.Component{opencloud.Blobs}):
		r.note("OpenCloud does not start (" + oneLine(recovered) + "). When the objects are back: " + recovery.Command(dir))
	default:
		r.ailing = true
		r.note("OpenCloud does not start (" + oneLine(recovered) + "); its data are replaced, and it is started with those.")
	}
	r.held = j
	return nil
}

// oldDataMoved tells whether old data has yet to be put back.
func oldDataMoved(j *guard.Journal) bool {
	if j.Exchange == nil {
		return false
	}
	begun, err := guard.SwapBegun(j.Exchange.Swap)
	return begun || err != nil
}

// recoverWithin is how long bringing back an instance is tried whose data are about
// to be replaced.
const recoverWithin = 45 * time.Second

// recover finishes what an interrupted run has left. A restore that is the cure for
// an instance that can't be brought back does not wait for it any longer than needed.
func (r *run) recover(ctx context.Context, rep progress.Reporter) error {
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	_, err := recovery.Recover(ctx, r.stateDir(), rep)
	return err
}

// oneLine is an error's first line.
func oneLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// describe lists what is restored and what gives way to it.
func (r *run) describe(ctx context.Context) error {
	for _, it := range r.items {
		r.res.Roots = append(r.res.Roots, Restored{Name: it.Name, Path: it.target, From: it.from(), Files: it.Files, Bytes: it.Bytes})
		n := r.inTheWay(it)
		if n == 0 {
			continue
		}
		rep := Replaced{Root: it.Name, Path: it.target, Entries: n}
		if it.partial() {
			rep.Files = globs(it.target, it.Include)
		}
		if !r.InPlace {
			rep.Aside = it.group.aside
		}
		r.res.Replaced = append(r.res.Replaced, rep)
	}
	r.reindexWhy, r.reindexState = r.wantsReindex(), index.Unknown
	if s := r.set.Manifest.Search; s.NeedsReindex() {
		r.reindexState = s.State
	}
	if r.DryRun && r.reindexWhy != "" {
		r.res.Reindex, r.res.ReindexWhy = ReindexWould, r.reindexWhy
	}
	if r.onlyBucket() {
		r.note("Only objects of the bucket are restored: OpenCloud is neither stopped nor changed.")
	} else if !r.res.Full {
		r.note("Only " + join(r.Components) + " is restored: it will be of another moment than the rest of the instance.")
	}
	if len(r.maps) > 0 && slices.ContainsFunc(r.items, func(it *item) bool { return it.Name == "deployment" }) {
		r.note("--map does not change what is written in the deployment's files; correct the paths in them before the next start.")
	}
	return r.checkUsers(ctx)
}

// inTheWay returns how many entries an item replaces.
func (r *run) inTheWay(it *item) int {
	st, err := os.Stat(it.target)
	switch {
	case err != nil:
		return 0
	case !st.IsDir():
		return 1
	case it.partial():
		return len(globs(it.target, it.Include))
	}
	n := 0
	for _, name := range (diskTree{}).Names(it.target) {
		p := filepath.Join(it.target, name)
		nested := slices.ContainsFunc(r.items, func(o *item) bool { return o != it && paths.Within(p, o.target) && r.inTheWay(o) == 0 })
		if !ours(name) && !slices.Contains(r.keep, p) && !nested {
			n++
		}
	}
	return n
}

// agree asks before anything is replaced.
func (r *run) agree() error {
	if r.Yes || len(r.res.Replaced) == 0 && (r.bucket == nil || r.bucket.diff.Differing == 0) {
		return nil
	}
	var b strings.Builder
	m := r.set.Manifest
	fmt.Fprintf(&b, "Set %s (OpenCloud %s, its state of %s) replaces what is there now",
		r.set.ID, m.OpenCloud, m.Frozen.Local().Format(time.DateTime))
	if !r.onlyBucket() {
		b.WriteString("; OpenCloud is stopped for it")
	}
	b.WriteString(":\n")
	for _, x := range r.res.Replaced {
		fmt.Fprintf(&b, "  %s (%s, %s)\n", x.what(), x.Root, english.Plural(x.Entries, "entry", "entries"))
		if x.Aside != "" {
			fmt.Fprintf(&b, "    the old data is kept in %s\n", x.Aside)
		}
	}
	if x := r.res.Bucket; x != nil && x.Restored > 0 {
		fmt.Fprintf(&b, "  %s: %s, %s\n", x.Destination, english.Plural(int(x.Restored), "object", ""), humanize.IBytes(x.RestoredBytes))
		if x.Differing > 0 {
			fmt.Fprintf(&b, "    %s another content there than in the set, and is overwritten\n", english.Plural(int(x.Differing), "object has", "objects have"))
		}
	}
	if r.InPlace && !r.onlyBucket() {
		b.WriteString("The old data is OVERWRITTEN: this can't be undone.\n")
	}
	question := strings.TrimRight(b.String(), "\n")
	if r.Confirm != nil {
		ok, err := r.Confirm(question, "restore")
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
	}
	return fail.New(fail.Usage, "nobody agreed. "+question, "agree with --yes; see the plan first with --dry-run")
}

func shortID(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}
