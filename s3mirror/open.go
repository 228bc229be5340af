package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/rclone/rclone/fs/accounting"
)

// Open opens an object of a checked pool, to be read to its end. Reading goes on where a
// connection was cut; what is not the object that was stored ends in an error of which
// ObjectFault tells more, before the last byte is given.
func (p *Pool) Open(ctx context.Context, o *Object) (io.ReadCloser, error) {
	if err := credible(o); err != nil {
		return nil, err
	}
	ctx = accounting.WithStatsGroup(p.with(ctx), "ocbackup")
	what := "read " + o.Path() + " of"
	c, err := open(ctx, proven{p.data, o}, o.Path(), o, new(atomic.Int64))
	if err == nil {
		r := &poolReader{pool: p, what: what}
		if r.Account, r.done, err = c.start(ctx, nil); err == nil {
			return r, nil
		}
	}
	return nil, p.readFailure(ctx, err, what)
}

// readFailure gives an error its code, unless it is about the object alone. One object
// may be lost; all of them are not: then it is the pool.
func (p *Pool) readFailure(ctx context.Context, err error, what string) error {
	f, ok := ObjectFault(err)
	if !ok {
		return p.fail(err, what)
	}
	if f.Kind == Lost {
		if gone := p.gone(ctx); gone != nil {
			return gone
		}
	}
	return err
}

// poolReader is an object that is being read.
type poolReader struct {
	*accounting.Account
	pool *Pool
	what string
	done func(error)
	err  error
}

func (r *poolReader) Read(b []byte) (int, error) {
	n, err := r.Account.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		if _, ok := ObjectFault(err); !ok {
			err = r.pool.fail(err, r.what)
		}
		r.err = err
	}
	return n, err
}

// WriteTo is not that of the Account, which would go around Read.
func (r *poolReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func (r *poolReader) Close() error {
	err := r.Account.Close()
	r.done(errors.Join(r.err, err))
	return err
}

// ObjectFault tells what is wrong with an object (Lost or Damaged) when that is what an
// error says; the Finding has no key.
func ObjectFault(err error) (Finding, bool) {
	var v *verdict
	if !errors.As(err, &v) {
		return Finding{}, false
	}
	return Finding{Kind: v.kind, Text: v.text}, true
}

// EachObject reads an inventory to its end, and makes sure of its order; name is what
// errors call it. An error of fn ends it and is returned.
func EachObject(r io.Reader, name string, fn func(*Object) error) error {
	in := newReader(r, name)
	for in.next() {
		if err := fn(in.at); err != nil {
			return err
		}
	}
	if err := in.failed(); err != nil {
		return fmt.Errorf("read the list of objects: %w", err)
	}
	return nil
}
