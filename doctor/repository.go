package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/repo"
)

// restic looks at the restic program.
type restic struct{}

func (restic) Name() string { return "restic" }

func (restic) Run(ctx context.Context, s *Subject) []Finding {
	opt, err := s.Config.RepoOptions()
	if err != nil {
		opt = repo.Options{Binary: s.Config.Repository.Restic} // reported already; the version can be told all the same
	}
	opt.RetryLock = time.Second // what is locked is reported, not waited for
	r := repo.New(opt)
	v, prepErr := r.Prepare(ctx)
	if prepErr != nil {
		return []Finding{failed(r.Failure(prepErr, "run restic"), "")}
	}
	if err == nil {
		s.repo = r
	}
	return okay("%s, version %s", s.Config.Repository.Restic, v)
}

// repository looks whether the repository can be opened, and what is in it.
type repository struct{}

func (repository) Name() string { return "repository" }

// oldBackup is the age from which the newest backup is worth a warning.
const oldBackup = 3 * 24 * time.Hour

func (repository) Run(ctx context.Context, s *Subject) []Finding {
	if s.repo == nil {
		return nil // said already
	}
	if _, err := s.repo.ID(ctx); err != nil {
		return []Finding{failed(s.repo.Failure(err, "open the repository"), "")}
	}
	s.open = true
	snapshots, err := s.repo.Snapshots(ctx, manifest.Tag)
	if err != nil {
		return []Finding{failed(s.repo.Failure(err, "read the repository"), "")}
	}
	if len(snapshots) == 0 {
		return []Finding{info("ocbackup backup", "%s can be opened and holds no backup of %s yet", s.repo.Location(), s.Config.Name)}
	}
	newest := snapshots[len(snapshots)-1].Time
	age := time.Since(newest)
	text := fmt.Sprintf("%s: %s, the newest of %s", s.repo.Location(), plural(len(snapshots), "backup", "backups"), newest.Local().Format(time.DateTime))
	switch {
	case age < -time.Minute:
		return []Finding{failure(fail.Failed, "set the clock right: the newest backup must be the one with the latest time", "%s, which is in the future", text)}
	case age > oldBackup:
		return []Finding{warning("see why: systemctl list-timers 'ocbackup*', journalctl -u 'ocbackup*'", "%s, %s", text, strings.TrimSpace(humanize.Time(newest)))}
	}
	return okay("%s", text)
}

// repositoryDisk looks at the disk of a repository that lies on one.
type repositoryDisk struct{}

func (repositoryDisk) Name() string { return "repository disk" }

func (repositoryDisk) Run(_ context.Context, s *Subject) []Finding {
	dir, local := config.LocalPath(s.Config.Repository.Location)
	if !local {
		return nil
	}
	return disk("repository", dir, s.Config)
}

// disk looks at the disk that a repository or a pool lies on; dir is empty for one
// that lies elsewhere.
func disk(what, dir string, c *config.Config) []Finding {
	if dir == "" {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(paths.Existing(dir), &st); err != nil {
		return []Finding{failure(fail.Repository, "", "%s: %v", dir, err)}
	}
	var out []Finding
	for _, data := range []string{c.Layout.DataDir, c.Layout.UsersRoot} {
		if sameDisk(dir, data) {
			out = append(out, warning("put the "+what+" on another disk, better on another machine",
				"%s is on the file system of OpenCloud's data: what destroys one destroys both", dir))
			break
		}
	}
	if inside(dir, c) {
		out = append(out, failure(fail.Usage, "move the "+what+" out of it", "%s lies inside what is backed up", dir))
	}
	free := freeBytes(st)
	if total := st.Blocks * uint64(st.Bsize); free < total/20 || free < 1<<30 {
		out = append(out, warning("make room: a backup fails when the disk is full", "only %s of %s are free", humanize.IBytes(free), humanize.IBytes(total)))
	}
	if len(out) == 0 {
		return okay("%s free", humanize.IBytes(free))
	}
	return out
}

// inside tells whether a path lies in one of the directories that are backed up.
func inside(p string, c *config.Config) bool {
	p = paths.Resolve(p)
	for _, r := range c.Layout.Roots() {
		if paths.IsDir(r.Path) && len(r.Include) == 0 && paths.Within(paths.Resolve(r.Path), p) {
			return true
		}
	}
	return false
}
