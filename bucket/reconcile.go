package bucket

import (
	"context"

	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// Reconciled is what came of holding the pool against what is known of it.
type Reconciled struct {
	Objects uint64 `json:"objects"` // that the pool held
	Bytes   uint64 `json:"bytes"`
	// Read and ReadBytes are what was read and compared; none without read-data.
	Read      uint64 `json:"read,omitempty"`
	ReadBytes uint64 `json:"read_bytes,omitempty"`
	// Findings are objects that were lost or damaged, or that the copying found changed.
	Findings []manifest.Finding `json:"findings,omitempty"`
	// Copied were brought from the bucket: what was lost or damaged, and what was new.
	Copied      uint64 `json:"copied"`
	CopiedBytes uint64 `json:"copied_bytes"`
	// Lost is what sets need and neither pool nor bucket has as it was stored.
	Lost []manifest.Finding `json:"lost,omitempty"`
}

// Reconcile lists the pool, and copies from the bucket what it has lost, or no
// longer has as it was stored. With readData every object is read, and its hashes
// compared. The instance is not touched. With an error of the copying, the result
// says what was found before.
func Reconcile(ctx context.Context, o Options, readData bool) (*Reconciled, error) {
	lock, err := guard.Acquire(o.Config.StateDir, "bucket reconcile")
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	k, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	src, err := OpenSource(ctx, o.Config)
	if err != nil {
		return nil, err
	}
	src.Log = o.Note
	if err := src.Check(ctx); err != nil {
		return nil, err
	}
	r, err := k.pool.Reconcile(ctx, Last(o.Repo, k.sets), s3mirror.ReconcileOptions{ReadData: readData, OnProgress: o.OnProgress})
	if err != nil {
		return nil, err
	}
	out := &Reconciled{Objects: r.Objects, Bytes: r.Bytes, Read: r.Read, ReadBytes: r.ReadBytes, Findings: Findings(r.Findings)}
	m, err := s3mirror.NewMirror(src, k.pool, nil)
	if err != nil {
		return out, err
	}
	c, err := m.Copy(ctx, s3mirror.CopyOptions{OnProgress: o.OnProgress})
	if err != nil {
		return out, err
	}
	out.Copied, out.CopiedBytes = c.New, c.NewBytes
	for _, f := range c.Findings {
		if f.Kind != s3mirror.Gone { // OpenCloud runs, and purges
			out.Findings = append(out.Findings, Findings([]s3mirror.Finding{f})...)
		}
	}
	u, _, err := k.usage(ctx)
	if err != nil {
		return out, err
	}
	out.Lost = Findings(u.Lost)
	return out, nil
}
