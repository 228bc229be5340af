package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/spaces"
)

// RebuildOptions says what is indexed and how.
type RebuildOptions struct {
	// Exec runs a command of the server, which must be ready (control.Controller.Exec).
	Exec func(ctx context.Context, args ...string) (string, error)
	// Spaces are all spaces of the instance.
	Spaces []spaces.Space
	// Only limits the run to the spaces with these ids; empty: all.
	Only []string
	// Dir is the state directory with the marker. Without a marker nothing is noted.
	Dir string
	// Restart takes spaces as not yet begun, whatever the marker says: all, or those of Only.
	Restart bool
	// RetryAfter is how long to wait before spaces that failed are tried again.
	RetryAfter time.Duration
	// OnSpace is called before each space, with how many are done, how many there
	// are to do, and its name.
	OnSpace func(done, total int, name string)
}

// Outcome is what became of one space.
type Outcome struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// Reason says why it was skipped or has failed.
	Reason string `json:"reason,omitempty"`
}

// Report is what a rebuild did.
type Report struct {
	Indexed []Outcome `json:"indexed"`
	Skipped []Outcome `json:"skipped"` // disabled, virtual, or done by an earlier run
	Failed  []Outcome `json:"failed"`
	// Incremental is set when the server offers no way to index what it believes to
	// have indexed already (before 7.x). Starting from no index, nothing is missed.
	Incremental bool `json:"incremental"`
	// Required tells whether the marker is still there.
	Required bool `json:"required"`
}

// Err returns an error that names the spaces that failed, nil when none has.
func (r *Report) Err() error {
	if len(r.Failed) == 0 {
		return nil
	}
	lines := make([]string, len(r.Failed))
	for i, f := range r.Failed {
		lines[i] = fmt.Sprintf("%s (%s): %s", f.Name, f.ID, f.Reason)
	}
	return fmt.Errorf("%d of %d spaces were not indexed:\n%s", len(r.Failed), len(r.Failed)+len(r.Indexed), strings.Join(lines, "\n"))
}

// Rebuild has the running server index its spaces, one by one: "--all-spaces" of
// most versions stops at the first disabled one. A space that fails is tried once
// more after the others, then reported; the rest goes on. Where a marker is in
// Dir, it holds how far this is, so that a run that was interrupted goes on where
// it stopped, and it is cleared once every space that can be indexed has been.
//
// The error is nil when all spaces were tried: see Report.Err for those that failed.
func Rebuild(ctx context.Context, o RebuildOptions) (*Report, error) {
	if len(o.Spaces) == 0 {
		return nil, errors.New("rebuild the search index: no spaces were found")
	}
	for _, id := range o.Only {
		if !slices.ContainsFunc(o.Spaces, func(s spaces.Space) bool { return s.ID == id }) {
			return nil, fmt.Errorf("rebuild the search index: there is no space %s", id)
		}
	}
	marker, err := Required(o.Dir)
	if err != nil {
		return nil, err
	}
	r := &rebuild{o: o, marker: marker, indexer: newIndexer(ctx, o.Exec)}
	r.report = Report{Indexed: []Outcome{}, Skipped: []Outcome{}, Failed: []Outcome{}, Incremental: !r.indexer.force, Required: marker != nil}
	if marker != nil && o.Restart {
		marker.restart(o.Only)
		if err := r.save(); err != nil {
			return nil, err
		}
	}
	err = r.run(ctx)
	return &r.report, err
}

// rebuild is one run of Rebuild.
type rebuild struct {
	o       RebuildOptions
	marker  *Marker // nil: nothing is noted
	indexer *indexer
	report  Report
	total   int
}

func (r *rebuild) run(ctx context.Context) error {
	todo := r.plan()
	r.total = len(todo)
	again, err := r.round(ctx, todo, false)
	if err != nil {
		return err
	}
	if len(again) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.o.RetryAfter):
		}
		if _, err := r.round(ctx, again, true); err != nil {
			return err
		}
	}
	if r.marker == nil || !r.complete() {
		return nil
	}
	if err := ClearRequired(r.o.Dir); err != nil {
		return err
	}
	r.report.Required = false
	return nil
}

// plan sorts out what is not to be indexed.
func (r *rebuild) plan() (todo []spaces.Space) {
	for _, s := range r.o.Spaces {
		if len(r.o.Only) > 0 && !slices.Contains(r.o.Only, s.ID) {
			continue
		}
		asked := len(r.o.Only) > 0
		switch {
		case s.Err != nil:
			r.fail(s, s.Err)
		case s.Disabled:
			r.skip(s, "disabled")
		case !indexable(s):
			r.skip(s, "of type "+s.Type+": holds nothing of its own")
		case r.marker != nil && !asked && slices.Contains(r.marker.Done, s.ID):
			r.skip(s, "done before")
		case r.marker != nil && !r.indexer.force && slices.Contains(r.marker.Begun, s.ID):
			r.fail(s, errors.New("an earlier run was interrupted: "+halfIndexed))
		default:
			todo = append(todo, s)
		}
	}
	return todo
}

// round indexes spaces and returns those that are worth another try.
func (r *rebuild) round(ctx context.Context, todo []spaces.Space, retry bool) (again []spaces.Space, err error) {
	for _, s := range todo {
		if err := ctx.Err(); err != nil {
			return nil, err // before it is noted that the space was begun
		}
		r.tell(s.Name)
		if r.marker != nil {
			r.marker.begin(s.ID)
			if err := r.save(); err != nil {
				return nil, err
			}
		}
		err := r.indexer.index(ctx, s.ID, retry)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, control.ErrNoExec):
			return nil, err
		case err == nil:
			r.report.Indexed = append(r.report.Indexed, outcome(s, ""))
			if r.marker != nil {
				r.marker.finish(s.ID)
			}
		default:
			if r.marker != nil && neverBegun(err) {
				r.marker.undo(s.ID)
			}
			if !retry && (r.indexer.force || neverBegun(err)) {
				again = append(again, s)
			} else {
				r.fail(s, r.indexer.explain(err))
			}
		}
		if r.marker != nil {
			if err := r.save(); err != nil {
				return nil, err
			}
		}
	}
	return again, nil
}

// complete tells whether every space that can be indexed has been since the
// marker was set, whichever run did it.
func (r *rebuild) complete() bool {
	return !slices.ContainsFunc(r.o.Spaces, func(s spaces.Space) bool {
		return s.Err != nil || indexable(s) && !s.Disabled && !slices.Contains(r.marker.Done, s.ID)
	})
}

func (r *rebuild) save() error { return MarkRequired(r.o.Dir, *r.marker) }

func (r *rebuild) tell(name string) {
	if r.o.OnSpace != nil {
		r.o.OnSpace(len(r.report.Indexed), r.total, name)
	}
}

func (r *rebuild) skip(s spaces.Space, why string) {
	r.report.Skipped = append(r.report.Skipped, outcome(s, why))
}

func (r *rebuild) fail(s spaces.Space, err error) {
	r.report.Failed = append(r.report.Failed, outcome(s, err.Error()))
}

func outcome(s spaces.Space, reason string) Outcome {
	o := Outcome{ID: s.ID, Name: s.Name, Reason: reason}
	if o.Name == "" {
		o.Name = s.Root
	}
	return o
}

// indexable tells whether the server can index a space of this type: others
// (virtual, mountpoint, grant) are views of what lies in these.
func indexable(s spaces.Space) bool { return s.Type == "personal" || s.Type == "project" }
