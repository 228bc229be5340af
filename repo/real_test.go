package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestOpen(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		opt := options(t, binary, t.TempDir())
		r := New(opt)
		if v, err := r.Prepare(ctx(t)); err != nil || v.Less(MinVersion) {
			t.Fatalf("Prepare: %v, %v", v, err)
		}
		_, err := r.ID(ctx(t))
		if !errors.Is(err, ErrNoRepository) {
			t.Fatalf("ID without a repository: %v", err)
		}
		contains(t, err, opt.Location)
		id, err := r.Init(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Init(ctx(t)); !errors.Is(err, ErrExists) {
			t.Errorf("second Init: %v", err)
		}
		if got, err := r.ID(ctx(t)); err != nil || got != id {
			t.Errorf("ID is %q (%v), Init said %q", got, err, id)
		}
		wrong := opt
		wrong.PasswordFile, wrong.PasswordCommand = "", "echo nonsense"
		if _, err := New(wrong).ID(ctx(t)); !errors.Is(err, ErrWrongPassword) {
			t.Errorf("wrong password: %v", err)
		}
		nobody := opt
		nobody.Location = "sftp:nobody@127.0.0.1:/x"
		nobody.Env = map[string]string{"PATH": t.TempDir()} // no ssh there
		if _, err := New(nobody).ID(ctx(t)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a host that cannot be reached: %v", err)
		}
	})
}

func TestLifecycle(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		// Names that mean something to a shell, to a flag parser, to a glob.
		src := filepath.Join(dir, "src")
		names := []string{"-dash", "star*", "new\nline", "$HOME #x", "ü"}
		for _, n := range names {
			write(t, filepath.Join(src, "root", n), n)
		}
		write(t, filepath.Join(src, "root", "star-not"), "left out by no glob")
		write(t, filepath.Join(src, "root", "out$HOME", "f"), "excluded")
		write(t, filepath.Join(src, "--root2"), "another target")
		spec := BackupSpec{
			Dir: src, Targets: []string{"root", "--root2"},
			Exclude: []string{filepath.Join(src, "root", "out$HOME"), filepath.Join(src, "root", `star\*x`)},
			Tags:    []string{"blobs", "set=20261123T021500Z-7f3a"},
		}
		sum := backup(t, r, spec)
		if sum.FilesNew != 7 || sum.SnapshotID == "" {
			t.Errorf("first backup: %+v", sum)
		}

		// The same tree read from elsewhere finds its parent.
		moved := filepath.Join(dir, "moved")
		if err := os.Rename(src, moved); err != nil {
			t.Fatal(err)
		}
		spec.Dir, spec.Parent, spec.Tags = moved, sum.SnapshotID, []string{"metadata"}
		spec.Exclude = []string{filepath.Join(moved, "root", "out$HOME")}
		again := backup(t, r, spec)
		if again.FilesUnmodified != 7 || again.FilesNew+again.FilesChanged != 0 || again.TotalFilesProcessed != 7 {
			t.Errorf("unchanged tree read from another folder: %+v", again)
		}
		spec.DryRun = true
		if dry := backup(t, r, spec); dry.SnapshotID != "" || dry.FilesUnmodified != 7 {
			t.Errorf("dry run: %+v", dry)
		}

		all, err := r.Snapshots(ctx(t))
		if err != nil || len(all) != 2 || all[0].ID != sum.SnapshotID || all[1].ID != again.SnapshotID {
			t.Fatalf("snapshots, oldest first: %+v, %v", all, err)
		}
		tagged, err := r.Snapshots(ctx(t), "blobs", "set=20261123T021500Z-7f3a")
		if err != nil || len(tagged) != 1 || !tagged[0].HasTag("blobs") || tagged[0].Summary == nil || tagged[0].Summary.FilesNew != 7 {
			t.Errorf("by two tags: %+v, %v", tagged, err)
		}
		if none, err := r.Snapshots(ctx(t), "blobs", "metadata"); err != nil || len(none) != 0 {
			t.Errorf("tags that no snapshot has together: %+v, %v", none, err)
		}
		other := r.opt
		other.Host = "another"
		if none, err := New(other).Snapshots(ctx(t)); err != nil || len(none) != 0 {
			t.Errorf("another host's snapshots: %+v, %v", none, err)
		}

		var got []string
		err = r.Ls(ctx(t), sum.SnapshotID, "/root", func(n Node) error {
			if n.Type == "file" {
				got = append(got, n.Name)
				if n.Name == "-dash" && (n.Size != 5 || n.Mode != 0o600 || n.MTime.IsZero() || n.Path != "/root/-dash") {
					t.Errorf("node: %+v", n)
				}
			}
			return nil
		})
		sort.Strings(got)
		want := append(names, "star-not")
		sort.Strings(want)
		if err != nil || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("ls: %q, want %q (%v)", got, want, err)
		}
		enough := errors.New("enough")
		if err := r.Ls(ctx(t), sum.SnapshotID, "", func(Node) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("ls ended by its caller: %v", err)
		}
		if err := r.Ls(ctx(t), sum.SnapshotID, "/no", func(Node) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ls of what is not there: %v", err)
		}
		var b bytes.Buffer
		if err := r.Dump(ctx(t), sum.SnapshotID, "/root/new\nline", &b); err != nil || b.String() != "new\nline" {
			t.Errorf("dump: %q, %v", b.String(), err)
		}
		if err := r.Dump(ctx(t), sum.SnapshotID, "/root/no", &b); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("dump of what is not there: %v", err)
		}

		if err := r.Forget(ctx(t), sum.SnapshotID, strings.Repeat("0", 64)); err != nil {
			t.Errorf("forget, one of them gone before: %v", err)
		}
		if all, err := r.Snapshots(ctx(t)); err != nil || len(all) != 1 || all[0].ID != again.SnapshotID {
			t.Errorf("after forget: %+v, %v", all, err)
		}
		progress := 0
		res, err := r.Check(ctx(t), CheckSpec{ReadData: "100%", OnProgress: func(p Progress) { progress++ }})
		if err != nil || len(res.Errors) != 0 {
			t.Errorf("check: %+v, %v", res, err)
		}
		if progress == 0 {
			t.Error("check told no progress")
		}
	})
}

