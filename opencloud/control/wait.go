package control

import (
	"context"
	"fmt"
	"time"
)

const (
	// pollEvery is how often a manager is asked that has no way of telling.
	pollEvery = 150 * time.Millisecond
	// slack is what a manager may take to answer beyond the time that it was given
	// to do the work.
	slack = 15 * time.Second
)

// StartTries is how often an instance is started that runs and then ends before it
// is ready.
const StartTries = 2

// Budget is how long Stop may take at the most, and all the starts of bringing the
// instance back: of each service, with a stop that is still under way. Until it is
// ready takes longer (readiness.Config.Timeout, for each of StartTries).
func (c Config) Budget() (stop, start time.Duration) {
	c.setDefaults()
	services := time.Duration(1 + len(c.AlsoStop))
	stop = services * (c.StopTimeout + slack)
	start = StartTries*services*(c.StartTimeout+slack) + stop
	return stop, start
}

// KilledError says that an instance is stopped, but did not end by itself: its
// manager killed it. What it was writing may be half-written.
type KilledError struct {
	What   string // the instance
	Detail string // the manager's last word
}

// Error says who was killed, and what the manager said of it.
func (e *KilledError) Error() string {
	return fmt.Sprintf("%s did not end when told to and was killed (%s)", e.What, e.Detail)
}

// seeThrough returns a context for a stop that was asked for. A manager goes on
// stopping when its client goes away, so a stop that is left half-way could still
// take effect after the start that is meant to undo it. Therefore the caller's
// cancellation does not end it, only its time does.
func seeThrough(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

// timedOut tells whether the time of ctx is over, and not just its parent ended.
func timedOut(parent, ctx context.Context) bool {
	return ctx.Err() != nil && parent.Err() == nil
}

// await asks look again and again until it says that it is done, fails, or ctx
// ends; then it returns the context's error.
func await(ctx context.Context, look func(context.Context) (done bool, err error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		done, err := look(ctx)
		if ctx.Err() != nil && !done {
			return ctx.Err()
		}
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// lastWord is the manager's own word for the state, asked for when the time is
// over.
func lastWord(ctx context.Context, status func(context.Context) (Status, error)) string {
	ctx, cancel := seeThrough(ctx, slack)
	defer cancel()
	s, err := status(ctx)
	if err != nil {
		return "unknown: " + err.Error()
	}
	return s.Detail
}
