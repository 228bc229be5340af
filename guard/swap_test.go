package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plan makes what a restore of two roots leaves: old data, new data beside it, and
// the plan to put one in the place of the other.
func plan(t *testing.T) (dir string, steps []Rename) {
	t.Helper()
	dir = t.TempDir()
	for _, root := range []string{"data", "config"} {
		live := filepath.Join(dir, root)
		for _, p := range []string{live, live + ".new"} {
			must(t, os.Mkdir(p, 0o700))
			must(t, os.WriteFile(filepath.Join(p, "made as "+filepath.Base(p)), nil, 0o600))
		}
		steps = append(steps, Rename{From: live, To: live + ".old"}, Rename{From: live + ".new", To: live})
	}
	return dir, steps
}

// tree lists what is in a directory and in those below it.
func tree(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(dir + "/*/*")
	must(t, err)
	for i := range all {
		all[i] = strings.TrimPrefix(all[i], dir+"/")
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

const (
	before = "config.new/made as config.new, config/made as config, data.new/made as data.new, data/made as data"
	after  = "config.old/made as config, config/made as config.new, data.old/made as data, data/made as data.new"
)

// TestSwapFromEveryPoint interrupts a swap, and the undoing of it, after each step.
func TestSwapFromEveryPoint(t *testing.T) {
	for n := range 5 {
		for _, c := range []struct {
			name string
			do   func([]Rename) error
			want string
		}{{"swap", Swap, after}, {"undo", UndoSwap, before}} {
			t.Run(fmt.Sprintf("%s after %d steps", c.name, n), func(t *testing.T) {
				dir, steps := plan(t)
				for _, s := range steps[:n] {
					must(t, os.Rename(s.From, s.To))
				}
				if begun, err := SwapBegun(steps); err != nil || begun != (n > 0) {
					t.Errorf("begun: %v, %v", begun, err)
				}
				for range 2 { // the second time there is nothing to do
					must(t, c.do(steps))
					if got := tree(t, dir); got != c.want {
						t.Errorf("got  %s\nwant %s", got, c.want)
					}
				}
			})
		}
	}
}

// TestSwapOfSomeoneElsesChange: nothing is moved when the paths are in no state
// that the plan leads to.
func TestSwapOfSomeoneElsesChange(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"target exists":     func(d string) error { return os.Mkdir(d+"/config.old", 0o700) },
		"source is missing": func(d string) error { return os.RemoveAll(d + "/config.new") },
		"an empty directory was made in the place of the old data": func(d string) error {
			return errors.Join(os.Rename(d+"/data", d+"/data.old"), os.Mkdir(d+"/data", 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, steps := plan(t)
			must(t, change(dir))
			was := tree(t, dir)
			for _, do := range []func([]Rename) error{Swap, UndoSwap} {
				var se *SwapError
				if err := do(steps); !errors.As(err, &se) || !strings.Contains(err.Error(), "config.old (") {
					t.Errorf("error is %v", err)
				}
			}
			if got := tree(t, dir); got != was {
				t.Errorf("moved something: %s", got)
			}
		})
	}
}

// TestVacatedPathIsMadeAnew: a server makes what it misses, after any step, and more
// than once.
func TestVacatedPathIsMadeAnew(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprintf("after %d steps", n), func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			for _, p := range []string{"index/old", "data/old", "new/new", "aside/"} {
				must(t, os.MkdirAll(at(p), 0o700))
			}
			steps := []Rename{
				{From: at("index"), To: at("aside/index"), Spare: at("stage/index")},
				{From: at("data"), To: at("aside/data")},
				{From: at("new"), To: at("data")},
			}
			const was = "data/old, index/old, new/new"
			for round := range 2 {
				must(t, Swap(steps[:n]))
				must(t, os.MkdirAll(at(fmt.Sprintf("index/made-%d", round)), 0o700))
				must(t, Swap(steps[:n])) // nothing to do
				if done, err := SwapDone(steps); err != nil || done != (n == 3) {
					t.Errorf("done: %v, %v", done, err)
				}
				must(t, UndoSwap(steps))
				must(t, UndoSwap(steps))
			}
			must(t, os.Remove(at("aside")))
			if got := tree(t, dir); got != was+", stage/index, stage/index-2" {
				t.Errorf("got %s", got)
			}
			if _, err := os.Stat(at("stage/index-2/made-1")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSwapRefusesCircles(t *testing.T) {
	_, steps := plan(t)
	a, b, spare := steps[0].From, steps[1].From, steps[0].To
	if err := Swap([]Rename{{From: a, To: spare}, {From: b, To: a}, {From: spare, To: b}}); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("error is %v", err)
	}
}

// TestMoveNeverOverwrites: rename(2) would replace an empty directory.
func TestMoveNeverOverwrites(t *testing.T) {
	dir, steps := plan(t)
	must(t, os.Mkdir(dir+"/empty", 0o700))
	if err := Move(steps[0].From, dir+"/empty"); !errors.Is(err, os.ErrExist) {
		t.Errorf("error is %v", err)
	}
}

func TestSwapOfNothing(t *testing.T) {
	must(t, Swap(nil))
	must(t, UndoSwap(nil))
}
