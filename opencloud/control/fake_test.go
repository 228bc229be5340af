package control

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fake is a directory at the head of PATH with programs that play a manager. They
// find the directory in $FAKE and write down how they were called.
type fake struct {
	t   *testing.T
	dir string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("FAKE", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &fake{t, dir}
}

// program adds a shell script.
func (f *fake) program(name, script string) {
	f.t.Helper()
	text := "#!/bin/sh\necho \"${0##*/} $*\" >>\"$FAKE/calls\"\n" + script
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o700); err != nil {
		f.t.Fatal(err)
	}
}

// put writes a file that the programs read.
func (f *fake) put(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		f.t.Fatal(err)
	}
}

// calls are the calls so far that contain one of the words.
func (f *fake) calls(words ...string) []string {
	b, _ := os.ReadFile(filepath.Join(f.dir, "calls"))
	var calls []string
	for call := range strings.Lines(string(b)) {
		call = strings.TrimSpace(call)
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(call, w) }) {
			calls = append(calls, call)
		}
	}
	return calls
}

func must(t *testing.T, cfg Config) Controller {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}
