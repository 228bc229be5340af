package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
)

// Restore restores a snapshot or a part of it: owners, modes, times, links, holes
// and xattrs with it. It counts only when restic ends with 0, reports no errors and
// has restored as much as it meant to; the error is a *RestoreError where items failed.
func (r *Repo) Restore(ctx context.Context, s RestoreSpec) (RestoreSummary, error) {
	if s.Snapshot == "" || !filepath.IsAbs(s.Target) {
		return RestoreSummary{}, fmt.Errorf("restore snapshot %q into %q: an id and an absolute target are needed", s.Snapshot, s.Target)
	}
	args := []string{"--json", "--sparse", "--target=" + s.Target}
	if s.Overwrite != "" {
		args = append(args, "--overwrite="+s.Overwrite)
	}
	for _, f := range []struct {
		on   bool
		flag string
	}{{s.Delete, "--delete"}, {s.Verify, "--verify"}, {s.DryRun, "--dry-run"}} {
		if f.on {
			args = append(args, f.flag)
		}
	}
	for _, p := range s.Include {
		args = append(args, "--include="+p)
	}
	what := s.Snapshot
	if s.Subfolder != "" {
		what += ":" + s.Subfolder
	}
	var sum *RestoreSummary
	o, err := r.run(ctx, call{
		command: "restore", args: append(args, "--", what), progress: s.OnProgress != nil,
		onLine: onMessage(map[string]func(json.RawMessage) error{
			"status": func(raw json.RawMessage) error { return restoreProgress(raw, s.OnProgress) },
			"summary": func(raw json.RawMessage) error {
				sum = &RestoreSummary{}
				return json.Unmarshal(raw, sum)
			},
		}),
	})
	if sum == nil {
		sum = &RestoreSummary{}
		if err == nil {
			err = errors.New("restic restore: it ended without saying what it restored")
		}
	}
	switch {
	case ctx.Err() != nil && err != nil:
	case len(o.failed.items) > 0:
		err = &RestoreError{Items: o.failed.items, More: o.failed.more}
	case err == nil && !sum.complete(s.Overwrite):
		err = fmt.Errorf("restic restore: of %d files it restored %d and left %d as they were", sum.TotalFiles, sum.FilesRestored, sum.FilesSkipped)
	}
	return *sum, err
}

// complete reports whether everything that was to be restored was. Files that are
// the same already are skipped and are not in the total; only with if-newer and never
// can links and other special files be in both.
func (s RestoreSummary) complete(overwrite string) bool {
	if overwrite == "if-newer" || overwrite == "never" {
		return s.FilesRestored+s.FilesSkipped >= s.TotalFiles
	}
	return s.FilesRestored >= s.TotalFiles // with patterns, restic counts the folders on the way only here
}

// restoreProgress hands on a status message of restore.
func restoreProgress(raw json.RawMessage, on func(Progress)) error {
	if on == nil {
		return nil
	}
	var s RestoreSummary
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	on(Progress{FilesDone: s.FilesRestored, FilesTotal: s.TotalFiles, BytesDone: s.BytesRestored, BytesTotal: s.TotalBytes})
	return nil
}
