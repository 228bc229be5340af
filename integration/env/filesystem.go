package env

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fileSystemPrefix begins the names of the directories that file systems are in.
const fileSystemPrefix = "ocbackup-fs-"

// FileSystem makes a file system of a kind ("btrfs", "xfs", "ext4", ...) and size in a
// file, mounts it by a loop device, and returns its mount point. At the end of the
// test whatever is mounted of it, anywhere, is unmounted. xfs needs 300 MiB, btrfs 110.
func FileSystem(t testing.TB, kind string, sizeMiB int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: file systems are mounted")
	}
	sweepFileSystems()
	dir, err := workDir(fileSystemPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmountFileSystem(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if lock, ok := locks.LoadAndDelete(dir); ok {
			_ = lock.(*os.File).Close()
		}
	})
	image, point := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(point, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, int64(sizeMiB)<<20),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"mkfs." + kind, "-q", image}, {"mount", "-o", "loop", image, point}} {
		// Not every shell has the programs of admins in its PATH.
		cmd := exec.CommandContext(t.Context(), "env", append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			Need(t, fmt.Errorf("no file system %s: run tools/fs.sh: %s: %w: %s", kind, args[0], err, out))
		}
	}
	return point
}

// sweepFileSystems unmounts what an earlier run has left, which was killed before it
// could: workDir removes the directories.
func sweepFileSystems() {
	stale, _ := filepath.Glob(filepath.Join(os.TempDir(), fileSystemPrefix+"*"))
	for _, dir := range stale {
		if f, err := os.Open(filepath.Join(dir, "lock")); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				unmountFileSystem(dir)
			}
			_ = f.Close()
		}
	}
}

// unmountFileSystem unmounts the file system of a directory wherever it is mounted:
// here, bound to other places, and its snapshots.
func unmountFileSystem(dir string) {
	mounts := mountinfo()
	var devices []string
	for _, m := range mounts {
		if m.point == filepath.Join(dir, "mnt") {
			devices = append(devices, m.device)
		}
	}
	for _, m := range slices.Backward(mounts) {
		if slices.Contains(devices, m.device) {
			_ = unix.Unmount(m.point, unix.MNT_DETACH)
		}
	}
}

// mounted is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mounted struct{ device, point string }

func mountinfo() (list []mounted) {
	for line := range strings.Lines(readString("/proc/self/mountinfo")) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) > 4 && len(g) > 1 {
			list = append(list, mounted{device: g[1], point: f[4]})
		}
	}
	return list
}
