package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/fail"
)

// ReconcileOptions say how a pool is held against its index.
type ReconcileOptions struct {
	// ReadData reads every object of the index and compares its hashes; those that were
	// never hashed are.
	ReadData   bool
	OnProgress func(Progress)
}

// Reconciled is what came of it.
type Reconciled struct {
	Objects, Bytes  uint64 // that the pool holds under blobs/
	Adopted         uint64 // nothing was known of them before
	Partial         uint64 // left-overs of interrupted copies, which were removed
	Read, ReadBytes uint64
	Findings        []Finding
	Seconds         float64
}

// Reconcile lists a checked pool and makes its index anew. An object that is not what
// was stored is put aside, so that the next copy brings it again if the bucket still
// has it. No Mirror may be open meanwhile.
func (p *Pool) Reconcile(ctx context.Context, last LastInventory, o ReconcileOptions) (*Reconciled, error) {
	began := time.Now()
	ix, _, err := openIndex(p.StateDir, p.info.ID)
	if err != nil {
		return nil, fail.Wrap(fail.Failed, err, "open the bucket's index", "check the state directory (state_dir)")
	}
	defer ix.close()
	if err := p.gone(ctx); err != nil {
		return nil, err
	}
	r, err := p.reconcile(ctx, ix, last, o.OnProgress)
	if err != nil {
		return nil, p.fail(err, "list what is there")
	}
	out := &Reconciled{Objects: r.Objects, Bytes: r.Bytes, Adopted: r.Adopted, Partial: r.Partial, Findings: r.Findings}
	if o.ReadData {
		err = p.readData(ctx, ix, out, o.OnProgress)
	}
	out.Seconds = time.Since(began).Seconds()
	return out, err
}

// readData reads every object of a sound index, and makes the index anew of those that
// are what was stored.
func (p *Pool) readData(ctx context.Context, ix *index, out *Reconciled, onProgress func(Progress)) error {
	m, stop := progressOf(onProgress)
	defer stop()
	m.toCopy.Store(ix.objects)
	d := &dataReading{pool: p, ix: ix, meter: m, out: out}
	d.reads.SetLimit(p.Transfers)
	var err error
	if d.work, err = ix.segments(); err != nil {
		return err
	}
	var spaces []string
	for name := range ix.parts {
		spaces = append(spaces, name)
	}
	slices.Sort(spaces)
	g, ctx := errgroup.WithContext(p.with(ctx))
	g.SetLimit(p.Checkers)
	for _, space := range spaces {
		g.Go(func() error { return d.space(ctx, space) })
	}
	err = g.Wait()
	if err := errors.Join(err, d.reads.Wait()); err != nil {
		return p.fail(err, "read what is there")
	}
	out.Read, out.ReadBytes = uint64(m.objects.Load()), uint64(m.read.Load())
	return ix.replace(d.work, spaces, ix.state)
}

// dataReading is a readData under way.
type dataReading struct {
	pool  *Pool
	ix    *index
	work  segments
	meter *meter
	reads errgroup.Group

	mu  sync.Mutex
	out *Reconciled
}

func (d *dataReading) space(ctx context.Context, space string) error {
	out, err := newRecorder(d.work, space)
	if err != nil {
		return err
	}
	in := d.ix.space(space)
	for err == nil && in.next() {
		o := in.at
		d.meter.bytesToCopy.Add(o.Size)
		f := &future{done: make(chan struct{})}
		d.reads.Go(func() error { // blocks while as many as may are under way
			defer close(f.done)
			f.object, f.err = d.read(ctx, o)
			return nil
		})
		err = out.add(f)
	}
	return errors.Join(err, in.failed(), out.close(), remove(d.work.file("inventory", space)))
}

// read reads one object. The record without a key is that of none.
func (d *dataReading) read(ctx context.Context, o *Object) (Object, error) {
	now := *o
	err := twice(ctx, func() (err error) {
		now.MD5, now.SHA1, err = hashOnly(ctx, proven{d.pool.data, o}, o.Path(), o, &d.meter.read)
		return err
	})
	var wrong *verdict
	switch {
	case err == nil:
		d.meter.objects.Add(1)
		return now, nil
	case !errors.As(err, &wrong):
		return Object{}, fmt.Errorf("%s: %w", o.Path(), err)
	}
	d.mu.Lock()
	d.out.Findings = append(d.out.Findings, Finding{wrong.kind, o.Key, wrong.text})
	d.mu.Unlock()
	if wrong.kind == Damaged {
		if err := d.pool.setAside(ctx, o.Path()); err != nil && !missing(err) {
			return Object{}, err
		}
	}
	// What was stored first under this key must not be overwritten by the next copy.
	first := Object{Key: o.Key, At: place(o.Key)}
	if first.At == o.At {
		return Object{}, nil
	}
	size, held, err := d.pool.look(ctx, first.Path())
	if err != nil || !held {
		return Object{}, err
	}
	first.Size = size
	return first, nil
}

// look asks for the size of what lies at a path.
func (p *Pool) look(ctx context.Context, path string) (size int64, held bool, err error) {
	if p.api != nil {
		var s stored
		s, err = p.api.head(ctx, path)
		size = s.size
	} else {
		var o fs.Object
		if o, err = p.data.NewObject(ctx, path); err == nil {
			size = o.Size()
		}
	}
	if missing(err) {
		return 0, false, nil
	}
	return size, err == nil, err
}
