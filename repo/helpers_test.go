package repo

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// eachRestic runs a test with every restic that tools/restic.sh fetches.
func eachRestic(t *testing.T, f func(t *testing.T, binary string)) {
	t.Parallel()
	for _, v := range []string{"0.18", "0.19"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			f(t, env.Restic(t, v))
		})
	}
}

// options describe a repository below dir that need not exist yet.
func options(t *testing.T, binary, dir string) Options {
	t.Helper()
	pw := filepath.Join(dir, "password")
	write(t, pw, "correct horse\n")
	return Options{
		Binary: binary, Location: filepath.Join(dir, "repo"), PasswordFile: pw,
		Host: "cloud.example.com", CacheDir: filepath.Join(dir, "cache"),
	}
}

// newRepo makes an empty repository from testdata/repo. Its key was rewritten so
// that deriving it costs nothing (scrypt with N=2, r=1, p=1; the password is that of
// options): what Init makes takes half a second of CPU each time it is opened.
func newRepo(t *testing.T, binary string) (*Repo, string) {
	t.Helper()
	dir := t.TempDir()
	opt := options(t, binary, dir)
	if err := os.CopyFS(opt.Location, os.DirFS("testdata/repo")); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"data", "index", "locks", "snapshots"} {
		if err := os.Mkdir(filepath.Join(opt.Location, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return New(opt), dir
}

// fakeRestic makes a program that stands in for restic: a shell script, whose
// first argument is restic's command.
func fakeRestic(t *testing.T, script string) *Repo {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "restic")
	// A child that is forked meanwhile would inherit the open file, and Linux runs no
	// program that is open for writing.
	syscall.ForkLock.RLock()
	err := os.WriteFile(bin, []byte("#!/bin/sh\n"+script), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return New(options(t, bin, dir))
}

// ctx ends what hangs.
func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return c
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// backup stores targets of dir and expects no error.
func backup(t *testing.T, r *Repo, s BackupSpec) Summary {
	t.Helper()
	sum, err := r.Backup(ctx(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func contains(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
}
