package restore

import (
	"context"
	"os"
	"path/filepath"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/repo"
)

// instanceKeys finds the keys by which the instance uses its bucket: in its deployment
// as it is now, or where that is lost as the set has it. They are of use for buckets
// of the same server.
func (r *run) instanceKeys(ctx context.Context, b *bucketPart) (access, secret string, err error) {
	const hint = "name a file with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: --bucket-env-file FILE"
	err = fail.Usagef(hint, "the access keys of %s are not known", b.name)
	if r.Config != nil && b.id.server() == r.ofInstance().server() {
		if access, secret, err = discover.BucketKeys(ctx, r.cfg); err == nil {
			return access, secret, nil
		}
	}
	if b.id.server() == r.ofSet().server() {
		if access, secret, kerr := r.keysOfSet(ctx); kerr == nil {
			return access, secret, nil
		} else if r.Config == nil {
			err = kerr
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return "", "", cause
	}
	return "", "", fail.New(fail.Usage, err.Error(), hint)
}

// keysOfSet reads the access keys out of the set's own deployment and configuration.
func (r *run) keysOfSet(ctx context.Context) (access, secret string, err error) {
	dir, err := os.MkdirTemp("", "ocbackup-keys-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing can be done about it
	m := r.set.Manifest
	var maps []Mapping
	for _, x := range m.Roots {
		if x.Name != "config" && x.Name != "deployment" || x.Snapshot == "" {
			continue
		}
		it := &item{Root: x}
		at := filepath.Join(dir, x.Name)
		if _, err := r.restic(ctx, repo.RestoreSpec{Snapshot: x.Snapshot, Target: at}); err != nil {
			return "", "", err
		}
		if !it.rootless() {
			at = filepath.Join(at, x.Entry)
		}
		maps = append(maps, Mapping{x.Path, at}, Mapping{x.Real, at})
	}
	c := newMapper(maps).config(config.Config{Layout: m.Layout, Control: m.Control})
	if c.Control.Type == "compose" {
		if access, secret, err = discover.BucketKeys(ctx, c); err == nil {
			return access, secret, nil
		}
	}
	// Of files alone: units and containers of this host are not those of the set.
	c.Control.Type = "command"
	return discover.BucketKeys(ctx, c)
}

// regionIn is the region that a file with access keys names.
func regionIn(envFile string) string {
	if envFile == "" {
		return ""
	}
	vars, err := config.ReadEnvFile(envFile)
	if err != nil {
		return "" // whoever reads the keys says so
	}
	if vars["AWS_REGION"] != "" {
		return vars["AWS_REGION"]
	}
	return vars["AWS_DEFAULT_REGION"]
}
