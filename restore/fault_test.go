//go:build faultpoint

package restore

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/recovery"
)

// A restore that dies at any point leaves a running instance, with all of its old
// data or all of the new, and the next restore works.
func TestDeathAtEveryPoint(t *testing.T) {
	for _, c := range []struct {
		point string
		now   string // data/version afterwards
	}{
		{"restore.prepared", "live"},
		{"restore.staged", "live"},
		{"restore.checked", "live"},
		{"restore.journaled", "live"},
		{"restore.stopped", "live"},
		{"restore.swapped-one", "live"},
		{"restore.swapped", "live"},
		{"restore.committed", "set"},
		{"restore.started", "set"},
		{"restore.ready", "set"},
	} {
		for _, action := range []string{"KILL", "TERM"} {
			t.Run(c.point+"="+action, func(t *testing.T) {
				s := newSite(t)
				before := snap(t, filepath.Join(s.base, "data"))
				code := s.runChild(c.point+"="+action, false)
				now := c.now
				switch action {
				case "KILL":
					if code != -1 {
						t.Errorf("not killed: exit code %d", code)
					}
					if slices.Contains([]string{"restore.staged", "restore.checked", "restore.journaled"}, c.point) {
						// There is no guard yet, and nothing was stopped: the next run tidies up.
						if _, err := recovery.Recover(context.Background(), s.cfg.StateDir, s.options().Report); err != nil {
							t.Error(err)
						}
					}
					s.awaitBack()
					if now := s.leftovers(); c.now == "live" && len(now) > 0 {
						t.Errorf("left behind: %v", now)
					}
				case "TERM":
					// Once the new data is in place, a signal no longer changes anything.
					if want := int(fail.Interrupted); now == "live" && code != want || now == "set" && code != 0 {
						t.Errorf("exit code %d", code)
					}
					if now == "live" {
						s.check(true)
					}
				}
				s.want("data/version", now)
				if now == "live" {
					same(t, "data", before, snap(t, filepath.Join(s.base, "data")))
				}
				if !s.has("running") {
					t.Error("the instance is not back")
				}
				if c.point != "restore.swapped-one" {
					return
				}
				o := s.options()
				o.Components = []opencloud.Component{opencloud.System}
				if _, err := Run(context.Background(), o); err != nil {
					t.Errorf("the next restore: %v", err)
				}
				s.want("data/version", "set")
				if l := s.leftovers(); len(l) != 1 || !strings.Contains(l[0], asidePrefix) {
					t.Errorf("left behind: %v", l)
				}
			})
		}
	}
}

// A restore in place that dies is never started by anybody but its repetition.
func TestDeathInPlace(t *testing.T) {
	for point, held := range map[string]bool{"inplace.stopped": false, "inplace.restored": true} {
		t.Run(point, func(t *testing.T) {
			s := newSite(t)
			s.runChild(point+"=KILL", true)
			if !held {
				s.awaitBack()
				s.want("data/version", "live")
				return
			}
			_, err := recovery.Recover(context.Background(), s.cfg.StateDir, s.options().Report)
			var h *recovery.HeldError
			if !errors.As(err, &h) || s.has("running") {
				t.Fatalf("recover: %v", err)
			}
			o := s.options()
			o.InPlace, o.Components = true, []opencloud.Component{opencloud.System}
			if _, err := Run(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			s.want("data/version", "set")
			s.check(true)
		})
	}
}

// runChild restores the system component in a process of its own and returns its
// exit code, -1 when it was killed.
func (s *site) runChild(faults string, inPlace bool) int {
	s.t.Helper()
	o := s.options()
	b, err := json.Marshal(child{
		Config: o.Config, Repo: world.options, Set: o.Set, Maps: o.Maps,
		Components: []opencloud.Component{opencloud.System}, InPlace: inPlace,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("child.json", string(b))
	cmd := exec.Command("/proc/self/exe", "restore", filepath.Join(s.base, "child.json"))
	cmd.Env = append(os.Environ(), "OCBACKUP_FAULT="+faults)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%v: %s", err, out)
	}
	s.t.Logf("%s", strings.TrimSpace(string(out)))
	return cmd.ProcessState.ExitCode()
}

// awaitBack waits until the guard has brought the instance back.
func (s *site) awaitBack() {
	s.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if j, err := guard.Read(s.cfg.StateDir); j == nil && err == nil {
			return
		}
	}
	s.t.Fatal("the journal is still there: the guard did not bring the instance back")
}
