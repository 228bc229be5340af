package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/proc"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }

const (
	testSet   = "20261123T021500Z-7f3a"
	otherSet  = "20261124T021500Z-0b1c"
	instance  = "a"
	megabytes = 1 << 20
)

// need skips the test without root or a program; in CI it fails.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if !privileged() {
		env.Need(t, os.ErrPermission)
	}
	for _, p := range programs {
		env.Need(t, proc.Find(p))
	}
}

// loopFS makes a file system in a file and mounts it with these options. It returns the
// mount point and the device. Options of mkfs can follow its type.
func loopFS(t *testing.T, fs string, size int64, options ...string) (dir, device string) {
	t.Helper()
	fs, mkfs, _ := strings.Cut(fs, " ")
	need(t, "mkfs."+fs, "losetup")
	base := t.TempDir()
	image := filepath.Join(base, "image")
	dir = filepath.Join(base, "mnt")
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, size), os.Mkdir(dir, 0o755))
	sh(t, "mkfs."+fs+" -q "+mkfs+" "+image)
	device = strings.TrimSpace(sh(t, "losetup --find --show "+image))
	t.Cleanup(func() { sh(t, "losetup -d "+device) })
	mountDevice(t, device, fs, dir, options...)
	return dir, device
}

// mountDevice mounts a device until the test ends.
func mountDevice(t *testing.T, device, fs, dir string, options ...string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	sh(t, "mount -t "+fs+" -o "+strings.Join(append([]string{"rw"}, options...), ",")+" "+device+" "+dir)
	t.Cleanup(func() { must(t, unmount(context.Background(), dir)) })
}

// sh runs a shell command.
func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// put writes a file, and the directories on the way.
func put(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o640))
}

func get(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// request is for roots of these names and paths, given in turn.
func request(t *testing.T, namesAndPaths ...string) Request {
	t.Helper()
	r := Request{Instance: instance, Set: testSet, StateDir: t.TempDir(), RunDir: t.TempDir()}
	for i := 0; i < len(namesAndPaths); i += 2 {
		r.Roots = append(r.Roots, Root{Name: namesAndPaths[i], Path: namesAndPaths[i+1]})
	}
	t.Cleanup(func() { must(t, clearMounts(context.Background(), r.RunDir)) })
	return r
}

// nameOf is the name of the nth snapshot of a request.
func nameOf(r Request, n int) string {
	return makeName(ownerOf(r.Instance, r.StateDir), r.Set, n)
}

// othersNames are names of snapshots of other instances, the last one of an instance of the
// same name with another state directory.
func othersNames(r Request) []string {
	b, ab, other := r, r, r
	b.Instance, ab.Instance, other.StateDir = "b", r.Instance+"-b", "/elsewhere"
	return []string{nameOf(b, 0), nameOf(ab, 0), nameOf(other, 0)}
}

// expire ends the time of a kept set.
func expire(t *testing.T, r Request) {
	t.Helper()
	rec, err := readRecord(recordFile(r.StateDir, r.Set))
	must(t, err)
	rec.Until = time.Now().Add(-time.Hour)
	data, err := json.Marshal(rec)
	must(t, err, writeRecord(r.StateDir, r.Set, data))
}

// find is Find where it has to succeed.
func find(t *testing.T, r Request) *Plan {
	t.Helper()
	p, err := Find(t.Context(), r)
	must(t, err)
	t.Cleanup(func() { must(t, p.Release(context.Background())) })
	return p
}

// frozen is a plan that is rehearsed, frozen and open.
func frozen(t *testing.T, r Request) *Plan {
	t.Helper()
	p := find(t, r)
	must(t, p.Rehearse(t.Context()))
	p.Sync(t.Context())
	must(t, p.Freeze(t.Context()), p.Open(t.Context()))
	return p
}

// nothingLeft fails if there is a snapshot, a mount or a record of ours.
func nothingLeft(t *testing.T, r Request, btrfsDirs ...string) {
	t.Helper()
	for _, dir := range btrfsDirs {
		if all := sh(t, "btrfs subvolume list "+dir); strings.Contains(all, "ocbackup") {
			t.Errorf("left: %s", all)
		}
	}
	all, err := mounts()
	must(t, err)
	for _, m := range all {
		if _, in := below(r.RunDir, m.Point); in {
			t.Errorf("still mounted: %s", m.Point)
		}
	}
	for _, dir := range []string{r.RunDir, filepath.Join(r.StateDir, "snapshots")} {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
}

func inode(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// bindMount shows a directory at another place until the test ends.
func bindMount(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o755))
	sh(t, "mount --bind '"+from+"' '"+to+"'")
	t.Cleanup(func() { must(t, unmount(context.Background(), to)) })
}

func isMountPoint(t *testing.T, path string) bool {
	t.Helper()
	all, err := mounts()
	must(t, err)
	return slices.ContainsFunc(all, func(m mount) bool { return m.Point == path })
}

// fullBtrfs is one without space for a snapshot: contents and metadata share it, and all is
// used up.
func fullBtrfs(t *testing.T) string {
	t.Helper()
	dir, _ := loopFS(t, "btrfs -M", 128*megabytes)
	must(t, os.Mkdir(dir+"/search", 0o755))
	data := make([]byte, 4*megabytes)
	for i := 0; os.WriteFile(fmt.Sprintf("%s/%d", dir, i), data, 0o600) == nil; i++ {
	}
	sh(t, "sync -f "+dir)
	return dir
}
