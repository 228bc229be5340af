package s3mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/fs/accounting"
	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/fail"
)

// RestoreOptions say how a restore is made.
type RestoreOptions struct {
	// DeleteExtra deletes the bucket's objects that the inventory does not have, once
	// everything else is restored: those that Compare has listed, and that are still as
	// they were then.
	DeleteExtra bool
	OnProgress  func(Progress)
}

// Restored is what a restore has done.
type Restored struct {
	Objects, Bytes        uint64 // copied
	Deleted, DeletedBytes uint64
	// Findings are the objects that the pool could not give, by key.
	Findings []Finding
	Seconds  float64
}

// Restore makes the destination of a Difference hold the inventory's objects: it
// copies those that are missing or differ. It may be interrupted at any time; after
// another Compare it goes on.
//
// An object that the pool has lost, or holds with other content, is a finding. All
// others are restored, nothing is deleted, and the error has the code Inconsistent.
// Restored is not nil once anything was done.
func (p *Pool) Restore(ctx context.Context, d *Difference, o RestoreOptions) (*Restored, error) {
	if err := d.refuse(o); err != nil {
		return nil, err
	}
	began := time.Now()
	m := &meter{began: began, report: o.OnProgress}
	m.toCopy.Store(int64(d.Missing + d.Differing))
	m.bytesToCopy.Store(int64(d.MissingBytes + d.DifferingBytes))
	r := &restoration{pool: p, d: d, to: d.to, meter: m, out: &Restored{}}
	r.gone = sync.OnceValue(func() error { return p.gone(ctx) })
	r.apart.Store(p.api == nil || d.to.api == nil || !sameServer(d.to.Source, p))
	stop := m.start()
	err := r.run(accounting.WithStatsGroup(ctx, "ocbackup"), o)
	stop()
	r.out.Objects, r.out.Bytes = uint64(m.objects.Load()), uint64(m.stored.Load())
	r.out.Seconds = time.Since(began).Seconds()
	return r.out, err
}

// refuse refuses what would destroy something that is not the restore's.
func (d *Difference) refuse(o RestoreOptions) error {
	switch {
	case d.to.dir != "" && d.Extra > 0:
		return fail.Usagef("name a new or an empty directory", "the %s holds %d files that are not of this set, such as %s",
			d.to, d.Extra, d.ExtraKeys(1)[0].Key)
	case o.DeleteExtra && d.pool != "":
		return fail.Usagef("restore without deleting extra objects", "the %s holds a pool (%s), whose objects must not be deleted", d.to, d.pool)
	}
	return nil
}

// restoration is a Restore under way.
type restoration struct {
	pool  *Pool
	d     *Difference
	to    *destination
	meter *meter
	// apart is set once the server has refused to copy by itself.
	apart atomic.Bool
	// opaque is set once the destination's tags have turned out to be no MD5s of contents.
	opaque atomic.Bool
	// gone looks, once, whether the pool itself is missing.
	gone func() error

	mu  sync.Mutex // guards out
	out *Restored
}

func (r *restoration) run(ctx context.Context, o RestoreOptions) error {
	if err := r.to.make(); err != nil {
		return err
	}
	// rclone takes its settings from the context, and ends with ctx.
	ctx = r.to.with(ctx)
	if err := r.each(ctx, partialFile, func(ctx context.Context, o *Object) error { return r.to.remove(ctx, o.Key) }); err != nil {
		return err
	}
	if err := r.reread(ctx); err != nil {
		return err
	}
	for _, file := range []string{missingFile, differingFile} {
		err := r.each(ctx, file, func(ctx context.Context, o *Object) error { return r.bring(ctx, o, file == differingFile) })
		if err != nil {
			return err
		}
	}
	if err := r.to.sync(); err != nil {
		return err
	}
	if err := r.incomplete(); err != nil || !o.DeleteExtra {
		return err
	}
	return r.deleteExtra(ctx)
}

// each does something with all objects of a file, several at a time.
func (r *restoration) each(ctx context.Context, file string, do func(context.Context, *Object) error) error {
	ctx, all := newFailures(ctx)
	var g errgroup.Group
	g.SetLimit(r.to.Transfers)
	err := eachRecord(r.d.files.file(file), func(o *Object) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		g.Go(func() error {
			all.add(do(ctx, o))
			return nil
		})
		return nil
	})
	_ = g.Wait() // all has the errors
	return all.end(err)
}

// reread reads the files that a directory holds already, and has those copied again
// that are not whole: the machine may have gone down before they were on disk.
func (r *restoration) reread(ctx context.Context) error {
	if r.to.dir == "" {
		return nil
	}
	return r.each(ctx, presentFile, func(ctx context.Context, o *Object) error {
		r.meter.listed.Add(1)
		err := readOnly(ctx, proven{r.to.f, o}, o.Key)
		var wrong *verdict
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &wrong):
			return r.to.fail(err, "read "+o.Key+" in")
		}
		r.meter.expect(o.Size)
		return r.bring(ctx, o, true)
	})
}

// bring copies one object. replaces tells that the destination has another in its place.
func (r *restoration) bring(ctx context.Context, o *Object, replaces bool) error {
	err := r.copy(ctx, o, replaces)
	var wrong *verdict
	switch {
	case err == nil:
		r.meter.objects.Add(1)
		r.meter.stored.Add(o.Size)
		return nil
	case !errors.As(err, &wrong):
		return failure(err, fmt.Sprintf("restore %s to the %s", o.Key, r.to), "the keys of the bucket and of the pool")
	}
	if wrong.kind == Lost {
		// One object may be lost; all of them are not: then it is the pool.
		if err := r.gone(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Findings = append(r.out.Findings, Finding{wrong.kind, o.Key, wrong.text})
	return nil
}

// gone is an error when the pool's marker is not there.
func (p *Pool) gone(ctx context.Context) error {
	m, err := p.marker(p.with(ctx))
	if err == nil && m == nil {
		err = fail.New(fail.Repository, "the pool "+p.Location()+" is not there", "is it mounted? check location in [pool]")
	}
	return err
}

// incomplete is the error that tells which objects the pool could not give.
func (r *restoration) incomplete() error {
	list := r.out.Findings
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b Finding) int { return cmp.Or(compare(a.Key, b.Key), strings.Compare(a.Kind, b.Kind)) })
	names := make([]string, 0, 4)
	for _, f := range list[:min(len(list), 3)] {
		names = append(names, f.Key+" ("+f.Text+")")
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return &fail.Error{
		Code: fail.Inconsistent, What: fmt.Sprintf("%d objects could not be restored from the pool %s", len(list), r.pool.Location()),
		State: "all others are restored; nothing was deleted",
		Hint:  "their files can't be opened; look for them in other copies of the pool (" + filepath.Join(blobsDir, "KEY") + "), or in old versions that its server keeps",
		Err:   errors.New(strings.Join(names, ", ")),
	}
}
