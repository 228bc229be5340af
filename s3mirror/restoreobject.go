package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// copy copies an object from the pool to the destination: by the server itself where
// it can, else through this machine.
func (r *restoration) copy(ctx context.Context, o *Object, replaces bool) error {
	var wrote bool
	var refused error
	if !r.apart.Load() && !r.opaque.Load() && plain(o.Key) && o.Size < maxOnServer {
		if wrote, refused = r.onServer(ctx, o, replaces); refused == nil {
			r.meter.read.Add(o.Size)
			return nil
		}
	}
	err := r.stream(ctx, o, replaces)
	var wrong *verdict
	switch {
	case err == nil && refused != nil && !r.apart.Swap(true):
		r.pool.Log("the server does not copy from the pool to the bucket by itself; objects go through this machine (" + refused.Error() + ")")
	case wrote && errors.As(err, &wrong):
		return errors.Join(err, r.to.remove(ctx, o.Key))
	}
	return err
}

// onServer has the server copy an object, and holds what it tells of the copy against
// the inventory. wrote tells that the destination may hold something else now.
func (r *restoration) onServer(ctx context.Context, o *Object, replaces bool) (wrote bool, err error) {
	from, to := r.pool.api, r.to.api
	if replaces {
		s, err := from.head(ctx, o.Path())
		if err == nil {
			err = s.matches(o)
		}
		if err != nil {
			return false, err
		}
	}
	if err := to.copyFrom(ctx, from.bucket, from.prefix+o.Path(), o.Key, o.Size); err != nil {
		return false, err
	}
	s, err := to.head(ctx, o.Key)
	if err != nil {
		return true, err
	}
	return true, s.matches(o)
}

// matches holds what a server says of an object against its record.
func (s stored) matches(o *Object) error {
	switch {
	case s.size != o.Size:
		return fmt.Errorf("the server has stored %d bytes of %d", s.size, o.Size)
	case o.MD5 != "" && isMD5(s.tag) && s.tag != o.MD5 && s.tag != o.Tag:
		return fmt.Errorf("the server's tag is %s, the MD5 is %s", s.tag, o.MD5)
	}
	return nil
}

// stream copies an object through this machine.
func (r *restoration) stream(ctx context.Context, o *Object, replaces bool) error {
	return twice(ctx, func() error {
		from := proven{r.pool.data, o}
		if replaces && r.to.api != nil {
			// What is there gives way only to what is known to be right: a copy that fails may
			// take it along.
			var read atomic.Int64
			if _, _, err := hashOnly(ctx, from, o.Path(), o, &read); err != nil {
				return err
			}
		}
		_, _, err := put(ctx, from, o.Path(), r.to.f, o.Key, o, &r.meter.read)
		if err == nil && r.to.api != nil {
			if err = r.confirm(ctx, o); err != nil {
				r.meter.read.Add(-o.Size) // it is copied again, or not at all
			}
		}
		return err
	})
}

// confirm asks the destination how it has stored an object, and reads it where the
// tag is another than that of the content: an encrypting server's.
func (r *restoration) confirm(ctx context.Context, o *Object) error {
	s, err := r.to.api.head(ctx, asRclone.FromStandardPath(o.Key))
	if isNotFound(err) {
		return fmt.Errorf("%w: the server says that it has stored the object, and has not", errOther)
	}
	if err != nil {
		return fmt.Errorf("look at what was stored: %w", err)
	}
	wrong := s.matches(o)
	if wrong == nil || s.size == o.Size && r.opaque.Load() {
		return nil
	}
	if s.size != o.Size {
		return fmt.Errorf("%w: %w", errOther, wrong)
	}
	var read atomic.Int64
	md5, _, err := hashOnly(ctx, r.to.f, o.Key, o, &read)
	switch {
	case err != nil:
		return fmt.Errorf("read what was stored: %w", err)
	case md5 != o.MD5:
		return fmt.Errorf("%w: its MD5 is %s, that of what was sent %s", errOther, md5, o.MD5)
	}
	r.opaque.Store(true)
	return nil
}
