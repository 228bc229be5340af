// Package extract brings single files, folders and spaces of a set to a directory, or
// back into a running server over WebDAV. It reads the set alone: of the instance
// nothing is touched.
package extract

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// Options say what to get, and where it goes: exactly one of To, Stdout and Upload is
// set.
type Options struct {
	Repo    *repo.Repo
	Set     *manifest.Set
	Catalog *catalog.File
	// Pool opens the pool that the set refers to. It is asked only where contents lie in one.
	Pool func(context.Context) (*s3mirror.Pool, error)

	Space catalog.Space
	// Path is what to get, as users see it; "/" is all of the space.
	Path string
	// Version is an older content of the file: its number (1 is the newest), its key, or
	// the beginning of one; empty: the present one.
	Version string
	// Trash gets what was at Path when it was deleted. Item is the key of the trash item,
	// or the beginning of one, where several were; empty: what was deleted last.
	Trash bool
	Item  string

	// To is the directory that takes it. It is made when it is not there.
	To     string
	Stdout io.Writer // takes the one file
	Upload *Upload
	// Overwrite lets files be replaced that have the same names.
	Overwrite bool
	Report    progress.Reporter
	// Early is what Begin has begun to read; nil: nothing.
	Early *Early
}

// Result is what came of it; docs/json.md describes it.
type Result struct {
	Set       string       `json:"set"`
	Space     string       `json:"space"` // its id
	SpaceName string       `json:"space_name"`
	Path      string       `json:"path"`
	Kind      catalog.Kind `json:"kind"`
	Version   string       `json:"version,omitempty"` // the key
	Item      string       `json:"item,omitempty"`    // the key of the trash item
	// To is where it is now: a path, or a URL.
	To      string `json:"to,omitempty"`
	Folders uint64 `json:"folders"`
	Files   uint64 `json:"files"`
	Bytes   uint64 `json:"bytes"`
	// Checked is how many files were compared with a hash of the metadata; the others'
	// metadata has none.
	Checked uint64 `json:"checked"`
	// Skipped are the things that are not there now, by path; More is how many there are
	// beyond those.
	Skipped []Skipped `json:"skipped,omitempty"`
	More    uint64    `json:"more,omitempty"`
	Sources []*Source `json:"sources"`
	Seconds float64   `json:"seconds"`
}

// Skipped is something that could not be brought.
type Skipped struct {
	Path   string `json:"path"`
	Class  Class  `json:"class"`
	Reason string `json:"reason"`
}

// Source is where contents came from.
type Source struct {
	Kind  string `json:"kind"` // repository or pool
	Name  string `json:"name"` // the snapshot's id; the pool's location
	Files uint64 `json:"files"`
	Bytes uint64 `json:"bytes"`
}

// maxSkipped is how many skipped things a Result names.
const maxSkipped = 1000

// Run gets what the options say. What can't be brought is named in the Result and
// everything else is: the error then has the code Inconsistent where the set has lost or
// damaged it, else Incomplete. The Result is nil when nothing was begun.
func Run(ctx context.Context, o Options) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{Options: o, began: time.Now(), ctx: ctx, cancel: cancel}
	sel, err := r.choose()
	if err != nil {
		return nil, err
	}
	step := o.Report.Step("get")
	r.total = sel.total()
	stop := r.watch(step)
	err = r.bring(ctx, sel)
	stop()
	r.res.Seconds = time.Since(r.began).Seconds()
	if err == nil {
		err = r.verdict()
	}
	if err == nil {
		step.Skip("") // the result says it
	} else {
		step.Fail(err)
	}
	if !r.begun {
		return nil, err
	}
	return r.res, err
}

// run is a Run under way.
type run struct {
	Options
	began time.Time
	// ctx is that of all of it: files are still being put in place when everything was read.
	ctx    context.Context
	cancel context.CancelCauseFunc // ends it; the cause is the error
	to     sink
	begun  bool           // something may have been written
	puts   errgroup.Group // files that are complete and being put in place
	total  amount

	mu      sync.Mutex // guards what follows
	res     *Result
	done    amount
	damaged uint64
	loose   uint64 // files that are in place, of which the metadata does not say what they had
}

// amount is how much there is of something.
type amount struct{ files, bytes uint64 }

// putters is how many files are put in place at a time, each waiting for its disk.
const putters = 8

// bring does it, in order: what takes it and what gives it are opened and asked before
// anything is written.
func (r *run) bring(ctx context.Context, sel *selection) error {
	var err error
	r.res = sel.result(r)
	if r.to, err = r.openSink(ctx, sel); err != nil {
		return err
	}
	defer r.to.close()
	from, err := r.openSource(ctx, sel)
	if err != nil {
		return err
	}
	if err := r.to.begin(ctx); err != nil {
		return err
	}
	r.begun = true
	r.puts.SetLimit(r.to.parallel())
	err = r.fill(ctx, sel, from)
	_ = r.puts.Wait() // what went wrong is the cause, or skipped
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return r.to.finish()
}

// fill brings folders, empty files, and the contents.
func (r *run) fill(ctx context.Context, sel *selection, from source) error {
	for _, it := range sel.folders {
		if err := r.folder(ctx, it); err != nil {
			return err
		}
	}
	for _, it := range sel.empty {
		if context.Cause(ctx) != nil {
			return nil
		}
		in := r.receive(&blob{items: []*item{it}}, nil)
		in.end(nil)
	}
	for _, s := range sel.skipped {
		r.skip(s.it, s.fault)
	}
	if len(sel.blobs) == 0 {
		return nil
	}
	return from.fetch(ctx, sel.blobs)
}

func (r *run) folder(ctx context.Context, it *item) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	err := r.to.folder(ctx, it)
	var f *fault
	switch {
	case err == nil:
		r.mu.Lock()
		r.res.Folders++
		r.mu.Unlock()
	case errors.As(err, &f):
		r.skip(it, f)
	default:
		return err
	}
	return nil
}

// openSource opens what contents come from; nil where there are none to bring.
func (r *run) openSource(ctx context.Context, sel *selection) (source, error) {
	if len(sel.blobs) == 0 {
		return nil, nil
	}
	if r.Set.Manifest.Layout.Driver == opencloud.DecomposedS3 {
		return r.openPool(ctx)
	}
	return r.openRoot()
}

// source gives contents to run.receive.
type source interface {
	// fetch brings all blobs, or skips them, one by one; the error is one that ends it all.
	fetch(ctx context.Context, blobs []*blob) error
}
