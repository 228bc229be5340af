package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/fail"
)

// ExpireOptions say what leaves a pool.
type ExpireOptions struct {
	// Grace is how long an object stays after an Expire has first seen that no set needs it.
	Grace time.Duration
	Now   time.Time // the zero time: the clock's
	// DryRun counts, and writes nothing.
	DryRun     bool
	OnProgress func(Progress)
}

// Expired is what an Expire has done.
type Expired struct {
	Unreferenced      uint64 `json:"unreferenced"` // no set needs them; left-overs of interrupted copies are among them
	UnreferencedBytes uint64 `json:"unreferenced_bytes"`
	Waiting           uint64 `json:"waiting"` // of those: in their grace period
	WaitingBytes      uint64 `json:"waiting_bytes"`
	Deleted           uint64 `json:"deleted"` // in a dry run: would be
	DeletedBytes      uint64 `json:"deleted_bytes"`
	// Next is when the next become due; the zero time when none is waiting.
	Next time.Time `json:"next,omitzero"`
	// Resumed tells that an Expire before this one was interrupted.
	Resumed bool `json:"resumed"`
	// Refused is how many objects the server would not let be deleted; Findings has the first.
	Refused  uint64    `json:"refused,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	// Uploads is how many uploads in parts were aborted that had been interrupted.
	Uploads uint64 `json:"uploads,omitempty"`
}

// Refused is the kind of finding of an object that the pool's server does not let be deleted.
const Refused = "refused"

// clockSlack is how far a recorded time may be in the future.
const clockSlack = 5 * time.Minute

// Expire deletes from a pool what none of the sets needs, after a grace period. Sets
// are all that are retained: anything else is deleted. No Mirror may be open meanwhile.
//
// Nothing is deleted unless every inventory was read in full, and never while other
// repositories refer to the pool. After an interruption the next Expire goes on.
func (p *Pool) Expire(ctx context.Context, owner Owner, sets []SetInventory, o ExpireOptions) (*Expired, error) {
	if len(sets) == 0 {
		return nil, fail.Usagef("if the pool is not needed any more, delete its directory or bucket by hand",
			"there are no sets: the whole pool %s would be deleted", p.Location())
	}
	id, err := p.alone(ctx, owner)
	if err != nil {
		return nil, err
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	o.Now = o.Now.UTC()
	files, err := newScratch(p.StateDir)
	if err != nil {
		return nil, err
	}
	defer files.close()
	m, stop := progressOf(o.OnProgress)
	defer stop()
	x := &expiry{ExpireOptions: o, pool: p, id: id, files: files, meter: m, out: &Expired{}, dir: filepath.Join(p.StateDir, "bucket")}
	return x.out, x.run(ctx, sets)
}

// alone sees that the pool is the owner's, and nobody else's.
func (p *Pool) alone(ctx context.Context, owner Owner) (id string, err error) {
	if err := p.gone(ctx); err != nil {
		return "", err
	}
	m, err := p.marker(p.with(ctx))
	if err != nil {
		return "", err
	}
	if err := p.accept(p.with(ctx), m, owner); err != nil {
		return "", err
	}
	others := slices.DeleteFunc(slices.Clone(m.Repositories), func(id string) bool { return id == owner.Repository })
	switch {
	case len(others) == len(m.Repositories):
		return "", fail.Usagef("expire with the repository that its backups are in",
			"no backup of the repository %s has used the pool %s", owner.Repository, p.Location())
	case len(others) > 0:
		return "", fail.Usagef("their sets need objects that this repository does not know of. If they do not exist any more, remove them from \"repositories\" in "+markerFile+" there",
			"the pool %s is also used by the repositories %s", p.Location(), strings.Join(others, ", "))
	}
	return m.ID, nil
}

// expiry is an Expire under way.
type expiry struct {
	ExpireOptions
	pool  *Pool
	id    string // the pool's
	dir   string
	files *scratch
	held  *holdings
	meter *meter
	out   *Expired

	record, journal savedEntries // as they were found
	waiting, due    *entryWriter
}

func (x *expiry) run(ctx context.Context, sets []SetInventory) error {
	if err := x.recall(); err != nil {
		return err
	}
	wanted := &refs{files: x.files}
	if err := wanted.foldAll(ctx, sets, make([]SetUsage, len(sets))); err != nil {
		return err
	}
	var err error
	if x.held, err = x.pool.hold(ctx, x.files, x.meter); err != nil {
		return err
	}
	if err := x.candidates(ctx, wanted); err != nil {
		return err
	}
	if err := x.sort(); err != nil {
		return err
	}
	if x.DryRun {
		x.out.Deleted, x.out.DeletedBytes = x.due.objects, x.due.bytes
		return nil
	}
	if x.pool.StateDir == "" {
		return fail.Usagef("", "without a state directory nothing can be deleted")
	}
	if x.due.objects > 0 {
		if err := x.due.install(x.path(journalFile)); err != nil {
			return err
		}
	}
	if err := x.waiting.install(x.path(unreferencedFile)); err != nil {
		return err
	}
	if x.due.objects > 0 {
		if err := x.unindex(); err != nil {
			return err
		}
		if err := x.delete(ctx); err != nil {
			return err
		}
	}
	if err := atomicfile.Remove(x.path(journalFile)); err != nil {
		return err
	}
	return x.abandonUploads(ctx)
}

func (x *expiry) path(name string) string { return filepath.Join(x.dir, name) }

// recall finds what earlier runs have written down.
func (x *expiry) recall() (err error) {
	if x.record, err = findEntries(x.path(unreferencedFile), x.id); err != nil {
		return err
	}
	if x.journal, err = findEntries(x.path(journalFile), x.id); err != nil {
		return err
	}
	x.out.Resumed = x.journal.path != ""
	for _, s := range []savedEntries{x.record, x.journal} {
		if s.newest.After(x.Now.Add(clockSlack)) {
			return fail.New(fail.Failed, fmt.Sprintf("it is %s, and objects of the pool were seen to be unreferenced at %s: one of the times is wrong",
				x.Now.Format(time.RFC3339), s.newest.Format(time.RFC3339)),
				"set the clock (timedatectl). If the later time was the wrong one, remove "+s.path+": the grace period then begins anew")
		}
	}
	return nil
}

// candidatesFile has what the pool holds and no set needs.
const candidatesFile = "candidates"

func (x *expiry) candidates(ctx context.Context, wanted *refs) error {
	out, err := createEntries(x.files.file(candidatesFile), x.id)
	if err != nil {
		return err
	}
	spare, err := x.held.spare(wanted)
	if err != nil {
		return errors.Join(err, out.close())
	}
	all, done, err := wanted.all()
	if err != nil {
		return errors.Join(err, out.close())
	}
	defer done()
	held, done := x.held.all()
	defer done()
	err = joinEntries(all, held, func(want, there *entry) error {
		if want != nil || spare[damagedFrom(there.Path)] {
			return context.Cause(ctx)
		}
		return out.add(there)
	})
	x.out.Unreferenced, x.out.UnreferencedBytes = out.objects, out.bytes
	return errors.Join(err, out.close())
}

// sort divides the candidates into those that are due and those that wait. The time
// counts from when one was first written down.
func (x *expiry) sort() (err error) {
	record, done, err := x.record.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	journal, done, err := x.journal.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	now, done, err := savedEntries{path: x.files.file(candidatesFile)}.open(x.id)
	if err != nil {
		return err
	}
	defer done()
	if x.waiting, err = createEntries(x.files.file("waiting"), x.id); err != nil {
		return err
	}
	if x.due, err = createEntries(x.files.file("due"), x.id); err != nil {
		return err
	}
	err = joinEntries(now, union(journal, record), func(e, known *entry) error {
		if e == nil {
			return nil // a set needs it again, or it is gone
		}
		e.Since = x.Now
		if known != nil {
			e.Since = known.Since
		}
		at := e.Since.Add(x.Grace)
		if !at.After(x.Now) {
			return x.due.add(e)
		}
		if x.out.Next.IsZero() || at.Before(x.out.Next) {
			x.out.Next = at
		}
		return x.waiting.add(e)
	})
	err = errors.Join(err, x.waiting.close(), x.due.close())
	x.out.Waiting, x.out.WaitingBytes = x.waiting.objects, x.waiting.bytes
	return err
}
