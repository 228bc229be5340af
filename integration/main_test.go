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
	"sync"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) {
	// A scenario spends much of its time waiting, for servers to stop and to be ready.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))); err != nil {
			panic(err)
		}
	}
	code := env.Main(m)
	for _, dir := range []string{programs.dir, template.dir} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// programs are copies of what is tested, so that a build that goes on beside the
// tests does not change it under them.
var programs struct {
	sync.Mutex
	dir  string
	path map[string]string
}

// program returns the copy of a program that find knows where to find.
func program(t testing.TB, name string, find func(testing.TB) string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path := programs.path[name]; path != "" {
		return path
	}
	from := find(t)
	err := func() (err error) {
		if programs.dir == "" {
			if programs.dir, err = os.MkdirTemp("", "ocbackup-programs-"); err != nil {
				return err
			}
			programs.path = map[string]string{}
			// Servers may run as somebody else than the test.
			if err := os.Chmod(programs.dir, 0o755); err != nil {
				return err
			}
		}
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		out, err := os.OpenFile(filepath.Join(programs.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	}()
	if err != nil {
		t.Fatal(fmt.Errorf("copy %s: %w", name, err))
	}
	programs.path[name] = filepath.Join(programs.dir, name)
	return programs.path[name]
}

func ocbackupProgram(t testing.TB) string { return program(t, "ocbackup", env.Ocbackup) }
func standinProgram(t testing.TB) string  { return program(t, "opencloud", env.Standin) }
