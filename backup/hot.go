package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/proc"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// seedTag marks what was stored while the instance ran. It is never part of a set:
// it makes the final pass short.
const seedTag = "seed"

// hot does, while the instance runs, all that need not be done while it is away:
// the caches are warmed, the server itself is stored, the bucket is copied, and,
// where the repository has nothing to compare with yet, the data are stored once.
func (r *run) hot(ctx context.Context, step progress.Step) (string, error) {
	var did []string
	files, err := r.count(ctx, step)
	if err != nil {
		return "", err
	}
	did = append(did, humanize.Comma(int64(files))+" files looked at")
	if r.version, err = r.serverVersion(ctx); err != nil {
		r.version = "unknown"
		r.warn("the server's version is not known, so a restore can't compare it: " + err.Error())
	}
	if s, err := r.storeServer(ctx, step); err != nil {
		return "", err
	} else if s != "" {
		did = append(did, s)
	}
	for _, x := range r.roots {
		if !r.needsSeed(x) {
			continue
		}
		if err := r.seed(ctx, step, x); err != nil {
			return "", err
		}
		did = append(did, x.Name+" seeded")
	}
	// Last, so that little is left for the cold window.
	if s, err := r.copyBucket(ctx, step); err != nil {
		return "", err
	} else if s != "" {
		did = append(did, s)
	}
	return strings.Join(did, ", "), nil
}

// count walks every root. That warms the caches, which makes the final pass
// several times faster, and finds what can't be read before anything is stopped.
func (r *run) count(ctx context.Context, step progress.Step) (files uint64, err error) {
	var unreadable repo.IncompleteError
	for _, x := range r.roots {
		if x.real == "" || !x.dir {
			continue
		}
		step.Update("looking at " + x.Name)
		cache := filepath.Join(r.cacheDir(), "census-"+x.Name)
		last, err := census.Load(cache) // without it, all is read anew
		if err != nil {
			last = nil
		}
		sum, known, err := last.Count(ctx, x.real, x.Filter(), 0)
		var bad *census.UnreadableError
		switch {
		case errors.As(err, &bad):
			for _, e := range bad.Items {
				unreadable.Items = append(unreadable.Items, repo.Item{Path: e.Path, Err: e.Err.Error()})
			}
			unreadable.More += bad.More
		case err != nil:
			return 0, err
		}
		if x.Has(opencloud.Metadata) && x.Has(opencloud.Blobs) && sum.Files > 0 && sum.Xattrs == 0 {
			return 0, fail.New(fail.Incomplete,
				fmt.Sprintf("root %s (%s): no file carries extended attributes, so OpenCloud's metadata are lost or this is not its storage", x.Name, x.Path),
				"check users_root in [layout], and that the storage was not copied without its attributes")
		}
		x.known = known
		if os.MkdirAll(r.cacheDir(), 0o700) == nil {
			_ = known.Save(cache) // it makes the next run faster, no more
		}
		files += sum.Files
		r.counted += sum.Bytes
	}
	if len(unreadable.Items) > 0 {
		return 0, r.Repo.Failure(&unreadable, "look at the instance's files")
	}
	return files, nil
}

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
			if err := r.store(ctx, x, r.tags(x.Root), nil); err != nil {
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
		r.pushed[imageRoot.Name] = stored{snapshot: old.Snapshot, files: old.Files, bytes: old.Bytes}
		return "image " + img.Ref + " unchanged", nil
	}
	step.Update("storing image " + img.Ref)
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
	r.push(imageRoot.Name, sum)
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

// needsSeed tells whether a root is stored once before the stop. A first backup of
// it would otherwise keep the instance away for as long as all its data take.
func (r *run) needsSeed(x *root) bool {
	if x.real == "" || x.hotRoot() || !r.running() {
		return false
	}
	switch r.Config.Backup.Seed {
	case "always":
		return true
	case "never":
		return false
	}
	return x.parent == ""
}

// seed stores a root while the instance runs. What it misses or what changes under
// it does not matter: the final pass makes up for it.
func (r *run) seed(ctx context.Context, step progress.Step, x *root) error {
	spec, err := x.spec()
	if err != nil || len(spec.Targets) == 0 {
		return err
	}
	spec.Parent, spec.Tags = x.parent, []string{seedTag, manifest.SetTag(r.set), manifest.RootTag(x.Name)}
	spec.OnProgress = func(p repo.Progress) {
		step.Update(fmt.Sprintf("seeding %s, %s", x.Name, soFar(p)))
	}
	sum, err := r.Repo.Backup(ctx, spec)
	var incomplete *repo.IncompleteError
	if err != nil && !errors.As(err, &incomplete) {
		return r.Repo.Failure(err, "seed "+x.Name)
	}
	if sum.SnapshotID != "" {
		x.parent = sum.SnapshotID
	}
	r.seeded[x.Name] = sum.DataAddedPacked
	return nil
}
