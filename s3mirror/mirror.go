package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// Mirror brings what a bucket holds into a pool.
type Mirror struct {
	src  *Source
	pool *Pool
	last LastInventory
	ix   *index
	// sound tells whether the index can be trusted.
	sound bool
	// apart is set once the servers have refused to copy among themselves.
	apart atomic.Bool
	// Set once a server was seen to have entity tags that look like the MD5 of a content
	// and are not: one that encrypts.
	sourceTagsLie, poolTagsLie atomic.Bool
}

// NewMirror opens the index of a pool that was checked or created. last gives the
// hashes of what was copied before, where the index is lost; it may be nil.
func NewMirror(src *Source, pool *Pool, last LastInventory) (*Mirror, error) {
	if err := Apart(src, pool); err != nil {
		return nil, err
	}
	ix, sound, err := openIndex(pool.StateDir, pool.info.ID)
	if err != nil {
		return nil, ownFailure(err)
	}
	m := &Mirror{src: src, pool: pool, last: last, ix: ix, sound: sound}
	m.apart.Store(!sameServer(src, pool))
	return m, nil
}

// elsewhere is what to do about a pool that is in the bucket that it is the pool of.
const elsewhere = "choose another bucket, better on another server: location in [pool]"

// Apart makes sure that the pool is not in the bucket that it is the pool of: each
// backup would copy all earlier ones. A server may have several names, and a remote of
// rclone's any: of those a copy finds the pool's marker in the bucket.
func Apart(src *Source, pool *Pool) error {
	if pool.raw == nil || src.bucket.Name != pool.at.bucket || origin(src.bucket.Endpoint) != origin(pool.at.endpoint) {
		return nil
	}
	return fail.Usagef(elsewhere, "the pool %s is in OpenCloud's own bucket", pool.Location())
}

// sameServer tells whether a server can be asked to copy by itself.
func sameServer(src *Source, pool *Pool) bool {
	return pool.api != nil && origin(src.bucket.Endpoint) == origin(pool.at.endpoint)
}

// origin writes endpoints that are the same in the same way.
func origin(endpoint string) string {
	u, err := url.Parse(strings.ToLower(endpoint))
	if err != nil {
		return endpoint
	}
	host := u.Host
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host + strings.TrimRight(u.Path, "/")
}

// CopyOptions say how a copy is made.
type CopyOptions struct {
	// Reconcile lists the pool first, although the index is sound.
	Reconcile bool
	// AcceptEmpty takes a bucket without objects for what it is, although it had some.
	AcceptEmpty bool
	OnProgress  func(Progress)
}

// Copied is what a copy has done.
type Copied struct {
	Inventory Inventory
	Listed    uint64 // objects in the bucket
	New       uint64 // objects that the pool did not hold
	NewBytes  uint64
	Findings  []Finding
	// Reconciled tells that the pool was listed.
	Reconciled bool
	Seconds    float64
}

// EmptyError says that a bucket which had objects lists none.
type EmptyError struct {
	Bucket string
	Before int64
}

func (e *EmptyError) Error() string {
	return fmt.Sprintf("the %s lists no object at all; at the last backup it had %d", e.Bucket, e.Before)
}

// Reconciled tells when the pool was last listed; the zero time when that is not known.
func (m *Mirror) Reconciled() time.Time { return m.ix.state.Reconciled }

// Copy brings every object of the bucket into the pool that it does not hold, and
// writes the inventory of what the bucket lists. Nothing in the pool is overwritten
// or deleted. When the context ends, the error is its cause.
func (m *Mirror) Copy(ctx context.Context, o CopyOptions) (*Copied, error) {
	began := time.Now()
	out := &Copied{}
	err := m.copy(ctx, o, out)
	switch cause := context.Cause(ctx); {
	case err != nil && cause != nil:
		return nil, cause
	case err != nil:
		return nil, ownFailure(err)
	}
	out.Seconds = time.Since(began).Seconds()
	return out, nil
}

func (m *Mirror) copy(ctx context.Context, o CopyOptions, out *Copied) error {
	if !m.sound || o.Reconcile {
		rec, err := m.pool.reconcile(ctx, m.ix, m.last, o.OnProgress)
		if err != nil {
			return err
		}
		m.sound, out.Reconciled, out.Findings = true, true, rec.Findings
	}
	p := &pass{Mirror: m, CopyOptions: o, out: out, progress: &meter{began: time.Now(), report: o.OnProgress}}
	defer p.progress.start()()
	return p.run(ctx)
}

// refuseEmpty makes sure that an empty listing is not taken for an empty bucket.
func (p *pass) refuseEmpty(listed int) error {
	before := p.Mirror.ix.state.Listed
	if listed > 0 || before == 0 || p.AcceptEmpty {
		return nil
	}
	return fail.Wrap(fail.Incomplete, &EmptyError{p.Mirror.src.String(), before}, "",
		"see that it is the right bucket and what became of its objects. To bring them back: ocbackup restore --component blobs\nIf they are meant to be gone: ocbackup backup --accept-empty-bucket")
}

// reportedFailures is how many objects' errors are told; the others are counted.
const reportedFailures = 3

// failed is the error of the objects that could not be copied; nil without any.
func (p *pass) failed() error {
	n := len(p.failures)
	if n <= 1 {
		return errors.Join(p.failures...)
	}
	what := fmt.Sprintf("%d objects could not be copied", n)
	if n > reportedFailures {
		what += "; the first are"
	}
	err := errors.Join(p.failures[:min(n, reportedFailures)]...)
	return fail.Wrap(fail.CodeOf(err), err, what, "")
}