func TestMissingAndUnreadable(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		write(t, filepath.Join(dir, "src", "here"), "x")
		var inc *IncompleteError
		sum, err := r.Backup(ctx(t), BackupSpec{Dir: filepath.Join(dir, "src"), Targets: []string{"here", "gone"}})
		if !errors.As(err, &inc) || len(inc.Items) != 1 || inc.Items[0].Path != "gone" {
			t.Errorf("a missing target: %v", err)
		}
		if sum.SnapshotID == "" {
			t.Error("the incomplete snapshot's id is lost")
		}
		// A file that even root cannot read.
		sum, err = r.Backup(ctx(t), BackupSpec{Dir: "/proc/self", Targets: []string{"mem", "limits"}})
		if !errors.As(err, &inc) || len(inc.Items) != 1 || !strings.HasSuffix(inc.Items[0].Path, "mem") || sum.SnapshotID == "" {
			t.Errorf("an unreadable file: %v, %+v", err, sum)
		}
		if _, err := r.Backup(ctx(t), BackupSpec{Dir: dir, Targets: []string{"gone"}}); err == nil || errors.As(err, &inc) {
			t.Errorf("nothing there at all: %v", err)
		}
		if _, err := r.Backup(ctx(t), BackupSpec{Dir: dir, Targets: []string{"src"}, Parent: strings.Repeat("0", 64)}); err == nil {
			t.Error("a parent that is not there: no error")
		}
	})
}

func TestCommand(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		r.opt.Env = map[string]string{"AWS_SECRET_ACCESS_KEY": "of-the-backend"}
		r.opt.TempDir = dir
		script := `echo "$PGPASSWORD|$1|${TMPDIR-none}|$(env | grep -cE '^(RESTIC_|AWS_SECRET|OCBACKUP_ENV)')"`
		sum, err := r.BackupCommand(ctx(t), CommandSpec{
			Command: []string{"/bin/sh", "-c", script, "sh", "a b"}, Env: []string{"PGPASSWORD=it's $secret"},
			Filename: "db.sql", Tags: []string{"extra"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		tmp := "none"
		if v, ok := os.LookupEnv("TMPDIR"); ok {
			tmp = v
		}
		want := "it's $secret|a b|" + tmp + "|0\n"
		if err := r.Dump(ctx(t), sum.SnapshotID, "/db.sql", &b); err != nil || b.String() != want {
			t.Errorf("stored %q, want %q (%v)", b.String(), want, err)
		}
		_, err = r.BackupCommand(ctx(t), CommandSpec{
			Command: []string{"/bin/sh", "-c", `echo half; echo "login as $PGPASSWORD failed" >&2; exit 4`},
			Env:     []string{"PGPASSWORD=hunter22"}, Filename: "x",
		})
		contains(t, err, "exit status 4", "login as *** failed")
		_, err = r.BackupCommand(ctx(t), CommandSpec{Command: []string{"no-such-program"}, Filename: "x"})
		contains(t, err, "no-such-program", "not found")
		if l, err := r.Snapshots(ctx(t)); err != nil || len(l) != 1 {
			t.Errorf("failed commands left snapshots: %+v, %v", l, err)
		}
	})
}

// So many targets do not fit on a command line.
func TestManyTargets(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		r.opt.TempDir = filepath.Join(dir, "tmp")
		if err := os.Mkdir(r.opt.TempDir, 0o700); err != nil {
			t.Fatal(err)
		}
		src := filepath.Join(dir, "src")
		targets := []string{"-dash", "star*", "new\nline", "$HOME #x", " blank "}
		for i := range maxTargets {
			targets = append(targets, "spaces/"+strconv.Itoa(i))
		}
		for _, name := range targets {
			write(t, filepath.Join(src, name), name)
		}
		spec := BackupSpec{Dir: src, Targets: targets}
		sum := backup(t, r, spec)
		spec.Parent = sum.SnapshotID
		again := backup(t, r, spec)
		if sum.FilesNew != uint64(len(targets)) || again.FilesUnmodified != uint64(len(targets)) {
			t.Errorf("%d targets: %+v, %+v", len(targets), sum, again)
		}
		if left, err := os.ReadDir(r.opt.TempDir); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	})
}

