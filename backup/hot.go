package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/proc"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// hot does, while the instance runs, all that need not be done while it is away: the
// server itself is stored, the bucket is copied, and what can't be frozen is looked
// at, which warms the caches, and stored once where that makes the final pass shorter.
func (r *run) hot(ctx context.Context, step progress.Step) (string, error) {
	if err := r.tryFreezing(ctx, step); err != nil {
		return "", err
	}
	var did []string
	if !r.plan.Empty() {
		did = append(did, "snapshots tried ("+r.freezing()+")")
	}
	files, err := r.count(ctx, step)
	if err != nil {
		return "", err
	}
	if files > 0 {
		did = append(did, humanize.Comma(int64(files))+" files looked at")
	}
	if r.version, err = r.serverVersion(ctx); err != nil {
		r.version = "unknown"
		r.warn("the server's version is not known, so a restore can't compare it: " + err.Error())
	}
	if s, err := r.storeServer(ctx, step); err != nil {
		return "", err
	} else if s != "" {
		did = append(did, s)
	}
	if s, err := r.seed(ctx, step); err != nil {
		return "", err
	} else if s != "" {
		did = append(did, s)
	}
	// Last, so that little is left for the cold window.
	if s, err := r.copyBucket(ctx, step); err != nil {
		return "", err
	} else if s != "" {
		did = append(did, s)
	}
	if err := r.predict(); err != nil {
		return "", err
	}
	return strings.Join(did, ", "), fault.Point("hot.end")
}

// count walks every root that is read, or compared, on the stopped tree. That warms the caches,
// which makes the final pass several times faster, and finds what can't be read
// before anything is stopped.
func (r *run) count(ctx context.Context, step progress.Step) (files uint64, err error) {
	var unreadable repo.IncompleteError
	for _, x := range r.roots {
		if !x.onDisk() || x.freezes() && x.trusted() {
			continue
		}
		step.Update("looking at " + x.Name)
		flush(x.real)
		res, err := r.countRoot(ctx, x)
		var bad *repo.IncompleteError
		switch {
		case errors.As(err, &bad):
			unreadable.Items = append(unreadable.Items, bad.Items...)
			unreadable.More += bad.More
		case err != nil:
			return 0, err
		}
		x.changes, x.files = res.Changes, res.Sum.Files
		files += res.Sum.Files
		r.counted += res.Sum.Bytes
	}
	if len(unreadable.Items) > 0 {
		return 0, r.Repo.Failure(&unreadable, "look at the instance's files")
	}
	return files, nil
}

// flush has the file system of a root written out. A change by mmap(2) to a page that is
// waiting to be written leaves the ctime as it is; after this it can't be seen as none.
func flush(path string) {
	if f, err := os.Open(path); err == nil {
		_ = unix.Syncfs(int(f.Fd()))
		_ = f.Close()
	}
}

// countRoot takes the census of a root, live or frozen. What can't be read is named
// in a *repo.IncompleteError.
func (r *run) countRoot(ctx context.Context, x *root) (census.Result, error) {
	last, err := census.Load(r.censusFile(x)) // without it, all is read anew
	if err != nil {
		last = nil
	}
	res, err := last.Count(ctx, x.at(), x.Filter(), 0)
	var bad *census.UnreadableError
	switch {
	case errors.As(err, &bad):
		incomplete := &repo.IncompleteError{More: bad.More}
		for _, e := range bad.Items {
			incomplete.Items = append(incomplete.Items, repo.Item{Path: x.live(e.Path), Err: e.Err.Error()})
		}
		return res, incomplete
	case err != nil:
		return res, err
	}
	x.counted = res.Known
	return res, nil
}

// remember keeps what is known of the roots for the next run, which tells by it how much
// has changed since: so it must not be newer than what the repository holds.
func (r *run) remember() {
	if os.MkdirAll(r.cacheDir(), 0o700) != nil {
		return // it makes the next run faster, no more
	}
	for _, x := range r.roots {
		if x.counted != nil {
			_ = x.counted.Save(r.censusFile(x))
		}
	}
}

func (r *run) censusFile(x *root) string { return filepath.Join(r.cacheDir(), "census-"+x.Name) }

// serverVersion asks the server's own binary.
func (r *run) serverVersion(ctx context.Context) (string, error) {
	v, err := control.Version(ctx, r.ctl)
	if err == nil || r.Config.Layout.Binary == "" {
		return v, err
	}
	out, err := proc.Output(ctx, r.Config.Layout.Binary, "version", "--skip-services")
	if err != nil {
		return "", err
	}
	if v, ok := opencloud.ParseVersion(out); ok {
		return v, nil
	}
	return "", fmt.Errorf("%s does not tell its version", r.Config.Layout.Binary)
}

// storeServer stores the server itself: its binary, or its container image unless
// the last set holds the same.
func (r *run) storeServer(ctx context.Context, step progress.Step) (string, error) {
	if !r.wants(opencloud.Binary) {
		return "", nil
	}
	for _, x := range r.roots {
		if x.hotRoot() && !x.absent {
			step.Update("storing the server's binary")
			if err := r.store(ctx, x, nil); err != nil {
				return "", err
			}
			return "binary stored", nil
		}
	}
	img, err := r.ctl.Image(ctx)
	if err != nil {
		r.warn("the container image is not known and was not stored: " + err.Error())
		return "", nil
	}
	if img.Digest == "" {
		return "", nil
	}
	r.image = &img
	if old := r.lastImage(img.Digest); old != nil {
		r.pushed[imageRoot.Name] = stored{snapshot: old.Snapshot, files: old.Files, bytes: old.Bytes, taken: manifest.TakenLive}
		return "image " + img.Ref + " unchanged", nil
	}
	step.Update("storing image " + img.Ref)
	began := time.Now()
	sum, err := r.Repo.BackupCommand(ctx, repo.CommandSpec{
		Command: img.Save, Env: img.Env, Filename: "image.tar",
		Tags: r.tags(imageRoot),
		OnProgress: func(p repo.Progress) {
			step.Update("storing image " + img.Ref + ", " + humanize.IBytes(p.BytesDone))
		},
	})
	if err != nil {
		return "", r.Repo.Failure(err, "store image "+img.Ref)
	}
	r.push(imageRoot.Name, sum, manifest.TakenLive, time.Since(began))
	return "image " + img.Ref + " stored", nil
}

// imageRoot stands for a container image among the roots of a set.
var imageRoot = opencloud.Root{Name: "binary", Components: []opencloud.Component{opencloud.Binary}}

// lastImage returns the root of the newest set that holds the image with this
// digest, nil when that set holds another or none.
func (r *run) lastImage(digest string) *manifest.Root {
	if r.last == nil || r.last.Image == nil || r.last.Image.Digest != digest {
		return nil
	}
	for i := range r.last.Roots {
		x := &r.last.Roots[i]
		if x.Name != imageRoot.Name || x.Snapshot == "" {
			continue
		}
		for _, s := range r.history.snapshots {
			if s.ID == x.Snapshot {
				return x
			}
		}
	}
	return nil
}
