package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/opencloud/spaces"
	"github.com/ocbackup/ocbackup/progress"
)

// retryAfter is how long a space that could not be indexed is left alone before it
// is tried once more.
const retryAfter = 5 * time.Second

// reindex has the server build its search index again where the restored one can't
// be used. The marker is cleared by success only.
func (r *run) reindex(ctx context.Context, step progress.Step) (string, error) {
	if r.reindexWhy == "" {
		return "", nil
	}
	again := r.command("reindex")
	r.res.Reindex, r.res.ReindexWhy, r.res.ReindexBy = ReindexPending, r.reindexWhy, again
	if !r.res.Running {
		r.note("The search index must be built again once OpenCloud runs: " + again)
		return "left for later: OpenCloud is not running", nil
	}
	list, err := spaces.List(r.cfg.Layout)
	if err != nil {
		return "", fail.Wrap(fail.Failed, err, "build the search index again", again)
	}
	if len(list) == 0 {
		r.res.Reindex, r.res.ReindexBy = ReindexDone, ""
		return "no spaces", index.ClearRequired(r.stateDir())
	}
	ctl, err := control.New(r.cfg.Control)
	if err != nil {
		return "", err
	}
	report, err := index.Rebuild(ctx, index.RebuildOptions{
		Exec: ctl.Exec, Spaces: list, Dir: r.stateDir(), RetryAfter: retryAfter,
		OnSpace: func(done, total int, name string) {
			step.Update(fmt.Sprintf("indexing %s, %d of %d spaces done", name, done, total))
		},
	})
	if err == nil {
		err = report.Err()
	}
	if errors.Is(err, control.ErrNoExec) {
		r.note("The search index must be built again, and ocbackup can't tell the server to: set \"exec\" in [control], then: " + again)
		return "left for later: " + err.Error(), nil
	}
	if err != nil {
		return "", fail.Wrap(fail.Failed, err, "build the search index again", again)
	}
	r.res.Reindex, r.res.ReindexBy = ReindexDone, ""
	return fmt.Sprintf("%s indexed, %d passed over", english.Plural(len(report.Indexed), "space", ""), len(report.Skipped)), nil
}
