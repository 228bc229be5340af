// Package verify finds out whether what the repository holds can be restored.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// Options say what is verified, and how deep.
type Options struct {
	Repo *repo.Repo
	// Set is an id, a prefix or "latest"; All verifies every set instead.
	Set string
	All bool
	// ReadData is passed on to the check of the repository: empty for its structure
	// alone, "n/t" or "x%" to read that part of the data too.
	ReadData string
	// Pool opens the pool that a set's bucket was copied to.
	Pool   func(context.Context, *manifest.Manifest) (*s3mirror.Pool, error)
	Report progress.Reporter
}

// Report is what was found.
type Report struct {
	Sets     []SetReport `json:"sets"`
	ReadData string      `json:"read_data,omitempty"`
	// Repository lists what the check of the repository found.
	Repository []string `json:"repository_findings,omitempty"`
	// Pool lists the objects that sets need and the pool does not hold as they were stored.
	Pool  []manifest.Finding `json:"pool_findings,omitempty"`
	Sound bool               `json:"sound"`
}

// SetReport is what was found in one set.
type SetReport struct {
	Set      string   `json:"set"`
	Full     bool     `json:"full"`
	Files    uint64   `json:"files"`
	Bytes    uint64   `json:"bytes"`
	Objects  uint64   `json:"objects,omitempty"` // of the bucket
	Findings []string `json:"findings,omitempty"`
}

// Run verifies. Damage is in the report, not an error; an error says that it could
// not be verified. It comes with the report when only the pool could not be.
func Run(ctx context.Context, o Options) (*Report, error) {
	if _, err := o.Repo.Prepare(ctx); err != nil {
		return nil, o.Repo.Failure(err, "run restic")
	}
	step := o.Report.Step("sets")
	rep := &Report{ReadData: o.ReadData, Sound: true}
	sets, err := choose(ctx, o, rep)
	if err != nil {
		step.Fail(err)
		return nil, err
	}
	for i := range sets {
		sr, err := verifySet(ctx, o.Repo, &sets[i], step)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			step.Fail(err)
			return nil, err
		}
		rep.Sound = rep.Sound && len(sr.Findings) == 0
		rep.Sets = append(rep.Sets, sr)
	}
	step.Done(fmt.Sprintf("%d looked at", len(rep.Sets)))
	// A pool that is away is no reason not to look at the repository.
	poolErr := verifyPool(ctx, o, sets, rep)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}

	step = o.Report.Step("check")
	step.Update("restic checks the repository")
	res, err := o.Repo.Check(ctx, repo.CheckSpec{ReadData: o.ReadData, OnProgress: func(p repo.Progress) {
		step.Update(fmt.Sprintf("%s of %s packs read", humanize.Comma(int64(p.FilesDone)), humanize.Comma(int64(p.FilesTotal))))
	}})
	if err != nil {
		step.Fail(err)
		return nil, o.Repo.Failure(err, "check the repository")
	}
	rep.Repository = append(rep.Repository, res.Errors...)
	rep.Sound = rep.Sound && len(res.Errors) == 0
	switch {
	case len(res.Errors) > 0:
		step.Fail(fmt.Errorf("%d findings", len(res.Errors)))
	case o.ReadData == "":
		step.Done("structure sound; no data read (--read-data 1/10 reads a tenth)")
	default:
		step.Done("structure sound; data read: " + o.ReadData)
	}
	if poolErr != nil {
		rep.Sound = false
	}
	return rep, poolErr
}

// choose reads the sets, never from the cache: what the repository has is the question.
func choose(ctx context.Context, o Options, rep *Report) ([]manifest.Set, error) {
	sets, err := manifest.List(ctx, o.Repo, "")
	var damaged *repo.DamagedSnapshotsError
	if errors.As(err, &damaged) {
		for _, it := range damaged.Items {
			rep.Repository = append(rep.Repository, "snapshot "+it.Path+" can't be loaded: "+it.Err)
		}
		rep.Sound = false
	} else if err != nil {
		return nil, o.Repo.Failure(err, "read the sets")
	}
	if o.All {
		return sets, nil
	}
	if o.Set == "" || o.Set == manifest.Latest {
		// The newest one, also when it is damaged: that is what this is to find out.
		if len(sets) > 0 {
			return sets[len(sets)-1:], nil
		}
	}
	s, err := manifest.Pick(sets, o.Set, o.Repo.Host())
	if err != nil {
		return nil, err
	}
	return []manifest.Set{*s}, nil
}

// verifySet holds what a manifest says against what the repository has. Its error
// says that this can't be told right now.
func verifySet(ctx context.Context, r *repo.Repo, s *manifest.Set, step progress.Step) (SetReport, error) {
	rep := SetReport{Set: s.ID}
	found := func(format string, args ...any) { rep.Findings = append(rep.Findings, fmt.Sprintf(format, args...)) }
	if s.Err != nil {
		found("%v", s.Err)
		return rep, nil
	}
	rep.Full = s.Manifest.Full
	if b := s.Manifest.Bucket; b != nil {
		rep.Objects = b.Objects
	}
	for _, name := range s.Missing {
		found("root %s: its snapshot is gone from the repository", name)
	}
	for _, root := range s.Manifest.Roots {
		if root.Snapshot == "" || slices.Contains(s.Missing, root.Name) {
			continue
		}
		step.Update(s.ID + ": " + root.Name)
		var files, bytes uint64
		err := r.Ls(ctx, root.Snapshot, "", func(n repo.Node) error {
			if n.Type == "file" {
				files++
				bytes += n.Size
			}
			return nil
		})
		rep.Files += files
		rep.Bytes += bytes
		switch {
		case errors.Is(err, repo.ErrDamaged), errors.Is(err, fs.ErrNotExist):
			found("root %s: its file list can't be read: %v", root.Name, err)
		case err != nil:
			return rep, r.Failure(err, "read the file list of root "+root.Name)
		case files != root.Files:
			found("root %s: %d files were stored, the repository has %d", root.Name, root.Files, files)
		case root.Has(opencloud.Config) && root.Name == "config" && files == 0:
			found("root config: it is empty, without opencloud.yaml")
		}
	}
	return rep, nil
}
