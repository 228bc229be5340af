package control

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroupRoots are where systemd keeps a unit's control group: with cgroup v2,
// with v1 (the hierarchy of systemd's own), and with both side by side.
var cgroupRoots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}

// cgroupProcesses lists the processes of a control group and of all groups below
// it. A group that is gone has none. The group is as systemd names it
// ("/system.slice/opencloud.service"); "" and "/" are no unit's.
func cgroupProcesses(group string) []int {
	if strings.Trim(group, "/") == "" {
		return nil
	}
	var pids []int
	for _, root := range cgroupRoots {
		_ = filepath.WalkDir(filepath.Join(root, group), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // groups come and go while we look
			}
			b, _ := os.ReadFile(path)
			for line := range strings.Lines(string(b)) {
				// 0 stands for a process outside of our pid namespace: it is there all the same.
				if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}
