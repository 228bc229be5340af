package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// failures collects what went wrong with objects. One that fails does not keep others
// from being worked on; many do, and what will fail for all others too.
type failures struct {
	ctx  context.Context
	stop context.CancelCauseFunc
	mu   sync.Mutex
	list []error
}

// newFailures returns a context that ends when there is no use in going on.
func newFailures(ctx context.Context) (context.Context, *failures) {
	f := &failures{}
	f.ctx, f.stop = context.WithCancelCause(ctx)
	return f.ctx, f
}

// add notes an error; that of something that was called off is none.
func (f *failures) add(err error) {
	if err == nil || context.Cause(f.ctx) != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.list = append(f.list, err); len(f.list) >= maxFailures || hopeless(err) {
		f.stop(errTooMany)
	}
}

// end gives what went wrong: what has ended the context; or the first of what was
// added, and how many more there are; or err.
func (f *failures) end(err error) error {
	cause := context.Cause(f.ctx)
	f.stop(nil)
	more := len(f.list) - 1
	switch {
	case cause != nil && !errors.Is(cause, errTooMany):
		return cause
	case more == 0:
		return f.list[0]
	case more > 0:
		return fmt.Errorf("%w (and %d more)", f.list[0], more)
	}
	return err
}
