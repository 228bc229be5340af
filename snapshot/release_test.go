package snapshot

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
)

// Whatever happened before, Release leaves nothing, and can be called again.
func TestRelease(t *testing.T) {
	need(t, "btrfs")
	one, _ := loopFS(t, "btrfs", 128*megabytes)
	two, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, one+"/users/f", "1")
	put(t, two+"/search/f", "2")
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, p *Plan)
	}{
		{"nothing", func(*testing.T, *Plan) {}},
		{"rehearsed", func(t *testing.T, p *Plan) { must(t, p.Rehearse(t.Context())) }},
		{"frozen", func(t *testing.T, p *Plan) { must(t, p.Freeze(t.Context())) }},
		{"opened", func(t *testing.T, p *Plan) { must(t, p.Freeze(t.Context()), p.Open(t.Context())) }},
		{"opened twice", func(t *testing.T, p *Plan) {
			must(t, p.Freeze(t.Context()), p.Open(t.Context()), p.Open(t.Context()))
			list(t, p.View("users"))
		}},
		{"a run that died", func(t *testing.T, p *Plan) {
			must(t, p.Freeze(t.Context()), p.Open(t.Context()))
			left, err := Left(p.req.StateDir)
			if err != nil || len(left) != 1 || left[0].Set != testSet {
				t.Errorf("left: %+v, %v", left, err)
			}
			_, err = Sweep(t.Context(), SweepOptions{Instance: instance, StateDir: p.req.StateDir, RunDir: p.req.RunDir})
			must(t, err)
			nothingLeft(t, p.req, one, two)
		}},
		{"frozen in part: the name is taken", func(t *testing.T, p *Plan) {
			name := nameOf(p.req, 1)
			sh(t, "mkdir -p "+two+"/"+btrfsDir+"; btrfs subvolume snapshot -r "+two+" "+two+"/"+btrfsDir+"/"+name)
			err := p.Freeze(t.Context())
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "already") || !strings.Contains(err.Error(), two) {
				t.Errorf("freeze: %v", err)
			}
		}},
		{"frozen in part: read-only by now", func(t *testing.T, p *Plan) {
			sh(t, "mount -o remount,ro "+two)
			err := p.Freeze(t.Context())
			if err == nil || !strings.Contains(err.Error(), "read-only") {
				t.Errorf("freeze: %v", err)
			}
			if err := p.Release(t.Context()); err == nil || fail.CodeOf(err) != fail.Failed {
				t.Errorf("release, where it can't be told: %v", err)
			}
			sh(t, "mount -o remount,rw "+two)
		}},
		{"a snapshot that somebody removed", func(t *testing.T, p *Plan) {
			must(t, p.Freeze(t.Context()), p.Open(t.Context()))
			sh(t, "btrfs subvolume delete "+two+"/"+btrfsDir+"/"+nameOf(p.req, 1))
		}},
		{"views that somebody unmounted", func(t *testing.T, p *Plan) {
			must(t, p.Freeze(t.Context()), p.Open(t.Context()))
			sh(t, "umount "+p.View("users")+"; rmdir "+p.View("users"))
		}},
		{"a view with somebody in it", func(t *testing.T, p *Plan) {
			must(t, p.Freeze(t.Context()), p.Open(t.Context()))
			sit(t, p.View("users"))
		}},
		{"a context that has ended", func(t *testing.T, p *Plan) {
			must(t, p.Freeze(t.Context()), p.Open(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			must(t, p.Release(ctx))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(t, "users", one+"/users", "search", two+"/search")
			p := find(t, r)
			tc.do(t, p)
			must(t, p.Release(t.Context()))
			nothingLeft(t, r, one, two)
			must(t, p.Release(t.Context()))
		})
	}
}

// sit has a process work in a directory until the test ends.
func sit(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
}

var errDeadline = errors.New("the deadline is over")

// soon ends before what hangs does.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errDeadline)
	t.Cleanup(cancel)
	return ctx
}

// Storage that hangs does not hold up a caller whose time is over, and the snapshot that it
// makes in the end is found.
func TestHangs(t *testing.T) {
	need(t, "btrfs", "fsfreeze")
	for name, tidy := range map[string]func(*testing.T, *Plan, Request){
		"released": func(t *testing.T, p *Plan, _ Request) { must(t, p.Release(t.Context())) },
		"swept": func(t *testing.T, _ *Plan, r Request) {
			removed, err := Sweep(t.Context(), SweepOptions{Instance: r.Instance, StateDir: r.StateDir, RunDir: r.RunDir})
			if err != nil || len(removed) != 1 {
				t.Errorf("swept %v: %v", removed, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			top, _ := loopFS(t, "btrfs", 128*megabytes)
			put(t, top+"/users/f", "1")
			r := request(t, "users", top+"/users")
			p := find(t, r)
			sh(t, "fsfreeze -f "+top)
			thaw := func() { exec.Command("fsfreeze", "-u", top).Run() }
			t.Cleanup(thaw)
			if err := p.Rehearse(soon(t)); !errors.Is(err, errDeadline) {
				t.Errorf("rehearse: %v", err)
			}
			p.Sync(soon(t))
			if err := p.Freeze(soon(t)); !errors.Is(err, errDeadline) {
				t.Errorf("freeze: %v", err)
			}
			if err := p.Release(soon(t)); !errors.Is(err, errDeadline) {
				t.Errorf("release: %v", err)
			}
			if _, err := os.Stat(recordFile(r.StateDir, r.Set)); err != nil {
				t.Errorf("the record: %v", err)
			}
			thaw()
			tidy(t, p, r)
			nothingLeft(t, r, top)
		})
	}
}

// A snapshot that is gone while it is read is told, with what to do.
func TestLost(t *testing.T) {
	need(t, "btrfs")
	top, _ := loopFS(t, "btrfs", 128*megabytes)
	put(t, top+"/users/f", "1")
	p := frozen(t, request(t, "users", top+"/users"))
	must(t, p.Lost(t.Context()))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, p.Watch(ended))

	watched := make(chan error)
	go func() { watched <- p.Watch(t.Context()) }()
	sh(t, "btrfs subvolume delete "+top+"/"+btrfsDir+"/*")
	for which, err := range map[string]error{"watch": <-watched, "lost": p.Lost(t.Context())} {
		var lost *LostError
		if !errors.As(err, &lost) || lost.Volume != top || !strings.Contains(lost.Why, "removed") {
			t.Errorf("%s: %v", which, err)
		}
		if _, _, hint := fail.Details(err); hint == "" {
			t.Errorf("%s: no hint", which)
		}
	}
}
