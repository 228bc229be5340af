package s3mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"
	"golang.org/x/sync/errgroup"
)

// reconciled is what came of holding the index against the pool.
type reconciled struct {
	Objects, Bytes uint64 // that the pool holds under blobs/
	Findings       []Finding
	// Adopted are objects that nothing was known of: of a run that was killed, say.
	Adopted uint64
	// Partial are left-overs of interrupted copies, which were removed.
	Partial uint64
}

// reconcile lists the pool and makes the index anew: what is known of its objects
// (by the segments of a pass that did not end in order, by the old index, by the last
// inventory), and is there. An object that is not what was stored gives way, so that it
// is copied again; nothing else is changed.
func (p *Pool) reconcile(ctx context.Context, ix *index, last LastInventory, onProgress func(Progress)) (*reconciled, error) {
	ctx = p.with(ctx)
	// The segments of the pass that did not end are read while new ones are written. When
	// this does not end either, they are still there.
	if _, err := os.Stat(ix.before()); errors.Is(err, os.ErrNotExist) {
		if err := os.Rename(ix.work(), ix.before()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, ownFailure(err)
		}
	}
	if err := os.MkdirAll(ix.before(), 0o700); err != nil {
		return nil, ownFailure(err)
	}
	r := &reconciliation{
		pool: p, ix: ix, before: segments{ix.before()}, out: &reconciled{},
		meter: &meter{began: time.Now(), report: onProgress},
	}
	defer r.meter.start()()
	var err error
	if r.inventory, err = fetch(ctx, last, filepath.Join(ix.before(), "inventory"), p.Log); err != nil {
		return nil, err
	}
	defer r.inventory.close()
	if r.work, err = ix.segments(); err != nil {
		return nil, ownFailure(err)
	}
	spaces, err := r.run(ctx)
	if err != nil {
		return nil, ownFailure(err)
	}
	state := ix.state
	state.Pool, state.Reconciled = p.info.ID, time.Now().UTC()
	if state.Listed == 0 {
		state.Listed = r.inventory.objects
	}
	return r.out, ownFailure(errors.Join(ix.replace(r.work, spaces, state), os.RemoveAll(ix.before())))
}

// reconciliation is a reconcile under way.
type reconciliation struct {
	pool      *Pool
	ix        *index
	inventory *sections
	before    segments // of a pass that did not end in order
	work      segments
	apart     map[string]int64 // what lies beside blobs/, by path
	meter     *meter

	mu  sync.Mutex
	out *reconciled
}

func (r *reconciliation) run(ctx context.Context) ([]string, error) {
	blobs := side{f: r.pool.data, dir: blobsDir, seen: &r.meter.listed}
	spaces, err := blobs.spaces(ctx)
	if err != nil {
		return nil, r.pool.fail(err, "list "+blobsDir)
	}
	if r.apart, err = r.beside(ctx); err != nil {
		return nil, r.pool.fail(err, "list what lies beside "+blobsDir)
	}
	if r.pool.raw != nil {
		// Not every server knows the question, nor may everybody ask it.
		n, _ := r.pool.raw.abandon(ctx)
		r.out.Partial += n
	}
	for name := range r.ix.parts {
		spaces = append(spaces, name)
	}
	for name := range r.inventory.parts {
		spaces = append(spaces, name)
	}
	begun, err := r.before.spaces("index")
	if err != nil {
		return nil, err
	}
	spaces = append(spaces, begun...)
	slices.Sort(spaces)
	spaces = slices.Compact(spaces)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.pool.Checkers)
	for _, space := range spaces {
		g.Go(func() error { return r.space(ctx, blobs, space) })
	}
	return spaces, g.Wait()
}

