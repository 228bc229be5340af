package s3mirror

import (
	"context"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// DeleteExtra deletes the bucket's objects that the inventory does not have, for those
// who have something to do between this and Restore, which has to come first. Of those
// that were found by Compare only; others stay.
func (p *Pool) DeleteExtra(ctx context.Context, d *Difference, onProgress func(Progress)) (*Restored, error) {
	if err := d.refuse(RestoreOptions{DeleteExtra: true}); err != nil {
		return nil, err
	}
	if !d.restored {
		return nil, fail.New(fail.Failed, "nothing is deleted in the "+d.to.String()+" before all is restored", "")
	}
	began := time.Now()
	m, stop := progressOf(onProgress)
	m.toCopy.Store(int64(d.Extra))
	r := &restoration{pool: p, d: d, to: d.to, meter: m, out: &Restored{}}
	err := r.deleteExtra(d.to.with(ctx))
	stop()
	r.out.Seconds = time.Since(began).Seconds()
	return r.out, err
}

func (r *restoration) deleteExtra(ctx context.Context) error {
	return r.each(ctx, extraFile, func(ctx context.Context, o *Object) error {
		if err := r.to.remove(ctx, o.Key); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.out.Deleted++
		r.out.DeletedBytes += uint64(o.Size)
		return nil
	})
}
