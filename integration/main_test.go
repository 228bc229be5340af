//go:build integration

// Package integration holds the scenarios: the real program against real restic
// and a server that behaves like OpenCloud. Each test is a story that reads top to
// bottom; cloud_test.go is the language that they are told in.
package integration

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		// A scenario spends much of its time waiting, for servers to stop and to be ready.
		// Real ones need the machine for themselves.
		parallel := 2 * runtime.GOMAXPROCS(0)
		if os.Getenv("OPENCLOUD_BIN") != "" {
			parallel = 1
		}
		if err := f.Value.Set(strconv.Itoa(parallel)); err != nil {
			panic(err)
		}
	}
	sweep()
	code := env.Main(m)
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is what all tests of a run use: copies of the programs, so that a build
// that goes on beside the tests does not change them, and an empty repository.
var shared struct {
	sync.Mutex
	dir  string
	have map[string]bool
}

// sharedPrefix begins the name of the directory; the process id follows.
const sharedPrefix = "ocbackup-scenarios-"

// provide returns the path of something shared, which build makes the first time.
func provide(t testing.TB, name string, build func(path string) error) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.dir == "" {
		dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", sharedPrefix, os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		shared.dir, shared.have = dir, map[string]bool{}
	}
	path := filepath.Join(shared.dir, name)
	if !shared.have[name] {
		if err := build(path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		shared.have[name] = true
	}
	return path
}

// program returns a copy of a program.
func program(t testing.TB, name, from string) string {
	t.Helper()
	return provide(t, name, func(path string) error {
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}

// sweep ends the servers that an earlier run has left, which was killed before it
// could: by their program one knows whose they are.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), sharedPrefix+"*"))
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), sharedPrefix), "-")
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue
		}
		links, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, link := range links {
			if exe, err := os.Readlink(link); err == nil && strings.HasPrefix(exe, dir+"/") {
				if n, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
		}
		_ = os.RemoveAll(dir)
	}
}

func ocbackupProgram(t testing.TB) string { return program(t, "ocbackup", env.Ocbackup(t)) }
func serverProgram(t testing.TB) string   { return program(t, "opencloud", env.ServerProgram(t)) }
