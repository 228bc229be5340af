package s3mirror

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/rclone/rclone/fs/accounting"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
)

// pass is one copy under way.
type pass struct {
	Mirror *Mirror
	CopyOptions
	out      *Copied
	progress *meter
	work     segments
	from, to context.Context // configured for the two sides
	copies   *errgroup.Group
	giveUp   context.CancelCauseFunc

	mu       sync.Mutex // guards what follows, and out.Findings
	failures []error
}

// maxFailures is how many objects may fail before a pass gives up.
const maxFailures = 10

func (p *pass) run(ctx context.Context) error {
	m := p.Mirror
	ctx = accounting.WithStatsGroup(ctx, "ocbackup")
	ctx, p.giveUp = context.WithCancelCause(ctx)
	defer p.giveUp(nil)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.src.Checkers)
	p.from, p.to = m.src.with(ctx), m.pool.with(ctx)
	p.copies = &errgroup.Group{}
	p.copies.SetLimit(m.pool.Transfers)

	listed, err := p.side().spaces(p.from)
	if err != nil {
		return m.src.fail(err, "list")
	}
	if err := p.refuseEmpty(len(listed)); err != nil {
		return err
	}
	if p.work, err = m.ix.segments(); err != nil {
		return err
	}
	m.sound = false
	all := slices.Clone(listed)
	for name := range m.ix.parts {
		all = append(all, name)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, space := range all {
		g.Go(func() error {
			_, inSource := slices.BinarySearch(listed, space)
			return p.space(ctx, space, inSource)
		})
	}
	err = g.Wait()
	_ = p.copies.Wait() // they give their errors to p.failures
	switch {
	case len(p.failures) > 0: // they come first: a listing that is called off for them says nothing
		return p.failed()
	case err != nil:
		return err
	}
	return p.finish(all)
}

// side is the bucket, counted as it is listed.
func (p *pass) side() side {
	s := p.Mirror.src.side()
	s.seen = &p.progress.listed
	s.odd = func(key string) {
		p.find(Finding{Skipped, key, "it is no path, or ends with a slash, or is no text: no key of OpenCloud's; what it names is not copied"})
	}
	s.refuse = func(key string) error {
		if path.Base(key) != markerFile {
			return nil
		}
		return fail.Usagef(elsewhere, "the bucket holds a pool (%s): each backup would copy all earlier ones", key)
	}
	return s
}

// finish makes index and inventory of the segments.
func (p *pass) finish(spaces []string) error {
	ix, out := p.Mirror.ix, p.out
	if err := p.refuseEmpty(int(p.progress.listed.Load())); err != nil {
		return err
	}
	if p.progress.objects.Load() > 0 {
		if err := p.Mirror.pool.sync(); err != nil {
			return p.Mirror.pool.fail(err, "write to disk")
		}
	}
	out.Listed = uint64(p.progress.listed.Load())
	out.New, out.NewBytes = uint64(p.progress.objects.Load()), uint64(p.progress.stored.Load())
	path := filepath.Join(ix.dir, inventoryFile)
	digest, err := p.work.concat("inventory", spaces, path)
	if err != nil {
		return err
	}
	out.Inventory = Inventory{Path: path, Objects: out.Listed, Bytes: uint64(p.progress.bytesListed.Load()), Digest: digest}
	state := ix.state
	state.Pool, state.Listed = p.Mirror.pool.info.ID, int64(out.Listed)
	if err := ix.replace(p.work, spaces, state); err != nil {
		return err
	}
	p.Mirror.sound = true
	return nil
}

// sync makes sure that what was written is on disk, where that is this machine's.
func (p *Pool) sync() error {
	dir := p.Local()
	if dir == "" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// space lists one space of the bucket, compares it with what the pool holds, and
// has copied what is missing there.
func (p *pass) space(ctx context.Context, space string, inSource bool) error {
	list := p.work.file("listing", space)
	if !inSource {
		if err := os.WriteFile(list, nil, 0o600); err != nil {
			return err
		}
	} else if _, err := p.side().list(p.from, space, list); err != nil {
		return p.Mirror.src.fail(err, "list space "+space+" in")
	}
	in, err := os.Open(list)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, err := newRecorder(p.work, space)
	if err != nil {
		return err
	}
	err = join(newReader(in, list), p.Mirror.ix.space(space), func(l, k *Object) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if l == nil {
			return out.add(known(k, false)) // of an older set's
		}
		p.progress.bytesListed.Add(l.Size)
		if k != nil && unchanged(l, k) {
			now := *k
			now.Modified = l.Modified
			return out.add(known(&now, true))
		}
		p.progress.expect(l.Size)
		f := &future{done: make(chan struct{})}
		p.copies.Go(func() error { // blocks while as many as may are under way
			defer close(f.done)
			p.resolve(ctx, f, l, k)
			return nil
		})
		return out.add(f)
	})
	if closed := out.close(); err == nil {
		err = closed
	}
	return errors.Join(err, remove(list))
}

// unchanged tells whether the bucket's object is the one that the pool holds. What
// was only seen in the pool, and never read, is not known to be.
func unchanged(l, k *Object) bool {
	switch tag := tagOf(l); {
	case l.Size != k.Size || k.Modified.IsZero():
		return false
	case tag == "":
		return l.Modified.Equal(k.Modified)
	default:
		return tag == k.MD5 || tag == k.Tag
	}
}

// tagOf is the entity tag of a listed object.
func tagOf(l *Object) string {
	if l.MD5 != "" {
		return l.MD5
	}
	return l.Tag
}

// errTooMany ends a pass whose objects fail one after the other, or that can't go on.
var errTooMany = errors.New("too many objects could not be copied")

// resolve brings one object into the pool; k is what the pool holds under its key.
func (p *pass) resolve(ctx context.Context, f *future, l, k *Object) {
	o, err := p.bring(ctx, l, k)
	switch {
	case err == nil:
		f.object, f.listed = o, true
	case context.Cause(ctx) != nil:
		f.err = context.Cause(ctx)
	case errors.Is(err, errGone):
		p.find(Finding{Gone, l.Key, "it was listed, and is gone"})
		p.progress.listed.Add(-1)
		p.progress.bytesListed.Add(-l.Size)
		p.progress.skip(l.Size)
		if k != nil {
			f.object = *k
		}
	default:
		p.fails(err)
	}
}

// fails notes that an object could not be copied, and calls off all others where that
// is of no use.
func (p *pass) fails(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, err)
	if len(p.failures) >= maxFailures || hopeless(err) {
		p.giveUp(errTooMany)
	}
}

func (p *pass) find(f Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Findings = append(p.out.Findings, f)
}
