// Package initial makes the first configuration of an instance: it finds the
// instance, writes the configuration file and a password file, and creates the
// repository.
package initial

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
)

// Options say which instance is meant and where things are to be put.
type Options struct {
	// Output is the configuration file to write.
	Output string
	// Force replaces an existing one. Its settings that have nothing to do with where
	// the instance lies are kept.
	Force bool

	Name         string // empty: from the instance's address
	StateDir     string // empty: the default
	Repository   string
	PasswordFile string // empty: beside Output
	EnvFile      string
	Restic       string
	// Pool is where the bucket of the driver decomposeds3 is backed up to; empty: beside
	// a local repository.
	Pool string

	// At most one of these says which instance is meant; without any it is looked for.
	Compose   *discover.ComposeOptions
	Unit      string
	Container *discover.ContainerOptions
	Paths     *discover.PathsOptions
}

// Plan is what is to be done.
type Plan struct {
	Found  *discover.Found
	Config *config.Config // complete; its Path is the file to write
	// Text is the configuration file.
	Text []byte
	// NewPassword tells that the password file is not there yet; Replaces that the
	// configuration file is.
	NewPassword, Replaces bool
}

// Make finds the instance and decides what is to be done. Nothing is changed.
// The repository may be left open: then the plan can be shown, and not be done.
func Make(ctx context.Context, o Options) (*Plan, error) {
	output, err := filepath.Abs(o.Output)
	if err != nil {
		return nil, err
	}
	p := &Plan{Replaces: paths.Exists(output)}
	var old *config.Config
	if p.Replaces {
		if !o.Force {
			return nil, fail.Usagef("replace it with --force (what does not depend on where OpenCloud lies is kept), or write another file with --output FILE",
				"%s exists already", output)
		}
		if old, err = config.Load(output); err != nil {
			old = nil
		}
	}
	unread := err
	if p.Found, err = o.find(ctx, old); err != nil {
		return nil, err
	}
	if unread != nil {
		p.Found.Notes = append(p.Found.Notes, fmt.Sprintf("nothing could be taken over from the file that is there: %v", unread))
	}
	c := p.Found.Config
	if old != nil {
		keep(c, old)
		if c.Layout.Driver == opencloud.DecomposedS3 && !keepBucket(c, old) {
			p.Found.Notes = append(p.Found.Notes, "the bucket is at another endpoint than before: bucket.reach was not taken over")
		}
	}
	o.apply(c, output)
	if c.Layout.Driver == opencloud.DecomposedS3 {
		if err := o.applyPool(c); err != nil {
			return nil, err
		}
		if c.Bucket.Endpoint != "" && c.Bucket.Reach == "" {
			c.Bucket.Reach = discover.Published(ctx, c)
		}
	} else if o.Pool != "" {
		p.Found.Notes = append(p.Found.Notes, fmt.Sprintf("there is no need of a pool: the storage driver %s keeps the blobs in directories", c.Layout.Driver))
	}
	c.SetDefaults()
	p.Config = c
	p.NewPassword = c.Repository.PasswordFile != "" && !paths.Exists(c.Repository.PasswordFile)
	if !p.NewPassword {
		for _, f := range c.SecretFiles() {
			if err := f.Check(); err != nil && f.Key != "repository.location" {
				return nil, err
			}
		}
	}
	p.Text = config.Render(c)
	return p, nil
}

// find finds the instance that is meant.
func (o Options) find(ctx context.Context, old *config.Config) (*discover.Found, error) {
	given := 0
	for _, is := range []bool{o.Compose != nil, o.Unit != "", o.Container != nil, o.Paths != nil} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, fail.Usagef("", "--compose, --systemd, --container and --config-dir exclude each other")
	case o.Compose != nil:
		return discover.Compose(ctx, *o.Compose)
	case o.Unit != "":
		return discover.Systemd(ctx, o.Unit)
	case o.Container != nil:
		return discover.Container(ctx, *o.Container)
	case o.Paths != nil:
		return discover.Paths(*o.Paths)
	}
	if old == nil {
		return discover.Auto(ctx)
	}
	f, err := discover.Again(ctx, old)
	if f == nil && err == nil {
		// Nobody can be asked: where it lies is what the admin has said.
		c := *old
		if c.Layout.Driver == opencloud.DecomposedS3 {
			c.Bucket = discover.Bucket(old)
			// So it was written when there were no pools.
			c.NotProtected = slices.DeleteFunc(slices.Clone(c.NotProtected), func(s string) bool { return strings.HasPrefix(s, "S3 bucket ") })
		}
		f = &discover.Found{Config: &c}
	}
	return f, err
}

