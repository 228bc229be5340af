package backup

import (
	"context"
	"crypto/sha256"
	"fmt"
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
	defer held.Close() //nolint:errcheck // a temporary file
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := r.readCatalog(gctx, step, users, held); err != nil {
			return err
		}
		return r.joinBucket(gctx, step)
	})
	if users.view != "" {
		g.Go(func() error { return r.listHeld(gctx, held) })
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
func (r *run) readCatalog(ctx context.Context, step progress.Step, users *root, held *certificate.Holdings) (err error) {
	p := &r.proof
	tree := nodes.Disk(users.at())
	if users.view == "" {
		step.Update("listing what was stored")
		stored, err := storedtree.Open(ctx, storedtree.Options{
			Repo: r.Repo, Stored: r.storedUsers(), Live: users.real, TempDir: p.dir,
		})
		if err != nil {
			return r.Repo.Failure(err, "list what was stored of root "+users.Name)
		}
		defer stored.Close() //nolint:errcheck // temporary files, in a directory that goes as a whole
		if err := stored.Files(func(at string, size int64) error {
			held.Add(at, size, certificate.Hashes{})
			return nil
		}); err != nil {
			return err
		}
		tree = stored
	}
	p.path = filepath.Join(p.dir, manifest.CatalogFile)
	w, err := catalog.Create(p.path, r.Config.Layout.Driver)
	if err != nil {
		return err
	}
	if err := nodes.Read(ctx, nodes.Options{
		Tree: tree, Driver: r.Config.Layout.Driver, TempDir: p.dir,
		OnProgress: func(n uint64) { step.Update(humanize.Comma(int64(n)) + " nodes listed") },
	}, w); err != nil {
		w.Abort()
		return fail.Wrap(fail.Incomplete, err, "list the nodes of root "+users.Name, "")
	}
	summary, err := w.Close()
	if err != nil {
		return err
	}
	p.summary = &summary
	p.file, err = catalog.Open(p.path)
	return err
}

// storedUsers are the snapshots that hold what is below the users root.
func (r *run) storedUsers() []storedtree.Stored {
	var out []storedtree.Stored
	for _, x := range r.roots {
		if s, ok := r.pushed[x.Name]; ok && (x.Has(opencloud.Metadata) || x.Has(opencloud.Blobs)) {
			out = append(out, storedtree.Stored{Snapshot: s.snapshot, Entry: filepath.Base(x.real)})
		}
	}
	return out
}

// listHeld lists what the repository holds of contents. What the pool does follows.
func (r *run) listHeld(ctx context.Context, held *certificate.Holdings) error {
	err := holdings.FromRepository(ctx, r.Repo, r.manifest(), held, nil)
	if err != nil {
		return r.Repo.Failure(err, "list what was stored")
	}
	return nil
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
		Catalog: p.summary.Digest, MaybeBlob: func(at string) bool { return nodes.HoldsBlob(r.Config.Layout.Driver, at) },
	})
	return err
}

// joinBucket makes the inventory of the frozen moment of the listings before and after it:
// the catalog says which objects that needs. What is missing then may just have been on
// its way, so that it is looked for once more; the certificate tells of what stays missing.
func (r *run) joinBucket(ctx context.Context, step progress.Step) error {
	if !r.bucketLater() {
		return nil
	}
	needed, err := r.neededObjects()
	if err != nil {
		return err
	}
	needs := func(key string) bool {
		h := hashed(key)
		_, ok := needed[h]
		if ok {
			needed[h] = true
		}
		return ok
	}
	m := r.mirror
	for again := false; ; again = true {
		if m.cold.Inventory, err = m.copier.Join(m.hot.Inventory, m.cold.Inventory, needs); err != nil {
			return err
		}
		missing := 0
		for _, found := range needed {
			if !found {
				missing++
			}
		}
		if missing == 0 || again {
			return fault.Point("prove.bucket")
		}
		r.Report.Note(english.PluralWord(missing, "An object that the set needs is", fmt.Sprint(missing, " objects that the set needs are")) + " not in the bucket; it is listed again")
		if err := r.copyAfter(ctx, step); err != nil {
			return err
		}
	}
}

// neededObjects is the set of the keys that the catalog names, hashed to save memory; the
// values tell which were found.
func (r *run) neededObjects() (map[[16]byte]bool, error) {
	needed := map[[16]byte]bool{}
	for n, err := range r.proof.file.All() {
		if err != nil {
			return nil, err
		}
		if n.At != "" {
			needed[hashed(n.At)] = false
		}
	}
	return needed, nil
}

func hashed(key string) [16]byte {
	h := sha256.Sum256([]byte(key))
	return [16]byte(h[:])
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

// warnOfFindings tells the first findings of the certificate.
func (r *run) warnOfFindings() {
	c := r.proof.certificate
	if c == nil {
		return
	}
	const most = 3
	shown := 0
	for _, f := range c.Findings {
		if f.Class == certificate.Orphan {
			continue
		}
		if shown == most {
			r.warn(fmt.Sprintf("%d more findings; all are in the certificate (ocbackup show --findings %s)", manifest.ProofOf(c).Findings-most, r.set))
			return
		}
		shown++
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
