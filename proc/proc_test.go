package proc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestRunResults(t *testing.T) {
	res, err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo out; echo err >&2"}})
	if err != nil || string(res.Stdout) != "out\n" || res.Stderr != "err\n" {
		t.Fatalf("%+v, %v", res, err)
	}
	_, err = Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo why it failed >&2; exit 7"}})
	var ee *ExitError
	if !errors.As(err, &ee) || ee.Code != 7 || !strings.Contains(err.Error(), "why it failed") {
		t.Errorf("exit code 7: %v", err)
	}
	_, err = Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "kill -9 $$"}})
	if !errors.As(err, &ee) || ee.Code != 137 || ee.Signal != syscall.SIGKILL {
		t.Errorf("killed: %v", err)
	}
	var nf *NotFoundError
	if _, err = Run(t.Context(), Cmd{Name: "no-such-program-here"}); !errors.As(err, &nf) {
		t.Errorf("no such program: %v", err)
	}
	if _, err = Run(t.Context(), Cmd{Name: "/no/such/program"}); !errors.As(err, &nf) {
		t.Errorf("no such path: %v", err)
	}
}

// A child that is ended by the context gets SIGTERM first, so that it can put
// things in order, and the error names the context's cause.
func TestCancelTerminates(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("deadline of the window")
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Cmd{Name: "sh", Args: []string{"-c", `trap 'echo in order >&2; exit 3' TERM; echo ready; while :; do sleep 0.01; done`}, Stdout: pw})
		done <- err
	}()
	if _, err := io.ReadFull(pr, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, pr)
	cancel(cause)
	err := <-done
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "in order") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	var lines []string
	res, err := Run(t.Context(), Cmd{
		Name: "sh", Args: []string{"-c", "echo key=$KEY; echo failed with $KEY >&2; exit 1"},
		Env: []string{"KEY=hunter22"}, Secrets: []string{"hunter22"},
		OnStderr: func(l string) { lines = append(lines, l) },
	})
	all := string(res.Stdout) + res.Stderr + err.Error() + strings.Join(lines, "")
	if strings.Contains(all, "hunter22") || !strings.Contains(err.Error(), "failed with ***") {
		t.Errorf("not redacted: %s", all)
	}
}

// TestMain lets this test binary be the parent that dies.
func TestMain(m *testing.M) {
	if os.Getenv("PROC_TEST_PARENT") != "" {
		_, _ = Run(context.Background(), Cmd{Name: "sh", Args: []string{"-c", "echo $$; exec sleep 1000"}, Stdout: os.Stdout})
		return
	}
	os.Exit(m.Run())
}

// A child must not outlive ocbackup: restic would go on reading a tree that the
// started server changes.
func TestChildDiesWithParent(t *testing.T) {
	parent := exec.Command(os.Args[0], "-test.run=^$")
	parent.Env = append(os.Environ(), "PROC_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := out.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], []byte("\n")) {
		t.Fatalf("no pid: %q, %v", buf[:n], err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The child holds the other end of the pipe: its end is the end of the pipe.
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
}
