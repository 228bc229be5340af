package restore

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/progress"
)

// loadImage loads the container image out of the set where there is no container
// yet and the engine does not have the image: an old tag may no longer be had.
func (r *run) loadImage(ctx context.Context, step progress.Step) error {
	m := r.set.Manifest
	if m.Image == nil || r.before.State != control.Absent {
		return nil
	}
	has, err := control.HasImage(ctx, r.cfg.Control, m.Image.Ref)
	if has || ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.note("Whether image " + m.Image.Ref + " is on this host could not be found out: " + err.Error())
		return nil
	}
	for _, x := range m.Roots {
		wanted := len(r.Components) == 0 || slices.Contains(r.Components, opencloud.Binary)
		if !wanted || !x.Has(opencloud.Binary) || !isOutput(x) || x.Snapshot == "" {
			continue
		}
		step.Update("loading image " + m.Image.Ref)
		in, out := io.Pipe()
		dumped := make(chan error, 1)
		go func() {
			err := r.Repo.Dump(ctx, x.Snapshot, "/"+outputName(x), out)
			_ = out.CloseWithError(err) // never fails
			dumped <- err
		}()
		err := control.LoadImage(ctx, r.cfg.Control, in)
		_ = in.Close() // never fails; ends the dump when load did not read all
		if err = errors.Join(err, <-dumped); err != nil {
			r.note("Image " + m.Image.Ref + " could not be loaded: " + err.Error())
			return ctx.Err()
		}
		r.note("Image " + m.Image.Ref + " was loaded from the set.")
		has = true
	}
	if !has {
		r.note("Image " + m.Image.Ref + " is not on this host; the engine has to pull it.")
	}
	return nil
}
