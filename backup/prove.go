package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/holdings"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/nodes"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/storedtree"
)

// proof is what the run knows of the nodes that its set holds.
type proof struct {
	dir         string // of temporary files
	file        *catalog.File
	path        string // of the catalog
	summary     *catalog.Summary
	certificate *certificate.Certificate // nil: the set does not hold the blobs
}

// sum is what the manifest says of the certificate; nil without one.
func (p *proof) sum() *manifest.Proof {
	if p.certificate == nil {
		return nil
	}
	return manifest.ProofOf(p.certificate)
}

// prove lists all nodes of the frozen moment, and joins them with what the repository and
// the pool say that they hold. OpenCloud is at work again meanwhile.
func (r *run) prove(ctx context.Context, step progress.Step) (string, error) {
	users := r.users()
	if users == nil {
		return "", nil
	}
	if err := r.openProof(); err != nil {
		return "", err
	}
	held := certificate.NewHoldings(r.proof.dir)
	defer held.Close()     //nolint:errcheck // a temporary file
	stored := r.manifest() // now: what is proven is written to meanwhile
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := r.readCatalog(gctx, step, users, held); err != nil {
			return err
		}
		return r.joinBucket(gctx, step)
	})
	if users.view != "" {
		g.Go(func() error {
			err := holdings.FromRepository(gctx, r.Repo, stored, held) // what the pool holds follows
			return r.Repo.Failure(err, "list what was stored")
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	if !r.holdsBlobs() {
		return nodesIn(r.proof.summary) + " listed; not proven, since the set does not hold their contents", fault.Point("prove.end")
	}
	if err := r.certify(ctx, step, held); err != nil {
		return "", err
	}
	summary := r.proof.certificate.Line()
	if r.wants(opencloud.Search) {
		summary += "; search index " + string(r.verdict.State)
	}
	return summary, fault.Point("prove.end")
}

// users is the root that the nodes are in; nil when the run does not take it.
func (r *run) users() *root {
	i := slices.IndexFunc(r.roots, func(x *root) bool { return x.Has(opencloud.Metadata) })
	if i < 0 {
		return nil
	}
	return r.roots[i]
}

// holdsBlobs tells whether the set holds the contents of the nodes.
func (r *run) holdsBlobs() bool {
	return r.mirror != nil || slices.ContainsFunc(r.roots, func(x *root) bool { return x.Has(opencloud.Blobs) })
}

// readCatalog lists the nodes of the frozen moment: from the snapshot of the file system,
// or, since the live tree has gone on, from what was stored of the stopped one, and then
// also what is held.
func (r *run) readCatalog(ctx context.Context, step progress.Step, users *root, held *certificate.Holdings) error {
	p := &r.proof
	tree := nodes.Disk(users.at())
	failure := func() error { return r.snapshotLost(ctx) }
	if users.view == "" {
		step.Update("listing what was stored")
		stored, err := storedtree.Open(ctx, storedtree.Options{
			Repo: r.Repo, Stored: r.storedUsers(), Live: users.real, TempDir: p.dir,
		})
		if err != nil {
			return r.storedFailure(users, err)
		}
		defer stored.Close() //nolint:errcheck // temporary files, in a directory that goes as a whole
		if err := stored.Files(func(at string, size int64) error {
			if mayBeContent(r.Config.Layout.Driver, at) {
				held.Add(at, size, certificate.Hashes{})
			}
			return nil
		}); err != nil {
			return err
		}
		tree, failure = stored, func() error { return r.storedFailure(users, stored.Err()) }
	}
	p.path = filepath.Join(p.dir, manifest.CatalogFile)
	w, err := catalog.Create(p.path, r.Config.Layout.Driver)
	if err != nil {
		return err
	}
	err = nodes.Read(ctx, nodes.Options{
		Tree: tree, Driver: r.Config.Layout.Driver, TempDir: p.dir,
		OnProgress: func(n uint64) { step.Update(humanize.Comma(int64(n)) + " nodes listed") },
	}, w)
	if failed := failure(); failed != nil { // it is no finding about the nodes
		err = failed
	} else if err != nil {
		err = fail.Wrap(fail.Incomplete, err, "list the nodes of root "+users.Name, "")
	}
	if err != nil {
		w.Abort()
		return err
	}
	summary, err := w.Close()
	if err != nil {
		return err
	}
	p.summary = &summary
	p.file, err = catalog.Open(p.path)
	return err
}

// snapshotLost tells whether a snapshot of a file system is no longer whole: what was read
// from it says nothing.
func (r *run) snapshotLost(ctx context.Context) error {
	if context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	looking, cancel := patient(ctx)
	defer cancel()
	return fail.Wrap(fail.Incomplete, r.plan.Lost(looking), "read what was frozen", "")
}

// storedFailure tells whether it is the repository, or the disk of the temporary files, that
// keeps what was stored from being listed.
func (r *run) storedFailure(users *root, err error) error {
	what := "list what was stored of root " + users.Name
	var p *fs.PathError
	if errors.As(err, &p) {
		if _, ok := paths.Below(r.proof.dir, p.Path); ok {
			return fail.Wrap(fail.Failed, err, what, "see that the state directory's file system has room, and can be written to")
		}
	}
	return r.Repo.Failure(err, what)
}

// mayBeContent tells whether a file below the users root may be the content of a node: on
// driver posix users may have given it any name.
func mayBeContent(driver opencloud.Driver, at string) bool {
	switch driver {
	case opencloud.Decomposed:
		return nodes.HoldsBlob(driver, at)
	case opencloud.DecomposedS3:
		return false // that is in the bucket
	}
	return true
}

// storedUsers are the snapshots that hold what is below the users root.
func (r *run) storedUsers() []storedtree.Stored {
	var out []storedtree.Stored
	for _, x := range r.roots {
		if s, ok := r.pushed[x.Name]; ok && (x.Has(opencloud.Metadata) || x.Has(opencloud.Blobs)) {
			out = append(out, storedtree.Stored{Snapshot: s.snapshot, Entry: filepath.Base(x.real), Files: s.files})
		}
	}
	return out
}

// certify joins the nodes with what the backup holds.
func (r *run) certify(ctx context.Context, step progress.Step, held *certificate.Holdings) error {
	p := &r.proof
	step.Update("joining " + nodesIn(p.summary) + " with what the backup holds")
	if path := r.inventory(); path != "" {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close() //nolint:errcheck // it is only read
		if err := holdings.FromInventory(in, held); err != nil {
			return err
		}
	}
	var err error
	p.certificate, err = certificate.Judge(ctx, r.set, p.file, held, certificate.Options{
		Accepted: r.Config.Backup.AcceptLost, Catalog: p.summary.Digest, MaybeBlob: func(at string) bool { return nodes.HoldsBlob(r.Config.Layout.Driver, at) },
	})
	return err
}

// keepProof leaves the catalog where the commands that browse it look first.
func (r *run) keepProof() {
	if p := &r.proof; p.summary != nil {
		_ = manifest.KeepCatalog(r.cacheDir(), p.path, p.summary) // it spares reading it from the repository, no more
	}
}

// openProof makes an empty directory for temporary files.
func (r *run) openProof() error {
	r.proof.dir = filepath.Join(r.Config.StateDir, "prove")
	if err := os.RemoveAll(r.proof.dir); err != nil {
		return err
	}
	return os.MkdirAll(r.proof.dir, 0o700)
}

// closeProof removes the temporary files.
func (r *run) closeProof() {
	p := &r.proof
	if p.file != nil {
		_ = p.file.Close() // it was only read
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // the next run does
	}
}

// warnOfFindings tells the first losses that the certificate found.
func (r *run) warnOfFindings() {
	c := r.proof.certificate
	if c == nil {
		return
	}
	const most = 3
	for i, f := range c.Findings { // fatal ones come first; others may stay for ever
		if !f.Fatal {
			return
		}
		if i == most {
			r.warn(fmt.Sprintf("%d more; all are in the certificate (ocbackup show --findings %s)", c.Fatal-most, r.set))
			return
		}
		r.warn(f.String())
	}
}

// inconsistent is the error of a run whose set is committed, and lacks data of users.
func (r *run) inconsistent() error {
	c := r.proof.certificate
	if c == nil || c.Sound() {
		return nil
	}
	state := "OpenCloud is running"
	if !r.running() {
		state = "OpenCloud is stopped, as it was before"
	}
	return &fail.Error{
		Code: fail.Inconsistent, Step: "prove",
		What:  fmt.Sprintf("set %s lacks data of users: %s", r.set, c.Line()),
		State: state + "; the set is committed, and marked inconsistent: \"latest\" does not mean it",
		Hint:  "see \"ocbackup show --findings " + r.set + "\"; an earlier set may have what is missing: \"ocbackup history SPACE:/path\"",
	}
}

// nodesIn says how many nodes a catalog lists.
func nodesIn(s *catalog.Summary) string {
	return english.Plural(int(s.Nodes()), "node", "") + " in " + english.Plural(int(s.Spaces), "space", "")
}
