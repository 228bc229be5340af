package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// Plan is how the roots of a set are frozen. Its methods are called one after the other,
// but for Watch and Lost. All but Release and Keep end when their context ends, with its
// cause, even where the storage hangs.
type Plan struct {
	req Request
	why map[string]string // roots that can't be frozen, and why not

	rec      Record
	recorded bool // there may be something to remove
}

// Find finds out how each root can be frozen. It changes nothing. There is an error where
// the configuration wants a driver that can't freeze what holds the users' files.
func Find(ctx context.Context, r Request) (*Plan, error) {
	if r.RunDir == "" {
		r.RunDir = DefaultRunDir
	}
	p := &Plan{req: r, why: map[string]string{}, rec: Record{
		Format: recordFormat, Set: r.Set, Instance: r.Instance, Roots: map[string]FrozenRoot{},
	}}
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	for _, root := range r.Roots {
		at, err := locate(ctx, all, root, r.Config)
		if err != nil {
			return nil, err
		}
		if at.volume == nil {
			p.why[root.Name] = at.why
			continue
		}
		p.add(root, *at.volume, at.rel)
	}
	checked := p.rec.Volumes
	for i, err := range each(ctx, checked, func(ctx context.Context, d driver, v *Volume) error { return d.check(ctx, v) }) {
		if err != nil {
			p.drop(checked[i], err.Error(), true)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return p, p.refuse(fail.Usage)
}

// add puts a root into the plan. Roots on one volume share its snapshot.
func (p *Plan) add(root Root, v Volume, rel string) {
	for _, have := range p.rec.Volumes {
		if have.key() == v.key() {
			v = have
		}
	}
	if v.Name == "" {
		v.Name = makeName(ownerOf(p.req.Instance, p.req.StateDir), p.req.Set, len(p.rec.Volumes))
		p.rec.Volumes = append(p.rec.Volumes, v)
	}
	p.rec.Roots[root.Name] = FrozenRoot{Driver: v.Driver, Path: root.Path, Volume: v.Name, Rel: rel}
}

// drop takes the roots of a volume out of the plan. Where there may be a snapshot of it, it
// stays in the record.
func (p *Plan) drop(v Volume, why string, gone bool) {
	for name, f := range p.rec.Roots {
		if f.Volume == v.Name {
			delete(p.rec.Roots, name)
			p.why[name] = why
		}
	}
	if gone {
		p.rec.Volumes = slices.DeleteFunc(slices.Clone(p.rec.Volumes), func(w Volume) bool { return w.Name == v.Name })
	}
}

// refuse returns an error with this code if the driver was chosen by the admin and users'
// files can't be frozen by it.
func (p *Plan) refuse(code fail.Code) error {
	if !p.req.Config.Driver.explicit() {
		return nil
	}
	var errs []error
	for _, r := range p.req.Roots {
		d, why := p.How(r.Name)
		if why == "" {
			why = fmt.Sprintf("it does not lie below path = %q of [snapshot]", p.req.Config.Path)
		}
		if r.Users && d != p.req.Config.Driver {
			errs = append(errs, fail.Wrap(code, errors.New(why),
				fmt.Sprintf("%s (%s) can't be frozen with driver = %q of [snapshot]", r.Name, r.Path, p.req.Config.Driver),
				`Mend that, or set driver = "auto": what can't be frozen is then stored while the server is stopped.`))
		}
	}
	return errors.Join(errs...)
}

// Empty reports whether nothing can be frozen.
func (p *Plan) Empty() bool { return len(p.rec.Roots) == 0 }

// How returns how a root is frozen. Where it is None, why tells why, in words for an admin.
func (p *Plan) How(root string) (d Driver, why string) {
	if f, ok := p.rec.Roots[root]; ok {
		return f.Driver, ""
	}
	return None, p.why[root]
}

// Sync writes to the disks what is still in memory, so that the freeze has less to do.
func (p *Plan) Sync(ctx context.Context) {
	each(ctx, p.rec.Volumes, func(_ context.Context, _ driver, v *Volume) error {
		f, err := os.Open(v.Live)
		if err != nil {
			return err
		}
		defer shut(f)
		return unix.Syncfs(int(f.Fd()))
	})
}

// write writes the record.
func (p *Plan) write(ctx context.Context) error {
	if p.rec.Created.IsZero() {
		p.rec.Created = time.Now().UTC().Truncate(time.Second)
	}
	return p.writeAs(ctx, p.rec)
}

func (p *Plan) writeAs(ctx context.Context, rec Record) error {
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	p.recorded = true
	err = await(ctx, func() error { return writeRecord(p.req.StateDir, rec.Set, data) })
	return fail.Wrap(fail.Failed, err, "write the record of the snapshots", "Is there space in "+p.req.StateDir+"?")
}
