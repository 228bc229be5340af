package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// LostError says that a snapshot can't be read any more, or soon not.
type LostError struct {
	Volume string // what it is a snapshot of: a mount point or directory
	Name   string // its name
	Why    string // in words for an admin
}

// Error says what is lost, and why.
func (e *LostError) Error() string {
	return fmt.Sprintf("the snapshot %s of %s is lost: %s", e.Name, e.Volume, e.Why)
}

// watchEvery is how long a loss may go unseen. A classic LVM snapshot can fill up quickly.
const watchEvery = 3 * time.Second

// grower is a driver whose snapshots can be given more room.
type grower interface {
	// grow gives a snapshot more room if it will soon need some. lost tells whether that helped.
	grow(ctx context.Context, v *Volume)
}

// Watch gives snapshots more room where they need it. It returns nil when its context is
// done, or an error with a *LostError in it as soon as a snapshot is gone, invalid or about
// to be.
func (p *Plan) Watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := p.watchOnce(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

func (p *Plan) watchOnce(ctx context.Context) error {
	each(ctx, p.rec.volumes(true), func(ctx context.Context, d driver, v *Volume) error {
		if d, ok := d.(grower); ok {
			d.grow(ctx, v)
		}
		return nil
	})
	return p.Lost(ctx)
}

// Lost looks once: it returns an error with a *LostError in it, or nil. It explains why a
// frozen root could not be read.
func (p *Plan) Lost(ctx context.Context) error { return p.rec.Lost(ctx) }

// Lost returns an error with a *LostError in it if one of the snapshots is known to be gone,
// invalid or about to be. Only root can know.
func (r Record) Lost(ctx context.Context) error {
	if !privileged() {
		return nil
	}
	return errors.Join(each(ctx, r.volumes(true), func(ctx context.Context, d driver, v *Volume) error {
		why := d.lost(ctx, v)
		if why == "" || ctx.Err() != nil {
			return nil
		}
		return fail.Wrap(fail.Failed, &LostError{Volume: v.Live, Name: v.Name, Why: why}, "", lostHint(v.Driver))
	})...)
}

func lostHint(d Driver) string {
	switch d {
	case LVM:
		return `Give it more room (lvm_size in [snapshot], free space in the volume group or the thin pool), or run at a quieter time. Then run the backup again.`
	case Command:
		return "Look at what the storage and the commands of [snapshot] say of it. Then run the backup again."
	default:
		return "Did somebody or something remove it, a clean-up job of snapshots say? Then run the backup again."
	}
}
