package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/opencloud"
)

// starterLimit is how long it may take to find out who started an instance.
const starterLimit = 4 * time.Second

// clock is how moments are told: the admin compares them with other logs.
const clock = "15:04:05"

// Starter says who or what started an instance after since, a moment at which it
// was stopped, as far as that can be told: what its manager knows of the start, what
// there is that starts instances by itself, and which processes hold the locks of
// its databases (opencloud.Layout.LockFiles), with their parents. The answer is some
// short lines for an admin without a final newline, "" when nothing is known. Of
// command lines it has the program and what is no option and no secret.
//
// It never fails, takes some seconds at the most, and is not ended by ctx.
func Starter(ctx context.Context, c Controller, locks []string, since time.Time) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), starterLimit)
	defer cancel()
	// A manager that does not answer must not keep the rest from being told.
	manager, processes := make(chan []string, 1), make(chan []string, 1)
	m, managed := c.(interface {
		starter(ctx context.Context, since time.Time) []string
	})
	go func() {
		if managed {
			manager <- m.starter(ctx, since)
		} else {
			manager <- nil
		}
	}()
	go func() { processes <- atWork(ctx, c, locks, managed) }()
	var lines []string
	for _, from := range []chan []string{manager, processes} {
		select {
		case l := <-from:
			lines = append(lines, l...)
		case <-ctx.Done():
			select { // both may have come true
			case l := <-from:
				lines = append(lines, l...)
			default:
			}
		}
	}
	return strings.Join(lines, "\n")
}

// atWork tells of the processes that hold the locks, except for those that the
// manager has told of: of a managed instance, what descends from its main process.
func atWork(ctx context.Context, c Controller, locks []string, managed bool) []string {
	var held *opencloud.HeldError
	_ = await(ctx, func(ctx context.Context) (bool, error) {
		if errors.As(opencloud.LocksFree(locks), &held) || managed || len(locks) == 0 {
			return true, nil
		}
		// One that has just been started does not hold its locks yet.
		st, err := c.Status(ctx)
		return err == nil && st.State == Stopped, nil
	})
	if held == nil {
		return nil
	}
	if len(held.PIDs) == 0 && !managed {
		return []string{held.Error() + ": it may run on another host, or in a container"}
	}
	main := 0
	if managed {
		ctx, cancel := context.WithTimeout(ctx, starterLimit/2)
		defer cancel()
		if st, err := c.Status(ctx); err == nil {
			main = st.PID
		}
	}
	var lines []string
	for _, pid := range held.PIDs {
		line := ancestry(pid)
		if main > 0 && slices.ContainsFunc(line, func(p process) bool { return p.pid == main }) {
			continue
		}
		lines = append(lines, describe(line)...)
	}
	return lines
}
