package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/proc"
)

// configuration looks at the configuration file.
type configuration struct{}

func (configuration) Name() string { return "configuration" }

func (configuration) failed(err error) []Finding {
	f := failed(err, "")
	f.Check, f.code = configuration{}.Name(), fail.Usage
	return []Finding{f}
}

func (configuration) Run(_ context.Context, s *Subject) []Finding {
	st, err := os.Stat(s.Config.Path)
	if err == nil && st.Mode().Perm()&0o022 != 0 {
		return []Finding{warning("chmod go-w "+s.Config.Path, "%s can be changed by others than its owner (mode %04o); it names commands that run as root",
			s.Config.Path, st.Mode().Perm())}
	}
	return okay("%s: instance %s", s.Config.Path, s.Config.Name)
}

// secrets looks at the files with passwords and keys.
type secrets struct{}

func (secrets) Name() string { return "secrets" }

func (secrets) Run(_ context.Context, s *Subject) []Finding {
	var out []Finding
	files := s.Config.SecretFiles()
	for _, f := range files {
		if f.Replaced() {
			continue // and the unit may hide it
		}
		if err := f.Check(); err != nil {
			out = append(out, failed(err, ""))
		} else if st, err := os.Stat(f.Path); err == nil && st.Mode().Perm()&0o070 != 0 {
			out = append(out, info("chmod 600 "+f.Path+", unless the group is meant to", "%s: its group may read %s", f.Key, f.Path))
		}
	}
	if _, err := s.Config.RepoOptions(); err != nil && len(out) == 0 {
		out = append(out, failed(err, ""))
	}
	if len(out) == 0 {
		return okay("%s", plural(len(files), "file with secrets", "files with secrets"))
	}
	return out
}

// identity looks at the user that ocbackup runs as.
type identity struct{}

func (identity) Name() string { return "user" }

func (identity) Run(context.Context, *Subject) []Finding {
	if os.Geteuid() == 0 {
		return okay("root")
	}
	return []Finding{warning("run it as root: sudo ocbackup ...",
		"not root: a restore can't give files back to their owners, and OpenCloud may not be stoppable")}
}

// stateDir looks at the directory of lock and journal.
type stateDir struct{}

func (stateDir) Name() string { return "state directory" }

// smallState is the free space below which there may be none for the journal and
// restic's cache.
const smallState = 200 << 20

func (stateDir) Run(_ context.Context, s *Subject) []Finding {
	dir := s.Config.StateDir
	there := paths.Existing(dir)
	if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
		return []Finding{failure(fail.Usage, "run as root, or set state_dir", "%s can't be written to: %v", there, err)}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(there, &st); err != nil {
		return []Finding{failure(fail.Failed, "", "%s: %v", there, err)}
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return []Finding{warning("set state_dir to a directory on disk",
			"%s lies in memory: after a power loss nobody knows that OpenCloud is to be started again", there)}
	}
	if inside(dir, s.Config) {
		return []Finding{warning("set state_dir to a directory outside of OpenCloud's",
			"%s lies inside what is backed up: a restore would replace its own journal", dir)}
	}
	if free := freeBytes(st); free < smallState {
		return []Finding{warning("make room", "%s: only %s are free", there, humanize.IBytes(free))}
	}
	return okay("%s", dir)
}

func freeBytes(st unix.Statfs_t) uint64 { return st.Bavail * uint64(st.Bsize) }

// clock looks at the machine's clock, by which backups are ordered.
type clock struct{}

func (clock) Name() string { return "clock" }

// firstRelease is before any machine could have run this program.
var firstRelease = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func (clock) Run(context.Context, *Subject) []Finding {
	if time.Now().Before(firstRelease) {
		return []Finding{failure(fail.Failed, "set the clock: timedatectl set-ntp true", "the clock says %s", time.Now().Format(time.DateTime))}
	}
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		return []Finding{info("timedatectl set-ntp true, unless the host of a virtual machine or container sees to it",
			"nothing synchronizes the clock, as far as the kernel knows")}
	}
	return okay("synchronized")
}

// timer looks whether backups are made by themselves.
type timer struct{}

func (timer) Name() string { return "schedule" }

func (timer) Run(ctx context.Context, s *Subject) []Finding {
	backup, atBoot := "ocbackup-"+s.Config.Name+"-backup.timer", "ocbackup-"+s.Config.Name+"-recover.service"
	out, err := proc.Output(ctx, "systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain", backup, atBoot)
	var gone *proc.NotFoundError
	if errors.As(err, &gone) || err != nil && !booted() {
		return []Finding{info("run \"ocbackup backup\" by other means, and \"ocbackup recover\" at boot", "there is no systemd here that could run backups")}
	}
	state := map[string]string{} // an error is systemctl's way to say that nothing matches
	for line := range strings.SplitSeq(out, "\n") {
		if col := strings.Fields(line); len(col) > 1 {
			state[col[0]] = strings.TrimSuffix(col[1], "-runtime")
		}
	}
	var found []Finding
	for _, u := range []struct{ unit, without string }{
		{backup, "nothing makes backups by itself"},
		{atBoot, "nothing brings OpenCloud back after a power loss during a backup"},
	} {
		switch state[u.unit] {
		case "enabled":
		case "":
			found = append(found, warning("ocbackup schedule install", "%s: there is no %s", u.without, u.unit))
		default:
			found = append(found, warning("systemctl enable --now "+u.unit, "%s: %s is %s", u.without, u.unit, state[u.unit]))
		}
	}
	if len(found) == 0 {
		return okay("%s is enabled", backup)
	}
	return found
}

// booted tells whether systemd runs this machine (sd_booted(3)).
func booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return !errors.Is(err, fs.ErrNotExist)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}

// sameDisk tells whether two paths (or what is nearest to them) lie on one file system.
func sameDisk(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(paths.Existing(a), &x) == nil && unix.Stat(paths.Existing(b), &y) == nil && x.Dev == y.Dev
}
