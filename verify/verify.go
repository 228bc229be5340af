// Package verify finds out whether what the repository and the pool hold can be
// restored, and names what can't by the paths that users know.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"

	"github.com/ocbackup/ocbackup/progress"
)

// Options say what is verified, and how deep.
type Options struct {
	Repo *repo.Repo
	// Set is an id, a prefix or "latest"; All verifies every set instead.
	Set string
	All bool
	// Part is read, of the repository's packs, of the contents and of the pool's objects.
	Part Part
	// StateDir remembers which part was read when; empty: nothing does.
	StateDir string
	// TempDir takes temporary files; empty: the system's.
	TempDir string
	// Pool opens the pool that a set's bucket was copied to.
	Pool   func(context.Context, *manifest.Manifest) (*s3mirror.Pool, error)
	Report progress.Reporter
}

// Report is what was found.
type Report struct {
	Sets []SetReport `json:"sets"`
	// ReadData is the part of the data that was read: n/t or x%.
	ReadData string `json:"read_data,omitempty"`
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
	// LostBefore is how many nodes had lost data already when the set was made.
	LostBefore uint64 `json:"lost_before,omitempty"`
	// Certificate is the one that was made now, of what the repository (and the pool) hold
	// today; nil where there is none, for the reason in Uncertified, which may also be that
	// the pool was another.
	Certificate *certificate.Certificate `json:"certificate,omitempty"`
	Uncertified string                   `json:"uncertified,omitempty"`
	// Read and ReadBytes are how many contents were read and held against the metadata.
	Read      uint64 `json:"read,omitempty"`
	ReadBytes uint64 `json:"read_bytes,omitempty"`
}

// Sound tells whether nothing of the set is lost.
func (r *SetReport) Sound() bool {
	return len(r.Findings) == 0 && (r.Certificate == nil || r.Certificate.Sound())
}

// Unharmed tells whether all that is lost was lost on the server, before the set was made:
// what was stored is still there.
func (r *SetReport) Unharmed() bool {
	return r.LostBefore > 0 && len(r.Findings) == 1 && r.Certificate != nil && r.Certificate.Fatal <= r.LostBefore
}

// Run verifies. Damage is in the report, not an error; an error says that it could
// not be verified. It comes with the report when only the pool could not be.
func Run(ctx context.Context, o Options) (*Report, error) {
	if _, err := o.Repo.Prepare(ctx); err != nil {
		return nil, o.Repo.Failure(err, "run restic")
	}
	rep := &Report{Sound: true}
	sets, err := choose(ctx, o, rep)
	if err != nil {
		return nil, err
	}
	turn, err := o.turn(ctx, sets)
	if err != nil {
		return nil, err
	}
	rep.ReadData = o.Part.String()
	found, err := check(ctx, o, rep)
	if err != nil {
		return nil, err
	}
	v := &verification{o: o, rep: rep, broken: found}
	if err := v.inventories(ctx, sets); err != nil {
		return nil, err
	}
	// A pool that is away is no reason not to look at the repository.
	var poolErr error
	v.objects, poolErr = lookAtPool(ctx, o, v.readable(sets), rep)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	readErr, err := v.sets(ctx, sets)
	if err != nil {
		return nil, err
	}
	if poolErr = errors.Join(poolErr, readErr); poolErr != nil {
		rep.Sound = false
		return rep, poolErr
	}
	if o.Part.contents() && o.StateDir != "" {
		if err := remember(o.StateDir, turn, o.Part, time.Now()); err != nil {
			return rep, fail.Wrap(fail.Failed, err, "", "check the state directory (state_dir); until then, the same part is read again")
		}
	}
	return rep, nil
}

// turn finds out which part is to be read, and what it is remembered by: the repository,
// and with it the set where one was named. Such a set is not what is read in turns
// otherwise: a part of it would be missing from those.
func (o *Options) turn(ctx context.Context, sets []manifest.Set) (of string, err error) {
	if !o.Part.contents() || o.StateDir == "" {
		if o.Part.contents() && o.Part.N == 0 {
			return "", fail.Usagef("name a part: --read-data 1/"+fmt.Sprint(o.Part.T), "--read-data %s needs a configuration: its state directory remembers which part was read when", o.Part)
		}
		return "", nil
	}
	if of, err = o.Repo.ID(ctx); err != nil {
		return "", o.Repo.Failure(err, "read the repository's id")
	}
	if !o.All && o.Set != "" && o.Set != manifest.Latest && len(sets) > 0 {
		of += " " + sets[0].ID
	}
	if o.Part.N > 0 {
		return of, nil
	}
	r, err := readRotation(o.StateDir)
	if err != nil {
		return "", fail.Wrap(fail.Failed, err, "", "check the state directory (state_dir)")
	}
	o.Part.N = r.next(of, o.Part.T)
	return of, nil
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
	switch {
	case len(sets) == 0 && damaged != nil: // of all that there were
		return nil, nil
	case len(sets) == 0: // as below: it is an error
	case o.All:
		return sets, nil
	case o.Set == "":
		// The newest one, also when it is damaged: that is what this is to find out. One that
		// holds a part only is none to rely on.
		if _, err := manifest.Pick(sets, "", o.Repo.Host()); errors.As(err, new(*manifest.InstancesError)) {
			return nil, err
		}
		for i := len(sets) - 1; i >= 0; i-- {
			if s := sets[i]; s.Err != nil || s.Manifest.Full {
				return sets[i : i+1], nil
			}
		}
		return sets[len(sets)-1:], nil
	}
	s, err := manifest.Pick(sets, o.Set, o.Repo.Host())
	if err != nil {
		return nil, err
	}
	return []manifest.Set{*s}, nil
}

// check has restic check the repository, and tells what it found damaged.
func check(ctx context.Context, o Options, rep *Report) (broken, error) {
	step := o.Report.Step("check")
	step.Update("restic checks the repository")
	res, err := o.Repo.Check(ctx, repo.CheckSpec{ReadData: o.Part.String(), OnProgress: func(p repo.Progress) {
		step.Update(fmt.Sprintf("%s of %s %s read", humanize.Comma(int64(p.FilesDone)), humanize.Comma(int64(p.FilesTotal)), p.Current))
	}})
	if err != nil {
		step.Fail(err)
		return broken{}, o.Repo.Failure(err, "check the repository")
	}
	rep.Repository = append(rep.Repository, res.Errors...)
	rep.Sound = rep.Sound && len(res.Errors) == 0
	switch {
	case len(res.Errors) > 0:
		step.Fail(fmt.Errorf("%d findings", len(res.Errors)))
	case o.Part == Part{}:
		step.Done("structure sound; no data read (--read-data next/10 reads a tenth)")
	case !o.Part.contents():
		step.Done("structure sound; data read: " + rep.ReadData + " of the packs; contents are not held against the metadata (n/t does that)")
	default:
		step.Done("structure sound; data read: " + rep.ReadData)
	}
	found := brokenIn(res.Errors)
	if len(found.packs) > 0 { // once for all sets: it takes a process of restic for each index
		// Where it can't be told, the contents are what tells.
		found.data, found.trees, _ = o.Repo.InPacks(ctx, found.packs)
	}
	found.limit()
	return found, context.Cause(ctx)
}

// readable are the sets whose objects can be looked at.
func (v *verification) readable(sets []manifest.Set) []manifest.Set {
	return slices.DeleteFunc(slices.Clone(sets), func(s manifest.Set) bool { return s.Err != nil || v.noInventory[s.ID] != nil })
}
