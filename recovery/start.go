package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
)

// Server is all that bringing an instance back needs. It is part of the journal, so
// that no configuration file is needed for it.
type Server struct {
	Layout  opencloud.Layout `json:"layout"`
	Control control.Config   `json:"control"`
	Ready   readiness.Config `json:"ready"`
	// StateDir is for messages: with it, the command that tries again works wherever
	// the configuration is.
	StateDir string `json:"-"`
}

// ServerOf takes out of a configuration what bringing its instance back needs.
func ServerOf(c *config.Config) Server {
	return Server{Layout: c.Layout, Control: c.Control, Ready: c.Ready, StateDir: c.StateDir}
}

// Took is how long the parts of bringing an instance back took.
type Took struct {
	Start time.Duration // until its manager said that it runs
	Ready time.Duration // from then until it could be used
}

// lookEvery is how often it is looked whether an instance that is waited for is
// still running.
const lookEvery = time.Second

// errEnded says that an instance ended after it had been started.
var errEnded = errors.New("it ended again before it was ready")

// Start starts an instance and those of its further services that are listed in
// also, and waits until it is ready. What runs already is no error. An instance
// that ends again meanwhile (a stop may still have been under way) is started once
// more. The error carries fail.NotBack. update may be nil; it is told what is
// waited for.
func Start(ctx context.Context, s Server, also []string, update func(string)) (Took, error) {
	if update == nil {
		update = func(string) {}
	}
	c, err := control.New(s.Control)
	if err != nil {
		return Took{}, NotBack(ctx, s, err)
	}
	took, err := start(ctx, c, s, also, update)
	if err != nil {
		return took, NotBack(ctx, s, err)
	}
	return took, nil
}

// bring is Start for a recovery: it also returns the state in which the instance was.
func bring(ctx context.Context, s Server, also []string, update func(string)) (control.State, error) {
	c, err := control.New(s.Control)
	if err != nil {
		return "", err
	}
	var before control.Status
	if before, err = c.Status(ctx); err != nil {
		before.State = control.Changing // starting it is worth the try
	}
	_, err = start(ctx, c, s, also, update)
	return before.State, err
}

func start(ctx context.Context, c control.Controller, s Server, also []string, update func(string)) (Took, error) {
	var took Took
	for try := 1; ; try++ {
		begun := time.Now()
		update("starting " + c.String())
		if err := c.Start(ctx, also); err != nil {
			return took, err
		}
		took.Start += time.Since(begun)
		begun = time.Now()
		update("waiting until OpenCloud is ready")
		err := waitReady(ctx, c, s, update)
		took.Ready += time.Since(begun)
		if err == nil || !errors.Is(err, errEnded) || try == control.StartTries {
			return took, err
		}
	}
}

// waitReady waits until the instance is ready, and no longer than it runs.
func waitReady(ctx context.Context, c control.Controller, s Server, update func(string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(ctx, c, cancel)
	}()
	err := readiness.Wait(ctx, s.Ready, s.Layout, func(ctx context.Context) (int, error) {
		st, err := c.Status(ctx)
		return st.PID, err
	}, func(reason string) { update("waiting until OpenCloud is ready: " + reason) })
	cancel(nil)
	<-watched
	if err != nil {
		return fmt.Errorf("wait until %s is ready: %w", c, err)
	}
	return nil
}

// watch ends a wait with errEnded once the instance is stopped.
func watch(ctx context.Context, c control.Controller, end context.CancelCauseFunc) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if st, err := c.Status(ctx); err == nil && (st.State == control.Stopped || st.State == control.Absent) {
			end(fmt.Errorf("%w (%s)", errEnded, st.Detail))
			return
		}
	}
}

// NotBack is an error that says that the instance is not back. The hint that the
// cause carries comes before the command that tries again.
func NotBack(ctx context.Context, s Server, err error) error {
	_, _, hint := fail.Details(err)
	again := Command(s.StateDir)
	steps := []string{hint}
	if dir := damagedIndex(ctx, s); dir != "" {
		steps = append(steps, "the search index is damaged, and keeps OpenCloud from starting: mv "+Quote(dir)+" "+Quote(dir+".damaged"), again, "ocbackup reindex")
	} else {
		steps = append(steps, "see OpenCloud's log, and whether its disks have room (df)", again)
	}
	if hint == "" {
		steps = steps[1:]
	}
	hint = strings.Join(steps, "\nthen: ")
	return &fail.Error{
		Code: fail.NotBack, What: "bring OpenCloud back", Err: err, Hint: hint,
		State: "OPENCLOUD IS NOT BACK",
	}
}

// damagedIndex returns the directory of a search index that keeps the server from
// starting; empty: there is none.
func damagedIndex(ctx context.Context, s Server) string {
	l := s.Layout
	if l.SearchExternal || l.SearchDir == "" || index.Judge(ctx, l.SearchDir, false).State != index.Damaged {
		return ""
	}
	dirs, err := index.Dirs(l.SearchDir)
	if err != nil || len(dirs) == 0 {
		return ""
	}
	return dirs[0] // the one that the server uses, and that was judged
}

// Command is the command that recovers the instance with a state directory.
func Command(stateDir string) string {
	if stateDir == "" {
		return "ocbackup recover"
	}
	return "ocbackup --state-dir " + Quote(stateDir) + " recover"
}

// RemoveCommand is the command that removes trees.
func RemoveCommand(trees []string) string {
	words := []string{"rm -rf"}
	for _, t := range trees {
		words = append(words, Quote(t))
	}
	return strings.Join(words, " ")
}

// Quote makes a word safe for a shell.
func Quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/._-+:@%=,", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
