package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// Backup stores the targets in a new snapshot. It counts only when restic ends
// with 0 and sums up what it did. With an *IncompleteError the snapshot is there
// but lacks something: the Summary tells its id, so that the caller can forget it.
func (r *Repo) Backup(ctx context.Context, s BackupSpec) (Summary, error) {
	if err := s.validate(); err != nil {
		return Summary{}, err
	}
	args := []string{"--json"}
	if s.DryRun {
		args = append(args, "--dry-run")
	}
	if s.Parent == "" {
		args = append(args, "--force")
	} else {
		args = append(args, "--parent="+s.Parent)
	}
	// Flags, not a file: in a file, "#" and "$" mean something.
	for _, p := range s.Exclude {
		args = append(args, "--exclude="+p)
	}
	args = append(args, r.backupFlags(s.Tags)...)
	if s.NoScan || s.OnProgress == nil {
		args = append(args, "--no-scan") // the scan only counts what there is
	}
	if len(s.Targets) <= maxTargets {
		args = append(append(args, "--"), s.Targets...)
	} else {
		list, err := r.targetList(s.Targets)
		if err != nil {
			return Summary{}, fmt.Errorf("back up %s: %w", s.Dir, err)
		}
		defer os.Remove(list) //nolint:errcheck // a left-over temporary file is no reason to fail
		args = append(args, "--files-from-raw="+list)
	}
	c := call{command: "backup", args: args, dir: s.Dir}
	if r.deviceFree {
		c.env = r.features(deviceFeature)
	}
	return r.backup(ctx, c, s.DryRun, s.OnProgress)
}

// maxTargets is how many targets are given as arguments: Linux limits their length.
const maxTargets = 100

// targetList writes targets to a temporary file, each ended by a NUL.
func (r *Repo) targetList(targets []string) (path string, err error) {
	f, err := os.CreateTemp(r.opt.TempDir, "ocbackup-targets-*")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(strings.Join(targets, "\x00") + "\x00")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func (s BackupSpec) validate() error {
	if !filepath.IsAbs(s.Dir) {
		return fmt.Errorf("back up %q: the working directory %q is not absolute", s.Targets, s.Dir)
	}
	if len(s.Targets) == 0 {
		return fmt.Errorf("back up %s: no targets", s.Dir)
	}
	for _, t := range s.Targets {
		// Absolute names would not find their parent; "." would make restic store the
		// folder's entries instead of the folder.
		if !filepath.IsLocal(t) || filepath.Clean(t) == "." {
			return fmt.Errorf("back up %s: the target %q does not name something in it", s.Dir, t)
		}
	}
	for _, p := range s.Exclude {
		// This also keeps out "!", by which restic takes an exclusion back.
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("back up %s: the pattern %q is not absolute", s.Dir, p)
		}
	}
	return validTags(s.Tags)
}

// validTags refuses what restic would store as two tags or as none.
func validTags(tags []string) error {
	for _, t := range tags {
		if t == "" || strings.Contains(t, ",") || strings.TrimSpace(t) != t {
			return fmt.Errorf("%q cannot be a tag", t)
		}
	}
	return nil
}

// backupFlags are those of every kind of backup.
func (r *Repo) backupFlags(tags []string) []string {
	var args []string
	if r.opt.Host != "" {
		args = append(args, "--host="+r.opt.Host)
	}
	for _, t := range tags {
		args = append(args, "--tag="+t)
	}
	if r.opt.ReadConcurrency > 0 {
		args = append(args, fmt.Sprintf("--read-concurrency=%d", r.opt.ReadConcurrency))
	}
	if r.opt.Compression != "" {
		args = append(args, "--compression="+r.opt.Compression)
	}
	return args
}

// backup runs a backup and judges it.
func (r *Repo) backup(ctx context.Context, c call, dryRun bool, onProgress func(Progress)) (Summary, error) {
	var sum *Summary
	c.progress = onProgress != nil
	c.onLine = onMessage(map[string]func(json.RawMessage) error{
		"status": func(raw json.RawMessage) error { return backupProgress(raw, onProgress) },
		"summary": func(raw json.RawMessage) error {
			sum = &Summary{}
			return json.Unmarshal(raw, sum)
		},
	})
	o, err := r.run(ctx, c)
	if sum == nil {
		sum = &Summary{}
		if err == nil {
			err = errors.New("restic backup: it ended without saying what it stored")
		}
	}
	if dryRun {
		sum.SnapshotID = "" // restic makes one up
	} else if err == nil && sum.SnapshotID == "" {
		err = errors.New("restic backup: it ended without naming a snapshot")
	}
	// Releases before 0.19 leave out a missing target and end with 0.
	for _, line := range o.plain {
		if path, why, ok := skippedTarget(line); ok {
			o.failed.add(path, why)
		}
	}
	var x *proc.ExitError
	incomplete := errors.As(err, &x) && x.Code == exitIncomplete
	if incomplete && len(o.failed.items) == 0 {
		o.failed.add(c.dir, x.Stderr)
	}
	if incomplete || err == nil && len(o.failed.items) > 0 {
		return *sum, &IncompleteError{Items: o.failed.items, More: o.failed.more}
	}
	if err != nil {
		return Summary{}, err
	}
	return *sum, nil
}

// skippedTarget reads a line such as "users does not exist, skipping".
func skippedTarget(line string) (path, why string, ok bool) {
	for _, why := range []string{"does not exist", "cannot be accessed"} {
		if path, ok := strings.CutSuffix(line, " "+why+", skipping"); ok {
			return path, why, true
		}
	}
	return "", "", false
}

// backupProgress hands on a status message of backup.
func backupProgress(raw json.RawMessage, on func(Progress)) error {
	if on == nil {
		return nil
	}
	var m struct {
		TotalFiles   uint64   `json:"total_files"`
		FilesDone    uint64   `json:"files_done"`
		TotalBytes   uint64   `json:"total_bytes"`
		BytesDone    uint64   `json:"bytes_done"`
		CurrentFiles []string `json:"current_files"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	p := Progress{FilesDone: m.FilesDone, FilesTotal: m.TotalFiles, BytesDone: m.BytesDone, BytesTotal: m.TotalBytes}
	if len(m.CurrentFiles) > 0 {
		p.Current = m.CurrentFiles[0]
	}
	on(p)
	return nil
}
