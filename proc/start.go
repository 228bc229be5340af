package proc

import (
	"os/exec"
	"runtime"
)

// startAndWait starts cmd and waits for it on one OS thread. The parent-death
// signal is tied to the thread that forked (prctl(2), PR_SET_PDEATHSIG), so that
// thread must live as long as the child.
func startAndWait(cmd *exec.Cmd, pinned bool, started, waited chan<- error) {
	if pinned {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	err := cmd.Start()
	started <- err
	if err == nil {
		waited <- cmd.Wait()
	}
}
