package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// mirror is the bucket's part of a run.
type mirror struct {
	source *s3mirror.Source
	pool   *s3mirror.Pool
	owner  s3mirror.Owner
	info   s3mirror.Info
	copier *s3mirror.Mirror

	hot, cold *s3mirror.Copied // what the two passes did; nil before
	done      time.Time        // when the cold pass was done
}

// wantsBucket tells whether the run is to hold an S3 bucket.
func (r *run) wantsBucket() bool {
	return r.Config.Layout.Driver == opencloud.DecomposedS3 && r.wants(opencloud.Blobs)
}

// findBucket opens bucket and pool, and sees that both can be used.
func (r *run) findBucket(ctx context.Context, step progress.Step) error {
	if !r.wantsBucket() {
		return nil
	}
	if err := r.Config.NeedPool(); err != nil {
		return err
	}
	step.Update("looking at the bucket and its pool")
	m := &mirror{}
	var err error
	if m.owner, err = bucket.Owner(ctx, r.Config.Name, r.Repo); err != nil {
		return err
	}
	if m.source, err = bucket.OpenSource(ctx, r.Config); err != nil {
		return err
	}
	if err := m.source.Check(ctx); err != nil {
		return err
	}
	if m.pool, err = bucket.OpenPool(ctx, r.Config); err != nil {
		return err
	}
	m.source.Log, m.pool.Log = r.Report.Note, r.Report.Note
	if m.info, err = m.pool.Check(ctx, m.owner); err != nil {
		return err
	}
	r.mirror = m
	return r.checkPool()
}

// checkPool sees that the pool is the one that the last set refers to. A mount point
// whose disk is away looks like a new pool.
func (r *run) checkPool() error {
	b := r.lastBucket()
	if b == nil || b.Pool.ID == r.mirror.info.ID || r.NewPool {
		return nil
	}
	what := fmt.Sprintf("the pool in %s is another one than that of the last backup (in %s)", r.mirror.pool.Location(), b.Pool.Location)
	if r.mirror.info.New {
		what = fmt.Sprintf("there is no pool in %s; the last backup went to the one in %s", r.mirror.pool.Location(), b.Pool.Location)
	}
	return fail.New(fail.Repository, what,
		"is its disk mounted? correct location in [pool], or begin another pool, to which all objects are copied: ocbackup backup --new-pool")
}

// lastBucket is the bucket of the newest set that holds it; nil without one.
func (r *run) lastBucket() *manifest.Bucket {
	for _, s := range slices.Backward(r.sets) {
		if s.Manifest != nil && s.Manifest.Bucket != nil {
			return s.Manifest.Bucket
		}
	}
	return nil
}

// copyBucket brings the bucket into the pool while the instance runs. What is
// uploaded or purged meanwhile is for a second pass: in the cold window, or after it.
func (r *run) copyBucket(ctx context.Context, step progress.Step) (string, error) {
	m := r.mirror
	if m == nil {
		return "", nil
	}
	step.Update("listing the bucket")
	var err error
	isNew := m.info.New
	if m.info, err = m.pool.Create(ctx, m.owner); err != nil {
		return "", err
	}
	if m.copier, err = s3mirror.NewMirror(m.source, m.pool, bucket.Last(r.Repo, r.sets)); err != nil {
		return "", err
	}
	due := time.Since(m.copier.Reconciled()) > r.Config.Pool.ReconcileEvery
	o := r.copyOptions(step)
	o.Reconcile = due
	m.hot, err = m.copier.Copy(ctx, o)
	if err != nil {
		return "", err
	}
	if r.bucketLater() {
		if m.hot.Inventory, err = m.copier.Keep(m.hot.Inventory); err != nil {
			return "", err
		}
	}
	s := fmt.Sprintf("%s in the bucket, %s%s", english.Plural(int(m.hot.Listed), "object", ""), newObjects(m.hot), purged(m.hot))
	if m.hot.Reconciled && !isNew {
		s += ", pool listed"
	}
	return s, fault.Point("hot.bucket")
}

// bucketLater tells whether what came into the bucket since the hot pass is copied when
// the instance is back: its metadata are frozen, and say what the set needs of the bucket.
func (r *run) bucketLater() bool {
	users := r.users()
	return r.mirror != nil && users != nil && users.freezes()
}

func (r *run) copyOptions(step progress.Step) s3mirror.CopyOptions {
	return s3mirror.CopyOptions{AcceptEmpty: r.AcceptEmptyBucket, OnProgress: bucketProgress(step)}
}

