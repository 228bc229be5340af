//go:build integration

package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// actions are the ways in which a run is disturbed, with the exit code that comes
// of it (-1: the signal's).
var actions = []struct {
	name string
	code int
}{{"INT", 130}, {"TERM", 130}, {"KILL", -1}, {"error", 1}}

// backupPoints are the steps of a backup at which it is disturbed, in their order.
var backupPoints = []string{
	"prepare.begin", "hot.begin", "hot.bucket", "hot.end", "cold.begin", "cold.journaled", "cold.stopped", "cold.bucket", "cold.stored", "cold.end",
	"prove.begin", "prove.end", "commit.begin", "commit.end", "tidy.begin",
}

// Every signal and an error, at every step of a backup: OpenCloud is back, nothing
// is committed (or all of it), and the next backup is as good as any.
func TestBackupDisturbed(t *testing.T) {
	t.Parallel()
	for _, action := range actions {
		for _, driver := range []string{"posix", "decomposed", "decomposeds3"} {
			if driver == "decomposed" && action.name != "KILL" {
				continue // the steps are the same; the worst of them shows it
			}
			t.Run(action.name+" "+driver, func(t *testing.T) {
				t.Parallel()
				c := newCloud(t, driver)
				c.backup()
				for _, point := range backupPoints {
					bucket := strings.HasSuffix(point, ".bucket")
					switch {
					case bucket && c.s3 == nil, driver == "decomposed" && !strings.HasPrefix(point, "cold."):
						continue
					case driver == "decomposeds3" && !bucket && (action.name != "KILL" || point != "cold.stored"):
						continue
					case (point == "hot.end" || point == "prove.end") && (action.name == "INT" || action.name == "TERM"):
						continue // nothing is different from their neighbours
					}
					ok := t.Run(point, func(t *testing.T) {
						c := c.with(t)
						disturbBackup(c, point, action.name, action.code)
						if point != "prepare.begin" && point != "hot.begin" { // nothing was done yet: the next row's run will do
							c.next()
						}
					})
					if !ok {
						return // the rows after it stand on the same instance
					}
				}
				c.good()
			})
		}
	}
}

// disturbBackup runs a backup that is disturbed, and checks what it leaves.
func disturbBackup(c *cloud, point, action string, code int) {
	t := c.t
	t.Helper()
	before, stops := c.sets(), c.happened("stop")
	committed := slices.Contains([]string{"commit.end", "tidy.begin"}, point)
	if committed && code == 130 {
		code = 0 // a signal that comes when all is done changes nothing
	}
	tmp := t.TempDir()
	r := c.runWith(append(fault(point, action), "TMPDIR="+tmp), "backup")
	wants(t, r, code)
	c.settled(action, point == "cold.journaled" && action == "KILL")
	c.nothingTemporary(tmp, action == "KILL")
	if away := c.happened("stop") - stops; away > 1 || away == 0 && slices.Index(backupPoints, point) > slices.Index(backupPoints, "cold.journaled") {
		t.Errorf("the server was stopped %d times", away)
	}
	after := c.sets()
	switch {
	case !committed && !slices.Equal(before, after):
		t.Errorf("the sets were %v and are %v", before, after)
	case committed && (len(after) != len(before)+1 || after[len(after)-1].State != "complete"):
		t.Errorf("the set was not committed: %v", after)
	case committed:
		c.restoreCopy(after[len(after)-1].Set)
	}
}

// nothingTemporary asserts that a run has left no temporary files; one that was killed may
// have, where the next one clears up.
func (c *cloud) nothingTemporary(tmp string, killed bool) {
	c.t.Helper()
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		c.t.Errorf("in TMPDIR is left: %v (%v)", left, err)
	}
	if _, err := os.Stat(c.path("state/prove")); !killed && !errors.Is(err, fs.ErrNotExist) {
		c.t.Errorf("state/prove is left (%v)", err)
	}
}

// settled waits until an instance whose run was disturbed is itself again. left says
// that the server runs, but that a journal is left for the next run to find.
func (c *cloud) settled(action string, left bool) {
	c.t.Helper()
	switch {
	case left:
		if c.read("state/journal.json") == "" {
			c.t.Error("there is no journal")
		}
		if c.ctl("status").Code != 0 {
			c.t.Error("the server does not run")
		}
		starts := c.happened("start")
		c.must("recover")
		if c.happened("start") != starts {
			c.t.Error("the running server was started")
		}
	case action == "KILL":
		c.awaitBack()
	}
	c.running()
}

