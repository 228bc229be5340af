package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/proc"
)

// commands is an instance whose state is the file "up" in the fake's directory.
func commands(t *testing.T) (*fake, Config) {
	f := newFake(t)
	f.program("oc-status", `[ -e "$FAKE/broken" ] && { echo "cannot tell" >&2; exit 1; }
[ -e "$FAKE/up" ] || exit 3
cat "$FAKE/up"`)
	f.program("oc-start", `[ -e "$FAKE/no-start" ] || echo "stamp $$" >"$FAKE/up"`)
	f.program("oc-stop", `[ -e "$FAKE/no-stop" ] || rm -f "$FAKE/up"`)
	f.program("oc-exec", `[ "$2" = fails ] && { echo so much; echo "it failed" >&2; exit 7; }
[ "$2" = --skip-services ] && exit 1
[ "$1" = version ] && echo "Version: 3.1.0" || echo "ran $*"`)
	return f, Config{Type: "command", Start: []string{"oc-start"}, Stop: []string{"oc-stop"}, Status: []string{"oc-status"}, Exec: []string{"oc-exec"}}
}

func TestCommand(t *testing.T) {
	f, cfg := commands(t)
	c := must(t, cfg)
	steps := []struct {
		name string
		do   func() error
		want State
	}{
		{"nothing yet", func() error { return nil }, Stopped},
		{"start", func() error { return c.Start(t.Context(), nil) }, Running},
		{"start again", func() error { return c.Start(t.Context(), nil) }, Running},
		{"stop", func() error { return c.Stop(t.Context()) }, Stopped},
		{"stop again", func() error { return c.Stop(t.Context()) }, Stopped},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		st, err := c.Status(t.Context())
		if err != nil || st.State != s.want || (st.State == Running) != strings.HasPrefix(st.Stamp, "stamp ") {
			t.Fatalf("%s: status %+v, %v", s.name, st, err)
		}
	}
	equal(t, "calls", f.calls("oc-start", "oc-stop"), []string{"oc-start", "oc-stop"})
}

func TestCommandExec(t *testing.T) {
	_, cfg := commands(t)
	c := must(t, cfg)
	if out, err := c.Exec(t.Context(), "search", "index"); err != nil || out != "ran search index\n" {
		t.Errorf("%q, %v", out, err)
	}
	out, err := c.Exec(t.Context(), "search", "fails")
	var exit *proc.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || out != "so much\n" {
		t.Errorf("%q, %v", out, err)
	}
	// An early build does not know the flag.
	if v, err := Version(t.Context(), c); err != nil || v != "3.1.0" {
		t.Errorf("version %q, %v", v, err)
	}
	cfg.Exec = nil
	if _, err := must(t, cfg).Exec(t.Context(), "version"); !errors.Is(err, ErrNoExec) {
		t.Errorf("without exec: %v", err)
	}
}

func TestCommandStatusUnknown(t *testing.T) {
	f, cfg := commands(t)
	f.put("broken", "")
	if _, err := must(t, cfg).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("error %v", err)
	}
	cfg.Status = []string{"no-such-program"}
	var missing *proc.NotFoundError
	if err := must(t, cfg).Stop(t.Context()); !errors.As(err, &missing) {
		t.Errorf("error %v", err)
	}
}

func TestCommandTimeouts(t *testing.T) {
	f, cfg := commands(t)
	f.put("no-start", "")
	f.put("no-stop", "")
	cfg.StartTimeout, cfg.StopTimeout = 300*time.Millisecond, 300*time.Millisecond
	c := must(t, cfg)
	var timeout *TimeoutError
	if err := c.Start(t.Context(), nil); !errors.As(err, &timeout) || timeout.Op != "start" || !strings.Contains(timeout.Detail, "stopped") {
		t.Errorf("start: %v", err)
	}
	f.put("up", "stamp")
	if err := c.Stop(t.Context()); !errors.As(err, &timeout) || timeout.Op != "stop" || !strings.Contains(timeout.Detail, "running") {
		t.Errorf("stop: %v", err)
	}
	f.put("broken", "")
	if err := c.Stop(t.Context()); !errors.As(err, &timeout) || !strings.Contains(timeout.Detail, "cannot tell") {
		t.Errorf("stop: %v", err)
	}
}

// Once it has begun, a stop is seen through; before, it is not begun.
func TestStopAndCancellation(t *testing.T) {
	f, cfg := commands(t)
	f.put("up", "stamp")
	ctx, cancel := context.WithCancel(t.Context())
	f.program("oc-stop", `touch "$FAKE/stopping"; while [ ! -e "$FAKE/go" ]; do sleep 0.02; done; rm "$FAKE/up"`)
	go func() {
		for len(f.calls("oc-stop")) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		f.put("go", "")
	}()
	c := must(t, cfg)
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.State != Stopped {
		t.Errorf("status %+v, %v", st, err)
	}
	f.put("up", "stamp")
	if err := c.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop with a context that is done: %v", err)
	}
}