// copyDelta lists the bucket once more while nobody writes to it, and copies what is
// new. What it lists is what the set holds.
func (r *run) copyDelta(ctx context.Context, step progress.Step) error {
	m := r.mirror
	if m == nil || r.bucketLater() {
		return nil
	}
	began := time.Now()
	var copied *s3mirror.Copied
	err := unlessHung(ctx, tidyUp, func() (err error) {
		copied, err = m.copier.Copy(ctx, r.copyOptions(step))
		return err
	})
	m.done = time.Now()
	r.down.Bucket = m.done.Sub(began).Seconds()
	if err != nil {
		return err
	}
	m.cold = copied
	var gone []string
	for _, f := range m.cold.Findings {
		if f.Kind == s3mirror.Gone {
			gone = append(gone, f.Key)
		}
	}
	if len(gone) > 0 {
		return fail.New(fail.Incomplete, fmt.Sprintf("%s gone from the bucket while OpenCloud was stopped: %s",
			english.PluralWord(len(gone), "an object went", fmt.Sprint(len(gone), " objects went")), strings.Join(gone[:min(len(gone), 5)], ", ")),
			"find out what else deletes from the bucket: a lifecycle rule, a second server, a person; then run it again")
	}
	return fault.Point("cold.bucket")
}

// copyAfter brings into the pool what the bucket has got since the hot pass, with the
// instance at work again, and as soon as it is: what users purge meanwhile may be needed.
func (r *run) copyAfter(ctx context.Context, step progress.Step) error {
	m := r.mirror
	copied, err := m.copier.Copy(ctx, r.copyOptions(step))
	if err != nil {
		return err
	}
	m.cold = together(m.cold, copied)
	return fault.Point("store.bucket")
}

// together is what two copies did, one after the other: what is found once is not found
// again. The first may be nil.
func together(first, second *s3mirror.Copied) *s3mirror.Copied {
	if first != nil {
		second.New, second.NewBytes = first.New+second.New, first.NewBytes+second.NewBytes
		second.Findings = slices.Concat(first.Findings, second.Findings)
	}
	return second
}

// tidyUp is how long a copy that was called off may take to put away what is half done.
const tidyUp = 3 * time.Second

// warnOfBucket tells of findings about objects, the first few by name.
func (r *run) warnOfBucket() {
	if r.mirror == nil {
		return
	}
	const most = 3
	all := bucket.Findings(r.bucketFindings())
	for _, f := range all[:min(len(all), most)] {
		r.warn("bucket: " + bucket.String(f))
	}
	if n := len(all) - most; n > 0 {
		r.warn(fmt.Sprintf("bucket: %d more findings; all are in the manifest (ocbackup show %s)", n, r.set))
	}
}

// bucketProgress shows how far a copy is.
func bucketProgress(step progress.Step) func(s3mirror.Progress) {
	return func(p s3mirror.Progress) { step.Update("bucket: " + bucket.Progress(p)) }
}

func newObjects(c *s3mirror.Copied) string {
	if c.New == 0 {
		return "none new"
	}
	return humanize.Comma(int64(c.New)) + " new (" + humanize.IBytes(c.NewBytes) + ")"
}

// bucketRecord is what the manifest says of the bucket; nil without one.
func (r *run) bucketRecord() *manifest.Bucket {
	m := r.mirror
	if m == nil || m.cold == nil {
		return nil
	}
	c, inv := r.Config, m.cold.Inventory
	return &manifest.Bucket{
		Endpoint: c.Bucket.Endpoint, Region: c.Bucket.Region, Name: c.Bucket.Name,
		Pool: manifest.Pool{
			Location: m.pool.Location(), Region: c.Pool.Region, ID: m.info.ID,
			Encrypted: m.info.Encrypted, Versioned: m.info.Versioned, ObjectLock: m.info.ObjectLock,
		},
		Objects: inv.Objects, Bytes: inv.Bytes, Digest: inv.Digest,
		New: m.hot.New + m.cold.New, NewBytes: m.hot.NewBytes + m.cold.NewBytes,
		Findings: bucket.Findings(r.bucketFindings()),
	}
}

// bucketFindings are those of all passes that concern the set: what OpenCloud has
// purged while it ran does not.
func (r *run) bucketFindings() []s3mirror.Finding {
	var out []s3mirror.Finding
	for _, f := range slices.Concat(r.mirror.cold.Findings, r.mirror.hot.Findings) {
		if f.Kind != s3mirror.Gone && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// purged says how many objects were gone when they were to be copied while the
// instance ran; empty for none. OpenCloud purges then, so that it is no finding.
func purged(c *s3mirror.Copied) string {
	n := 0
	for _, f := range c.Findings {
		if f.Kind == s3mirror.Gone {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d purged meanwhile", n)
}

// inventory is the path of the set's inventory; "" without a bucket.
func (r *run) inventory() string {
	if r.mirror == nil || r.mirror.cold == nil {
		return ""
	}
	return r.mirror.cold.Inventory.Path
}
