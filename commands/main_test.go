package commands

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

func TestPanicIsAFailure(t *testing.T) {
	var out bytes.Buffer
	run := func() (code int) {
		defer failOnPanic(&out, &code)
		panic("no such thing")
	}
	if code := run(); code != int(fail.Failed) || !strings.Contains(out.String(), "no such thing") {
		t.Errorf("exit code %d, %s", code, out.String())
	}
}

// What ocbackup prints nobody may want to read; that must not kill it.
func TestReaderGone(t *testing.T) {
	if os.Getenv("OCBACKUP_TEST_HELP") != "" {
		os.Exit(Main([]string{"ocbackup", "--help"}))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestReaderGone$")
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "OCBACKUP_TEST_HELP=1"), w, w
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) && exit.ExitCode() < 0 {
		t.Errorf("killed: %v", err)
	}
}