// restorePoint is a step of a restore, with which data is in place when the run is
// disturbed there, and what it then ends with where that is not the action's code.
type restorePoint struct {
	name string
	args []string
	data map[string]string // by action; "" for all others
	code map[string]int
	// left lists the actions that leave a journal: nobody watches yet, or any more.
	left []string
	// held: nothing but a complete restore may start the server again.
	held bool
}

const before, after = "before", "after" // the restore puts "after" back to "before"

var restorePoints = []restorePoint{
	{name: "restore.prepared", data: map[string]string{"": after}},
	{name: "restore.staged", data: map[string]string{"": after}, left: []string{"KILL"}},
	{name: "restore.checked", data: map[string]string{"": after}, left: []string{"KILL"}},
	{name: "restore.journaled", data: map[string]string{"": after}, left: []string{"KILL"}},
	{name: "restore.stopped", data: map[string]string{"": after}},
	{name: "restore.swapped-one", data: map[string]string{"": after}},
	{name: "restore.swapped", data: map[string]string{"": after}},
	// From here on the new data is in place: only an error, which stands for a server
	// that does not come up with it, brings the old back.
	{name: "restore.committed", data: map[string]string{"": before, "error": after}, code: map[string]int{"INT": 0, "TERM": 0}},
	{name: "restore.started", data: map[string]string{"": before, "error": after}, code: map[string]int{"INT": 0, "TERM": 0}},
	{name: "restore.ready", data: map[string]string{"": before}, left: []string{"error"}, code: map[string]int{"INT": 0, "TERM": 0}},
	{name: "inplace.stopped", args: []string{"--in-place"}, data: map[string]string{"": after}},
	{name: "inplace.restored", args: []string{"--in-place"}, held: true, code: map[string]int{"error": 5, "INT": 5, "TERM": 5}},
}

// Every signal and an error, at every step of a restore: OpenCloud runs, on all of
// the old or all of the new data, and the restore can be run again.
func TestRestoreDisturbed(t *testing.T) {
	t.Parallel()
	for _, action := range actions {
		for _, driver := range []string{"posix", "decomposed"} {
			if driver == "decomposed" && action.name != "KILL" {
				continue
			}
			t.Run(action.name+" "+driver, func(t *testing.T) {
				t.Parallel()
				c := newCloud(t, driver)
				c.index() // so that none has to be built
				c.mark(before)
				id := c.backup()
				for i, p := range restorePoints {
					if driver == "decomposed" && !strings.Contains(p.name, "swapped") && !strings.Contains(p.name, "inplace") {
						continue
					}
					ok := t.Run(p.name, func(t *testing.T) {
						disturbRestore(c.with(t), p, id, action.name, action.code, i%4 == 0)
					})
					if !ok {
						return
					}
				}
				c.good()
			})
		}
	}
}

func disturbRestore(c *cloud, p restorePoint, id, action string, code int, again bool) {
	t := c.t
	t.Helper()
	c.mark(after)
	if special, ok := p.code[action]; ok {
		code = special
	}
	r := c.runWith(fault(p.name, action), append(append([]string{"restore", "--yes"}, p.args...), id)...)
	wants(t, r, code)
	if p.held {
		c.held(id)
		return
	}
	c.settled(action, slices.Contains(p.left, action))
	want, ok := p.data[action]
	if !ok {
		want = p.data[""]
	}
	if got := c.marked(); got != want {
		t.Fatalf("the data is from %q, want %q\n%s", got, want, r.Stderr)
	}
	c.stop()
	wants(t, c.check(""), 0)
	c.start()
	if again {
		c.restore(append(slices.Clone(p.args), id)...)
		if got := c.marked(); got != before {
			t.Fatalf("after the second restore the data is from %q", got)
		}
		c.next()
	}
	c.sweep()
}

// held asserts that an instance whose restore in place was interrupted is not
// started, by nobody, until that is completed.
func (c *cloud) held(id string) {
	c.t.Helper()
	env.Eventually(c.t, 40e9, "the guard gives up", func() bool {
		return env.Exec(background, nil, "flock", "-n", c.path("state/lock"), "true").Code == 0
	})
	c.stopped()
	wants(c.t, c.run("recover"), 5, "--in-place")
	wants(c.t, c.run("backup"), 5, "--in-place")
	c.stopped()
	c.restore("--in-place", id)
	c.running()
	if got := c.marked(); got != before {
		c.t.Errorf("the data is from %q", got)
	}
	c.good()
}

// sweep removes old data that restores have kept, and what killed ones have staged,
// as the admin would.
func (c *cloud) sweep() {
	c.t.Helper()
	r := env.Exec(background, nil, "sh", "-c", fmt.Sprintf("find %s -name '.ocbackup-*' -prune -exec rm -rf {} +", c.dir))
	wants(c.t, r, 0)
}
