package snapshot

import (
	"context"
	"errors"
	"sync"
	"time"
)

// await returns what f returns, or the cause of the context's end when that comes first:
// f goes on then, and nobody waits for it.
func await(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// turns has a channel for each snapshot's name: who has put something into it, has the
// turn. One that hangs in its creation is so not taken for one that is not there.
var turns sync.Map

// inTurn awaits f, which is called when no other call for this snapshot is under way.
func inTurn(ctx context.Context, v Volume, f func() error) error {
	c, _ := turns.LoadOrStore(v.Name, make(chan struct{}, 1))
	turn := c.(chan struct{})
	return await(ctx, func() error {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		defer func() { <-turn }()
		return f()
	})
}

// each calls f for all volumes at once, each in its turn, and returns their errors, in the
// volumes' order.
func each(ctx context.Context, all []Volume, f func(context.Context, driver, *Volume) error) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, v := range all {
		wg.Go(func() {
			d := v.driver()
			if d == nil {
				errs[i] = errors.New("this version of ocbackup has no driver " + string(v.Driver))
				return
			}
			// f gets a volume of its own: it may still be at work when nobody waits for it.
			errs[i] = inTurn(ctx, v, func() error { return f(ctx, d, &v) })
		})
	}
	wg.Wait()
	return errs
}

// cleanupFor is how long what has to be done after all may take.
const cleanupFor = 2 * time.Minute

// afterAll returns a context for what has to be done although ctx has ended.
func afterAll(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(context.WithoutCancel(ctx), cleanupFor, errors.New("it took longer than "+cleanupFor.String()))
}