func TestDamage(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		src := filepath.Join(dir, "src")
		write(t, filepath.Join(src, "root", "f"), strings.Repeat("data ", 1000))
		sum := backup(t, r, BackupSpec{Dir: src, Targets: []string{"root"}})
		packs, err := filepath.Glob(filepath.Join(dir, "repo", "data", "*", "*"))
		if err != nil || len(packs) != 2 {
			t.Fatalf("packs: %q, %v", packs, err)
		}
		for _, p := range packs {
			damage(t, p)
		}
		if err := os.RemoveAll(filepath.Join(dir, "cache")); err != nil {
			t.Fatal(err)
		}
		for name, spec := range map[string]CheckSpec{
			"JSON": {ReadData: "100%"}, "text": {ReadData: "100%", OnProgress: func(Progress) {}},
		} {
			res, err := r.Check(ctx(t), spec)
			if err != nil || len(res.Errors) == 0 || len(res.Advice) == 0 {
				t.Errorf("check (%s) of a damaged repository: %+v, %v", name, res, err)
			}
			for _, e := range res.Errors {
				if strings.HasSuffix(e, ":") || strings.Contains(e, "restic repair") || strings.Contains(e, "create exclusive lock") {
					t.Errorf("check (%s): not a finding: %q", name, e)
				}
			}
		}
		if _, err := r.Restore(ctx(t), RestoreSpec{Snapshot: sum.SnapshotID, Target: filepath.Join(dir, "out")}); err == nil {
			t.Error("restored a damaged snapshot")
		}
		isDamage := func(what string) {
			t.Helper()
			if err := r.Dump(ctx(t), sum.SnapshotID, "/root/f", io.Discard); !errors.Is(err, ErrDamaged) {
				t.Errorf("dump, %s: %v", what, err)
			}
			if err := r.Ls(ctx(t), sum.SnapshotID, "", func(Node) error { return nil }); !errors.Is(err, ErrDamaged) {
				t.Errorf("ls, %s: %v", what, err)
			}
		}
		isDamage("packs damaged")
		for _, p := range packs {
			if err := os.Rename(p, p+".away"); err != nil {
				t.Fatal(err)
			}
		}
		isDamage("packs gone")

		damage(t, filepath.Join(dir, "repo", "snapshots", sum.SnapshotID))
		if err := os.RemoveAll(filepath.Join(dir, "cache")); err != nil {
			t.Fatal(err)
		}
		l, err := r.Snapshots(ctx(t))
		var bad *DamagedSnapshotsError
		if !errors.As(err, &bad) || len(bad.Items) != 1 || bad.Items[0].Path != sum.SnapshotID || len(l) != 0 {
			t.Errorf("a damaged snapshot: %+v, %v", l, err)
		}
		contains(t, r.Forget(ctx(t), sum.SnapshotID), "still there", sum.SnapshotID)
	})
}

// damage changes one byte in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 0xff
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEndedByContext(t *testing.T) {
	eachRestic(t, func(t *testing.T, binary string) {
		r, dir := newRepo(t, binary)
		c, cancel := context.WithCancelCause(ctx(t))
		why := errors.New("the deadline of the window")
		spec := blocking(t, dir)
		told := make(chan struct{})
		var once sync.Once
		spec.OnProgress = func(Progress) { once.Do(func() { close(told) }) }
		done := make(chan error, 1)
		go func() {
			_, err := r.BackupCommand(c, spec)
			done <- err
		}()
		awaitOpen(t, filepath.Join(dir, "ready"))
		<-told
		if n := locks(t, dir); n != 1 {
			t.Errorf("%d locks while a backup runs", n)
		}
		cancel(why)
		if err := <-done; !errors.Is(err, why) || !errors.Is(err, context.Canceled) {
			t.Errorf("ended by its context: %v", err)
		}
		if n := locks(t, dir); n != 0 {
			t.Errorf("%d locks are left", n)
		}
	})
}

// blocking is a command that tells through a fifo that it runs, and then goes on until it is ended.
func blocking(t *testing.T, dir string) CommandSpec {
	t.Helper()
	mkfifo(t, filepath.Join(dir, "ready"))
	return CommandSpec{
		Command:  []string{"/bin/sh", "-c", `echo >"$1"; exec sleep 1000`, "sh", filepath.Join(dir, "ready")},
		Filename: "x",
	}
}

func locks(t *testing.T, dir string) int {
	t.Helper()
	l, err := os.ReadDir(filepath.Join(dir, "repo", "locks"))
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}
