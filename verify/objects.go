package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/bucket"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// objects is the pool that sets refer to, and what was found in it.
type objects struct {
	pool *s3mirror.Pool // nil: there is none, or it is away
	id   string
	// held is how many bytes the pool holds of objects that are lost, by their path in it;
	// -1: none.
	held map[string]int64
	// faults are the objects that were read and are not what was stored, by path; read are
	// those that are, where several sets may need them.
	several bool
	faults  map[string]s3mirror.Reading
	read    map[string]certificate.Hashes
	told    map[string]bool // keys in the report
}

// lookAtPool holds the inventories of sets against the pool's listing: every object is
// there, with its size. Sets whose inventory can't be read are left out.
func lookAtPool(ctx context.Context, o Options, sets []manifest.Set, rep *Report) (*objects, error) {
	p := &objects{several: len(sets) > 1, held: map[string]int64{}, faults: map[string]s3mirror.Reading{}, read: map[string]certificate.Hashes{}, told: map[string]bool{}}
	var of *manifest.Manifest
	for i := range sets {
		if s := &sets[i]; s.Manifest.Bucket != nil {
			of = s.Manifest // the newest is the one whose pool is configured
		}
	}
	if of == nil {
		return p, nil
	}
	step := o.Report.Step("pool")
	usage, err := p.usage(ctx, o, of, sets, step)
	if err != nil {
		step.Fail(err)
		return p, err
	}
	p.tell(rep, bucket.Findings(usage.Lost)...)
	if n := len(rep.Pool); n > 0 {
		step.Fail(errors.New(humanize.Comma(int64(n)) + " findings"))
		return p, nil
	}
	text := humanize.Comma(int64(usage.Objects)) + " objects, all there"
	if !o.Part.contents() {
		text += "; not read (--read-data next/10 reads a tenth)"
	}
	step.Done(text)
	return p, nil
}

// tell adds findings to the report, one for each object.
func (p *objects) tell(rep *Report, findings ...manifest.Finding) {
	for _, f := range findings {
		if !p.told[f.Key] {
			p.told[f.Key] = true
			rep.Pool = append(rep.Pool, f)
			rep.Sound = false
		}
	}
}

// usage counts what the sets need of the pool of one of them. Sets that refer to
// another pool are told of, not verified.
func (p *objects) usage(ctx context.Context, o Options, of *manifest.Manifest, sets []manifest.Set, step progress.Step) (*s3mirror.Usage, error) {
	pool, err := o.Pool(ctx, of)
	if err != nil {
		return nil, err
	}
	info, err := pool.Check(ctx, s3mirror.Owner{Instance: of.Instance})
	if err != nil {
		return nil, err
	}
	if info.ID != of.Bucket.Pool.ID {
		return nil, fail.New(fail.Repository, "the pool "+pool.Location()+" is not the one that set "+of.Set+" refers to",
			"is its disk mounted? correct location in [pool]")
	}
	inventories, elsewhere, err := bucket.Inventories(o.Repo, sets, info.ID)
	if err != nil {
		return nil, err
	}
	for _, id := range elsewhere {
		o.Report.Note("The objects of set " + id + " are in another pool and were not looked at.")
	}
	u, err := pool.Usage(ctx, inventories, s3mirror.UsageOptions{
		OnProgress: func(p s3mirror.Progress) { step.Update(bucket.Progress(p)) },
		OnLost:     func(path string, held int64) { p.held[path] = held },
	})
	if err == nil {
		p.pool, p.id = pool, info.ID
	}
	return u, err
}

// here tells whether the objects of a set are in the pool that was looked at.
func (p *objects) here(m *manifest.Manifest) bool {
	return p.pool != nil && m.Bucket != nil && m.Bucket.Pool.ID == p.id
}

// hold tells the certificate which objects the backup holds: those of the inventory
// that the pool has not lost. Without the pool it is all of them.
func (p *objects) hold(in io.Reader, m *manifest.Manifest, h *certificate.Holdings) error {
	here := p.here(m)
	return s3mirror.EachObject(in, "its inventory", func(obj *s3mirror.Object) error {
		held, lost := p.held[obj.Path()]
		lost = lost && here
		if lost && held < 0 {
			return nil
		}
		h.Add(obj.Key, obj.Size, certificate.Hashes{SHA1: obj.SHA1, MD5: obj.MD5})
		if lost {
			h.Add(obj.Key, held, certificate.Hashes{}) // which of the sizes is right does not matter: it can't be restored
		}
		return nil
	})
}

// fault is an object that is not what was stored, by its hashes.
type fault struct{ stored, is certificate.Hashes }

// readPart reads a part of a set's objects that no earlier set's reading has, and holds
// them against the inventory. It returns how many it read, and adds those that hold
// something else than was stored to faults, by key.
func (p *objects) readPart(ctx context.Context, in io.Reader, part Part, h *certificate.Holdings, faults map[string]fault, rep *Report, update func(string)) (n, bytes uint64, err error) {
	apply := func(o *s3mirror.Object, r s3mirror.Reading) {
		switch {
		case r.Fault == nil:
			h.Read(o.Key, certificate.Hashes{SHA1: r.SHA1, MD5: r.MD5})
		case r.SHA1 != "":
			faults[o.Key] = fault{certificate.Hashes{SHA1: o.SHA1, MD5: o.MD5}, certificate.Hashes{SHA1: r.SHA1, MD5: r.MD5}}
		default:
			h.Fail(o.Key, errors.New(r.Fault.Text))
		}
	}
	err = p.pool.ReadObjects(ctx, in, s3mirror.ReadOptions{
		Wanted: func(o *s3mirror.Object) bool {
			if _, lost := p.held[o.Path()]; lost || !part.holds(o.Key) {
				return false
			}
			if r, ok := p.faults[o.Path()]; ok {
				apply(o, r)
				return false
			}
			x, ok := p.read[o.Path()]
			if ok {
				h.Read(o.Key, x)
			}
			return !ok
		},
		OnRead: func(o *s3mirror.Object, r s3mirror.Reading) {
			apply(o, r)
			n++
			bytes += uint64(r.Size)
			if r.Fault == nil {
				if p.several {
					p.read[o.Path()] = certificate.Hashes{SHA1: r.SHA1, MD5: r.MD5}
				}
				return
			}
			p.faults[o.Path()] = r
			p.tell(rep, manifest.Finding{Kind: r.Fault.Kind, Key: o.Key, Text: r.Fault.Text})
		},
		OnProgress: func(p s3mirror.Progress) { update("reading objects: " + bucket.Progress(p)) },
	})
	if err != nil {
		err = fmt.Errorf("read the pool's objects: %w", err)
	}
	return n, bytes, err
}
