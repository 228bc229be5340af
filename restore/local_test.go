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
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/snapshot"
)

// kept is an instance with a set whose snapshots are kept on its host.
type kept struct {
	*site
	fs, set string
	data    []string // as it is in the set
}

// inSnapshot and inRepository are what tells where data/version comes from: for a
// census they are the same.
const inSnapshot, inRepository = "SNP", "set"

func newKept(t *testing.T) *kept {
	t.Helper()
	r := theWorld(t)
	fs := env.FileSystem(t, "btrfs", 500)
	k := &kept{fs: fs}
	base := filepath.Join(fs, "srv")
	k.btrfs(t, "subvolume", "create", base)
	if out, err := exec.Command("cp", "-a", world.orig+"/.", base).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	big := make([]byte, 64<<20) // 64 MiB of nothing that a file system would leave out
	for i := range big {
		big[i] = byte(i >> 20)
	}
	k.site = &site{t, base, configOf(base), r}
	k.cfg.Name = "kept"
	err := errors.Join(makeScripts(base), os.Mkdir(k.cfg.StateDir, 0o700), os.WriteFile(filepath.Join(base, "data/big"), big, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if k.set, err = storeSet(t.Context(), r, k.cfg, nil); err != nil {
		t.Fatal(err)
	}
	k.want("data/version", inRepository)
	k.write("data/version", inSnapshot)
	k.data = snap(t, filepath.Join(base, "data"), "thumbnails", "version")
	k.freeze()
	k.live()
	return k
}

func (k *kept) btrfs(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("btrfs", args...).CombinedOutput(); err != nil {
		t.Fatalf("btrfs %v: %v: %s", args, err, out)
	}
}

// freeze makes the snapshots of the set and keeps them, as a backup does.
func (k *kept) freeze() {
	k.t.Helper()
	req := snapshot.Request{Instance: k.cfg.Name, Set: k.set, StateDir: k.cfg.StateDir}
	for _, x := range k.cfg.Layout.Roots() {
		if !x.Has(opencloud.Binary) { // is stored while the instance runs
			req.Roots = append(req.Roots, snapshot.Root{Name: x.Name, Path: x.Path, Filter: x.Filter()})
		}
	}
	plan, err := snapshot.Find(k.t.Context(), req)
	if err == nil {
		err = plan.Freeze(k.t.Context())
	}
	if err == nil {
		err = plan.Keep(k.t.Context(), time.Now().Add(time.Hour))
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

// fill takes up room on the file system until only so much is left, and returns what
// gives it back.
func (k *kept) fill(t *testing.T, left int64) (empty func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(k.fs, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := int64(0); ; {
		k.btrfs(t, "filesystem", "sync", k.fs) // what was deleted is given back only then
		var st syscall.Statfs_t
		if err := syscall.Statfs(k.fs, &st); err != nil {
			t.Fatal(err)
		}
		more := int64(st.Bavail)*st.Bsize - left
		if more <= 0 {
			return func() { _ = os.Remove(f.Name()) }
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, size, more); err != nil {
			t.Fatal(err)
		}
		size += more
	}
}

// snapshots lists the snapshots that are kept.
func (k *kept) snapshots() []string {
	found, _ := filepath.Glob(filepath.Join(k.fs, ".ocbackup-snapshots/*"))
	return found
}

// live is the instance at work, later than the set.
func (k *kept) live() {
	k.write("data/version", "live")
	k.write("data/new", "x")
	k.write("data/thumbnails/t2", "kept")
	k.write("running", "")
}

func (k *kept) options() Options {
	return Options{Config: k.cfg, Repo: k.repo, Set: k.set, Yes: true, Report: progress.Discard}
}

// restored runs a restore and wants all roots but the binary to come from a place.
func (k *kept) restored(t *testing.T, o Options, from string) *Result {
	t.Helper()
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range res.Roots {
		want := from
		if x.Name == "binary" {
			want = FromRepository
		}
		if x.From != want {
			t.Errorf("root %s comes from %s, want %s", x.Name, x.From, want)
		}
	}
	k.unmounted(t)
	return res
}

// unmounted wants nothing of the snapshot to be left mounted, and the snapshot to be kept.
func (k *kept) unmounted(t *testing.T) {
	t.Helper()
	m, err := readMounts()
	if err != nil {
		t.Fatal(err)
	}
	if left := m.inside(filepath.Join(snapshot.DefaultRunDir, k.cfg.Name)); len(left) > 0 {
		t.Errorf("still mounted: %q", left)
	}
	if rec, err := snapshot.Kept(k.cfg.StateDir); len(rec) != 1 || err != nil || len(k.snapshots()) == 0 {
		t.Errorf("the snapshot is not kept: %+v, %v", rec, err)
	}
}

// What of a set is kept on the host is copied from there, and all else is as ever.
func TestLocalSnapshot(t *testing.T) {
	t.Parallel()
	k := newKept(t)
	local := string(snapshot.Btrfs)

	t.Run("dry run", func(t *testing.T) {
		o := k.options()
		o.DryRun = true
		k.restored(t, o, local)
		k.want("data/version", "live")
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := k.options()
		o.Report = cancelAt{text: "copying system", cancel: cancel}
		if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		k.want("data/version", "live")
		if left := k.leftovers(); len(left) > 0 || !k.has("running") {
			t.Errorf("left: %q", left)
		}
		k.unmounted(t)
	})
	t.Run("staged", func(t *testing.T) {
		rec, err := snapshot.Kept(k.cfg.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		// A restore that was killed has left its mounts.
		if _, err := snapshot.OpenKept(t.Context(), rec[0], ""); err != nil {
			t.Fatal(err)
		}
		res := k.restored(t, k.options(), local)
		k.want("data/version", inSnapshot)
		same(t, "data", k.data, snap(t, filepath.Join(k.base, "data"), "thumbnails", "version"))
		k.want("data/thumbnails/t2", "kept")
		if !res.Running || res.Undo == "" {
			t.Errorf("%+v", res)
		}
		if out, _ := exec.Command("filefrag", "-v", filepath.Join(k.base, "data/big")).Output(); !strings.Contains(string(out), "shared") {
			t.Errorf("a large file takes up room of its own:\n%s", out)
		}
		if _, err := k.undo(); err != nil {
			t.Fatal(err)
		}
		k.want("data/version", "live")
	})
	t.Run("some of it", func(t *testing.T) {
		record := filepath.Join(k.cfg.StateDir, "snapshots", k.set+".json")
		all, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		defer os.WriteFile(record, all, 0o600)
		for _, name := range []string{"users", "system"} { // the one is nested in the other
			var rec snapshot.Record
			if err := json.Unmarshal(all, &rec); err != nil {
				t.Fatal(err)
			}
			delete(rec.Roots, name)
			less, _ := json.Marshal(rec)
			if err := os.WriteFile(record, less, 0o600); err != nil {
				t.Fatal(err)
			}
			res, err := Run(t.Context(), k.options())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range res.Roots {
				if (x.From == FromRepository) != (x.Name == name || x.Name == "binary") {
					t.Errorf("without %s: root %s comes from %s", name, x.Name, x.From)
				}
			}
			same(t, "data", k.data, snap(t, filepath.Join(k.base, "data"), "thumbnails", "version"))
			if _, err := k.undo(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("one component", func(t *testing.T) {
		o := k.options()
		o.Components = []opencloud.Component{opencloud.Config}
		k.write("config/opencloud.yaml", "live: true\n")
		k.restored(t, o, local)
		if strings.Contains(k.read("config/opencloud.yaml"), "live") {
			t.Error("config is not restored")
		}
		k.want("data/version", "live")
	})
	t.Run("from the repository", func(t *testing.T) {
		o := k.options()
		o.FromRepository = true
		k.restored(t, o, FromRepository)
		k.want("data/version", inRepository)
	})
	t.Run("in place", func(t *testing.T) {
		k.live()
		o := k.options()
		o.InPlace = true
		k.restored(t, o, FromRepository)
		k.want("data/version", inRepository)
	})
	t.Run("beside", func(t *testing.T) {
		o := k.options()
		o.Target = filepath.Join(k.fs, "beside")
		k.restored(t, o, local)
		if b, _ := os.ReadFile(filepath.Join(o.Target, k.base, "data/version")); string(b) != inSnapshot {
			t.Errorf("version: %q", b)
		}
		lock, err := guard.Acquire(k.cfg.StateDir, "backup")
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release()
		o.Target = filepath.Join(k.fs, "besides")
		res := k.restored(t, o, FromRepository)
		if len(res.Notes) == 0 || !strings.Contains(res.Notes[0], "another run holds the lock") {
			t.Errorf("notes: %q", res.Notes)
		}
	})
	t.Run("no room for another copy", func(t *testing.T) {
		k.live()
		for _, x := range []string{"beside", "besides"} {
			if err := os.RemoveAll(filepath.Join(k.fs, x)); err != nil {
				t.Fatal(err)
			}
		}
		defer k.fill(t, 50<<20)()
		o := k.options()
		o.FromRepository = true
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not enough room") {
			t.Errorf("from the repository: %v", err)
		}
		k.restored(t, k.options(), local)
		k.want("data/version", inSnapshot)
	})
	t.Run("not what was backed up", func(t *testing.T) {
		k.live()
		changed := k.snapshots()[0]
		k.btrfs(t, "property", "set", "-f", "-t", "subvol", changed, "ro", "false")
		if err := os.WriteFile(filepath.Join(changed, "data/version"), []byte("longer"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Run(t.Context(), k.options())
		_, state, hint := fail.Details(err)
		if fail.CodeOf(err) != fail.Inconsistent || !strings.Contains(err.Error(), "local btrfs snapshot") ||
			!strings.Contains(hint, "--from-repository") || !strings.Contains(state, "nothing was stopped") {
			t.Errorf("%v; %s (%s)", err, state, hint)
		}
		k.want("data/version", "live")
		staged := func(p string) bool { return strings.HasPrefix(filepath.Base(p), stagePrefix) }
		if !k.has("running") || slices.ContainsFunc(k.leftovers(), staged) {
			t.Errorf("running: %v; left: %q", k.has("running"), k.leftovers())
		}
		k.unmounted(t)
	})
	t.Run("gone", func(t *testing.T) {
		k.btrfs(t, append([]string{"subvolume", "delete"}, k.snapshots()...)...)
		res, err := Run(t.Context(), k.options())
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Notes) == 0 || !strings.Contains(res.Notes[0], "restored from the repository") ||
			slices.ContainsFunc(res.Roots, func(x Restored) bool { return x.From != FromRepository }) {
			t.Errorf("%+v", res)
		}
		k.want("data/version", inRepository)
	})
}