// keep takes over from an older configuration what an admin has chosen, and what
// the repository's snapshots go by.
func keep(c, old *config.Config) {
	c.Name, c.StateDir = old.Name, old.StateDir
	c.Repository, c.Backup, c.Extra, c.Log = old.Repository, old.Backup, old.Extra, old.Log
	c.Snapshot = old.Snapshot
	c.Control.StopTimeout, c.Control.StartTimeout = old.Control.StopTimeout, old.Control.StartTimeout
	for _, s := range old.Control.AlsoStop {
		if !slices.Contains(c.Control.AlsoStop, s) {
			c.Control.AlsoStop = append(c.Control.AlsoStop, s)
		}
	}
	r := old.Ready
	c.Ready.TokenFile, c.Ready.User, c.Ready.PasswordFile = r.TokenFile, r.User, r.PasswordFile
	c.Ready.Off, c.Ready.Timeout = r.Off, r.Timeout
}

// keepBucket takes over what an admin has chosen about the bucket, and the bucket
// itself where it was not found. It returns false when it dropped the way to the
// bucket, which is another one now.
func keepBucket(c, old *config.Config) bool {
	found := c.Bucket
	c.Bucket, c.Pool = old.Bucket, old.Pool
	if found.Endpoint == "" {
		return true
	}
	c.Bucket.Endpoint, c.Bucket.Region, c.Bucket.Name = found.Endpoint, found.Region, found.Name
	if old.Bucket.Reach == "" || found.Endpoint == old.Bucket.Endpoint {
		return true
	}
	c.Bucket.Reach = ""
	return false
}

// applyPool decides where the pool is.
func (o Options) applyPool(c *config.Config) error {
	repository, local := config.LocalPath(c.Repository.Location)
	switch {
	case o.Pool != "":
		if !address.MatchString(o.Pool) {
			o.Pool = paths.Absolute(o.Pool)
		}
		c.Pool.Location = o.Pool
		return config.CheckPool(o.Pool)
	case c.Pool.Location == "" && local && repository != "":
		c.Pool.Location = filepath.Clean(repository) + "-pool"
	}
	return nil
}

// address is a place that is named otherwise than by a path.
var address = regexp.MustCompile(`^[A-Za-z0-9+.-]+:`)

// apply puts what was given on the command line into the configuration.
func (o Options) apply(c *config.Config, output string) {
	c.Path = output
	if o.Name != "" && o.Name != c.Name {
		if c.StateDir == filepath.Join(config.DefaultStateDir, c.Name) {
			c.StateDir = ""
		}
		c.Name = o.Name
	}
	set(&c.StateDir, paths.Absolute(o.StateDir))
	r := &c.Repository
	if path, local := config.LocalPath(o.Repository); local && path != "" {
		r.Location = paths.Absolute(path)
	} else {
		set(&r.Location, o.Repository)
	}
	set(&r.EnvFile, paths.Absolute(o.EnvFile))
	if strings.Contains(o.Restic, "/") {
		o.Restic = paths.Absolute(o.Restic)
	}
	set(&r.Restic, o.Restic)
	if o.PasswordFile != "" {
		r.PasswordFile, r.PasswordCommand = paths.Absolute(o.PasswordFile), ""
	}
	if r.PasswordFile == "" && r.PasswordCommand == "" {
		r.PasswordFile = passwordBeside(output)
	}
}

// passwordBeside names the password file that goes with a configuration file.
func passwordBeside(output string) string {
	dir, name := filepath.Split(output)
	if name == filepath.Base(config.DefaultPath) {
		return filepath.Join(dir, "password")
	}
	return filepath.Join(dir, strings.TrimSuffix(name, filepath.Ext(name))+".password")
}

func set(s *string, v string) {
	if v != "" {
		*s = v
	}
}
