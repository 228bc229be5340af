//go:build faultpoint

// Package fault lets tests kill, stop or fail ocbackup at a named point of a
// run, so that a fault matrix needs no sleeping.
package fault

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Point acts on OCBACKUP_FAULT, a comma-separated list of NAME=ACTION. When the
// name matches, ACTION is done: KILL, TERM or INT sends ocbackup that signal
// (and, but for KILL, waits a moment for it to be noticed, then goes on), error
// returns an error, exec:COMMAND runs a shell command and goes on.
func Point(name string) error {
	for _, f := range strings.Split(os.Getenv("OCBACKUP_FAULT"), ",") {
		n, action, ok := strings.Cut(f, "=")
		if !ok || n != name {
			continue
		}
		switch {
		case action == "KILL":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case action == "TERM":
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
			time.Sleep(200 * time.Millisecond)
		case action == "INT":
			_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
			time.Sleep(200 * time.Millisecond)
		case action == "error":
			return fmt.Errorf("injected fault at %s", name)
		case strings.HasPrefix(action, "exec:"):
			if out, err := exec.Command("/bin/sh", "-c", strings.TrimPrefix(action, "exec:")).CombinedOutput(); err != nil {
				return fmt.Errorf("fault command at %s: %w: %s", name, err, out)
			}
		}
	}
	return nil
}
