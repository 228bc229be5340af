//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// What the scenarios with snapshots of file systems are told in, beside cloud_test.go.

// subvolume makes a subvolume on a btrfs and returns its path.
func subvolume(t testing.TB, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	wants(t, env.Exec(background, nil, "btrfs", "-q", "subvolume", "create", path), 0)
	return path
}

// faults is the environment that injects several faults, as fault does for one.
func faults(list ...string) []string { return []string{"OCBACKUP_FAULT=" + strings.Join(list, ",")} }

// keepsStopped is a fault that copies the data while the server is stopped.
func (c *cloud) keepsStopped() string {
	return "cold.stopped=exec:" + c.script("keep-stopped", fmt.Sprintf("cd %s && rm -rf stopped && mkdir stopped && cp -a config data stopped/", c.dir))
}

// atWork is a fault that makes a run fail whose snapshots are opened while the server does not run.
func (c *cloud) atWork() string {
	return fmt.Sprintf("store.opened=exec:%s/tools/standin-ctl.sh %s status", env.Root(), c.dir)
}

// exact makes a backup while the server's writer runs, and asserts that the set is the
// state of the one moment at which the server was stopped, with everything in it. It
// returns the set's id.
func (c *cloud) exact(more ...string) string {
	c.t.Helper()
	r := c.runWith(faults(append(more, c.keepsStopped(), c.atWork())...), "--json", "backup")
	wants(c.t, r, 0)
	var res struct{ Set string }
	if err := json.Unmarshal([]byte(r.Stdout), &res); err != nil {
		c.t.Fatal(err)
	}
	c.running()
	copied := c.restoreCopy(res.Set)
	sameTrees(c.t, treesum(c.t, c.path("stopped"), "config", "data"), treesum(c.t, copied+c.dir, "config", "data"))
	c.remove("stopped", "copy-of-"+res.Set)
	return res.Set
}

// downtime is a part of a manifest.
type downtime struct {
	Total     float64 `json:"total_s"`
	Freeze    float64 `json:"freeze_s"`
	Bucket    float64 `json:"bucket_s"`
	Predicted float64 `json:"predicted_s"`
}

// shown is what "show" tells of a set.
func (c *cloud) shown(id string) (taken map[string]string, down downtime) {
	c.t.Helper()
	var res struct {
		Manifest struct {
			Downtime downtime
			Roots    []struct{ Name, Taken string }
		}
	}
	if err := json.Unmarshal([]byte(c.must("--json", "show", id)), &res); err != nil {
		c.t.Fatal(err)
	}
	taken = map[string]string{}
	for _, x := range res.Manifest.Roots {
		taken[x.Name] = x.Taken
	}
	return taken, res.Manifest.Downtime
}

// wasTaken asserts how roots of a set were read: "root: how".
func (c *cloud) wasTaken(id string, want ...string) {
	c.t.Helper()
	taken, _ := c.shown(id)
	for _, w := range want {
		if name, how, _ := strings.Cut(w, ": "); taken[name] != how {
			c.t.Errorf("root %s was taken by %q, not by %q (of all: %v)", name, taken[name], how, taken)
		}
	}
}

const unchangedFiles = 200

// fill puts files into the instance that do not change, of 8 KiB each.
func (c *cloud) fill() {
	c.t.Helper()
	for i := range unchangedFiles {
		c.write(fmt.Sprintf("data/storage/users/static/%d", i), noise(c.t, 8<<10))
	}
}

// stored is the snapshot in the repository that a set has of a root.
func (c *cloud) stored(id, root string) snapshot {
	c.t.Helper()
	for _, s := range c.snapshots() {
		if s.tag("set") == id && s.tag("root") == root {
			return s
		}
	}
	c.t.Fatalf("set %s has no root %s", id, root)
	return snapshot{}
}

// notReadAgain asserts that restic, for a root of a set, went on from what another set
// has of it, and read nothing again of what fill has made.
func (c *cloud) notReadAgain(id, after, root string) {
	c.t.Helper()
	s, old := c.stored(id, root), c.stored(after, root)
	if s.Parent != old.ID {
		c.t.Errorf("root %s of set %s was compared with %q, not with %q", root, id, s.Parent, old.ID)
	}
	sum := s.Summary
	if sum.FilesUnmodified < unchangedFiles || sum.FilesNew+sum.FilesChanged > unchangedFiles/2 || sum.DataAdded > unchangedFiles*8<<10/2 {
		c.t.Errorf("root %s of set %s was read again: %+v", root, id, sum)
	}
}

// leftovers are the snapshots, mounts and records that ocbackup has on a btrfs and on
// this machine.
func (c *cloud) leftovers(fs string) (list []string) {
	c.t.Helper()
	r := env.Exec(background, nil, "btrfs", "subvolume", "list", "-a", fs)
	wants(c.t, r, 0)
	for line := range strings.Lines(r.Stdout) {
		if strings.Contains(line, "ocbackup-"+c.name+"-") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], "/run/ocbackup/"+c.name+"/") {
			list = append(list, "mount "+f[4])
		}
	}
	records, _ := filepath.Glob(c.path("state/snapshots/*"))
	return append(list, records...)
}

// nothingLeft asserts that there are none.
func (c *cloud) nothingLeft(fs string) {
	c.t.Helper()
	if list := c.leftovers(fs); len(list) > 0 {
		c.t.Errorf("there is left: %q", list)
	}
	if _, err := os.Stat("/run/ocbackup/" + c.name); err == nil {
		c.t.Errorf("/run/ocbackup/%s is left", c.name)
	}
}

// freezeBy sets the driver of snapshots.
func (c *cloud) freezeBy(driver string) { c.configure("snapshot", "driver", strconv.Quote(driver)) }

// setIDs lists the sets.
func (c *cloud) setIDs() (ids []string) {
	c.t.Helper()
	for _, s := range c.sets() {
		ids = append(ids, s.Set)
	}
	return ids
}

// failed asserts that a run which fails has stopped the server or not, made no set, and
// has the server at work.
func (c *cloud) failed(do func(), stopped bool) {
	c.t.Helper()
	sets, stops := c.setIDs(), c.happened("stop")
	do()
	if away := c.happened("stop") > stops; away != stopped {
		c.t.Errorf("the server was stopped: %t", away)
	}
	c.running()
	if now := c.setIDs(); !slices.Equal(now, sets) {
		c.t.Errorf("the sets were %v and are %v", sets, now)
	}
}
