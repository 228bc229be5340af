package restore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/paths"
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
	dir, done, err := r.keysDir()
	if err != nil {
		return "", "", err
	}
	defer done()
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

const keysPrefix = "ocbackup-keys-"

// keysDir makes a directory for files with secrets, which nobody else can read. It is
// locked until it is removed.
func (r *run) keysDir() (dir string, done func(), err error) {
	for range 3 { // a run that sweeps may take one that is not locked yet for a left-over
		if dir, err = os.MkdirTemp(r.keysBase(), keysPrefix); err != nil {
			break
		}
		var lock *os.File
		if lock, err = lockDir(dir); err != nil {
			_ = os.Remove(dir)
			continue
		}
		done = func() {
			_ = os.RemoveAll(dir) // the next run removes what is left
			_ = lock.Close()
		}
		if paths.IsDir(dir) {
			return dir, done, nil
		}
		done()
		err = &os.PathError{Op: "lock", Path: dir, Err: os.ErrNotExist}
	}
	return "", nil, err
}

// keysBase is where directories for secrets are made: in the state directory's cache,
// unless this run is to leave nothing there.
func (r *run) keysBase() string {
	if dir := r.cacheDir(); dir != "" && paths.IsDir(filepath.Dir(dir)) && os.MkdirAll(dir, 0o700) == nil {
		return dir
	}
	return os.TempDir()
}

// sweepKeys removes the directories with secrets that runs have left that were killed.
func (r *run) sweepKeys() {
	for _, base := range []string{r.keysBase(), os.TempDir()} {
		left, _ := filepath.Glob(filepath.Join(base, keysPrefix+"*")) // the pattern is a good one
		for _, dir := range left {
			// Where everybody may write, others' directories have nothing to do with this.
			if st, err := os.Lstat(dir); err != nil || !st.IsDir() || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
				continue
			}
			lock, err := lockDir(dir)
			if err != nil {
				continue // another run is at work
			}
			if err := os.RemoveAll(dir); err != nil {
				r.note("A directory with secrets could not be removed: " + err.Error())
			}
			_ = lock.Close()
		}
	}
}

// lockDir locks a directory for as long as this process has it open.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