// beside lists what lies beside blobs/: few objects, if any.
func (r *reconciliation) beside(ctx context.Context) (map[string]int64, error) {
	found := map[string]int64{}
	for _, dir := range []string{changedDir, oddDir} {
		entries, err := r.pool.data.List(ctx, dir)
		if err != nil && !errors.Is(err, fs.ErrorDirNotFound) {
			return nil, err
		}
		for _, e := range entries {
			o, ok := e.(fs.Object)
			switch {
			case !ok:
			case strings.HasSuffix(o.Remote(), partialSuffix):
				if err := r.discard(ctx, o.Remote()); err != nil {
					return nil, err
				}
			default:
				found[o.Remote()] = o.Size()
			}
		}
	}
	return found, nil
}

// space reconciles the objects of one space.
func (r *reconciliation) space(ctx context.Context, blobs side, space string) error {
	list, facts := r.work.file("listing", space), r.work.file("known", space)
	if _, err := blobs.list(ctx, space, list); err != nil {
		return r.pool.fail(err, "list space "+space)
	}
	if err := r.known(space, facts); err != nil {
		return err
	}
	in, err := os.Open(list)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	is, err := os.Open(facts)
	if err != nil {
		return err
	}
	defer is.Close() //nolint:errcheck // it was only read
	err = writeObjects(r.work.file("index", space), func(keep func(*Object) error) error {
		return join(newReader(in, list), newReader(is, facts), func(there, known *Object) error {
			return r.judge(ctx, there, known, keep)
		})
	})
	return errors.Join(err, remove(list), remove(facts))
}

// judge decides about one key: there is what the pool holds at blobs/KEY, known what
// is known of its newest content.
func (r *reconciliation) judge(ctx context.Context, there, known *Object, keep func(*Object) error) error {
	if there != nil {
		if strings.HasSuffix(there.Key, partialSuffix) {
			return r.discard(ctx, there.Path())
		}
		r.count(func(out *reconciled) { out.Objects++; out.Bytes += uint64(there.Size) })
	}
	if known == nil {
		return r.adopt(there, keep)
	}
	size, held := r.apart[known.At]
	if known.At == "" && there != nil {
		size, held = there.Size, true
	}
	switch {
	case held && size == known.Size:
		return keep(known)
	case held:
		r.find(Finding{Damaged, known.Key, fmt.Sprintf("the pool's object has %d bytes, stored were %d", size, known.Size)})
		if err := r.pool.setAside(ctx, known.Path()); err != nil {
			return r.pool.fail(err, "move away "+known.Path())
		}
	default:
		r.find(Finding{Lost, known.Key, "the pool no longer holds it at " + known.Path()})
	}
	// What older sets have under this key must not be taken for free space.
	at := place(known.Key)
	switch size, held = r.apart[at]; {
	case at == known.At:
		return nil
	case at == "" && there != nil:
		return r.adopt(there, keep)
	case at != "" && held:
		return r.adopt(&Object{Key: known.Key, Size: size, At: at}, keep)
	}
	return nil
}

// adopt takes over what the pool holds, and nothing is known of but its size.
func (r *reconciliation) adopt(there *Object, keep func(*Object) error) error {
	r.count(func(out *reconciled) { out.Adopted++ })
	return keep(&Object{Key: there.Key, Size: there.Size, At: there.At})
}

// discard removes what a copy that was interrupted has left. Nobody else copies: the
// caller holds the instance's lock.
func (r *reconciliation) discard(ctx context.Context, path string) error {
	o, err := r.pool.data.NewObject(ctx, path)
	if err == nil {
		err = o.Remove(ctx)
	}
	r.count(func(out *reconciled) { out.Partial++ })
	return r.pool.fail(err, "remove "+path)
}

func (r *reconciliation) count(f func(*reconciled)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.out)
}

func (r *reconciliation) find(f Finding) {
	r.count(func(out *reconciled) { out.Findings = append(out.Findings, f) })
}

// setAside moves an object that is not what was stored out of the way.
func (p *Pool) setAside(ctx context.Context, path string) error {
	o, err := p.data.NewObject(ctx, path)
	if err != nil {
		return err
	}
	to := fmt.Sprintf("%s/%s.%s", damagedDir, path, time.Now().UTC().Format("20060102T150405Z"))
	_, err = operations.Move(ctx, p.data, nil, to, o)
	return err
}
