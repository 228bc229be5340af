package s3mirror

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

// ReadOptions say which objects of an inventory are read.
type ReadOptions struct {
	// Wanted tells which they are; nil: all.
	Wanted func(*Object) bool
	// OnRead is told what came of each, in no order. Wanted and OnRead are called one at a
	// time.
	OnRead     func(*Object, Reading)
	OnProgress func(Progress)
}

// Reading is what came of reading an object of the pool to its end.
type Reading struct {
	// Fault is what is wrong with it: Lost, or Damaged; nil when it is what was stored.
	Fault *Finding
	// Size, MD5 and SHA1 are those of what the pool holds; the hashes are empty where it
	// can't be read to its end.
	Size      int64
	MD5, SHA1 string
}

// ReadObjects reads objects of a checked pool and holds them against the inventory that
// names them, which is read to its end. An error says that they could not be read; what
// is wrong with one object is told to OnRead.
func (p *Pool) ReadObjects(ctx context.Context, inventory io.Reader, o ReadOptions) error {
	if err := p.gone(ctx); err != nil {
		return err
	}
	m, stop := progressOf(o.OnProgress)
	defer stop()
	var calls sync.Mutex
	g, reading := errgroup.WithContext(p.with(ctx))
	g.SetLimit(p.Transfers)
	err := EachObject(inventory, "the set's inventory", func(obj *Object) error {
		if err := context.Cause(reading); err != nil {
			return err
		}
		if o.Wanted != nil {
			calls.Lock()
			wanted := o.Wanted(obj)
			calls.Unlock()
			if !wanted {
				return nil
			}
		}
		if err := credible(obj); err != nil {
			return err
		}
		m.toCopy.Add(1)
		m.bytesToCopy.Add(obj.Size)
		g.Go(func() error {
			r, err := p.readObject(reading, obj, m)
			if err != nil {
				return err
			}
			m.objects.Add(1)
			calls.Lock()
			defer calls.Unlock()
			o.OnRead(obj, r)
			return nil
		})
		return nil
	})
	if wrong := g.Wait(); wrong != nil {
		return wrong // it may be why the inventory was not read to its end
	}
	return err
}

// readObject reads one object.
func (p *Pool) readObject(ctx context.Context, o *Object, m *meter) (Reading, error) {
	r := Reading{Size: o.Size}
	hashes := func(f proven) error {
		return twice(ctx, func() (err error) {
			r.MD5, r.SHA1, err = hashOnly(ctx, f, o.Path(), f.want, &m.read)
			return err
		})
	}
	err := hashes(proven{p.data, o})
	if err == nil {
		return r, nil
	}
	err = p.readFailure(ctx, err, "read "+o.Path()+" of")
	fault, ok := ObjectFault(err)
	if !ok {
		return r, err
	}
	fault.Key = o.Key
	r = Reading{Fault: &fault}
	if fault.Kind == Lost {
		return r, nil
	}
	size, held, err := p.look(ctx, o.Path())
	if err != nil {
		return r, p.fail(err, "look at "+o.Path()+" of")
	}
	if !held {
		fault.Kind = Lost
		return r, nil
	}
	// What it is now tells which of several contents it was mistaken for.
	r.Size = size
	if err := hashes(proven{p.data, &Object{Key: o.Key, At: o.At, Size: size}}); err != nil {
		r.MD5, r.SHA1 = "", ""
		var wrong *verdict
		if !errors.As(err, &wrong) {
			return r, p.fail(err, "read "+o.Path()+" of")
		}
	}
	return r, nil
}
