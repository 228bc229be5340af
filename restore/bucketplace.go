package restore

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// bucketID names an S3 bucket.
type bucketID struct{ endpoint, name string }

func (b bucketID) String() string { return fmt.Sprintf("bucket %s at %s", b.name, b.endpoint) }

// server is the host and port of an endpoint, in a form that can be compared.
func (b bucketID) server() string {
	u, err := url.Parse(b.endpoint)
	if err != nil {
		return b.endpoint
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func (b bucketID) same(o bucketID) bool { return b.name == o.name && b.server() == o.server() }

// ofInstance is the bucket that the configuration names.
func (r *run) ofInstance() bucketID {
	return bucketID{r.cfg.Bucket.Endpoint, r.cfg.Bucket.Name}
}

// ofSet is the bucket that the set was taken from.
func (r *run) ofSet() bucketID {
	b := r.set.Manifest.Bucket
	return bucketID{b.Endpoint, b.Name}
}

// checkLocations refuses locations that are none, or hold passwords, before anything
// can repeat them.
func (r *run) checkLocations() error {
	if r.PoolAt != "" {
		if err := config.CheckPool(r.PoolAt); err != nil {
			return fail.Wrap(fail.Usage, err, "--pool", "")
		}
	}
	if r.BucketTarget == "" || filepath.IsAbs(r.BucketTarget) {
		return nil
	}
	_, err := parseBucket(r.BucketTarget)
	return err
}

// splitS3 reads s3:https://host/bucket/prefix.
func splitS3(location string) (b bucketID, prefix string, ok bool) {
	u, err := url.Parse(strings.TrimPrefix(location, "s3:"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bucketID{}, "", false
	}
	name, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	return bucketID{u.Scheme + "://" + u.Host, name}, prefix, name != ""
}

// parseBucket reads the location of a bucket that is restored to. The error does not
// repeat what may hold a password.
func parseBucket(location string) (bucketID, error) {
	b, prefix, ok := splitS3(location)
	switch {
	case !ok:
		return bucketID{}, fail.Usagef("write it as a directory, or as s3:https://host/bucket; access keys go into --bucket-env-file FILE",
			"--bucket-target: this names no bucket")
	case prefix != "":
		return bucketID{}, fail.Usagef("name the bucket alone", "--bucket-target %s: OpenCloud's objects lie at the top of a bucket, below no prefix", location)
	}
	return b, nil
}

// findDestination finds out where the objects go, and that they can go there.
func (r *run) findDestination(ctx context.Context, b *bucketPart) error {
	switch {
	case r.Target != "":
		b.to.Dir = r.bucketDir()
	case filepath.IsAbs(r.BucketTarget):
		dir, err := resolve(r.BucketTarget)
		if err != nil {
			return fail.Wrap(fail.Usage, err, "--bucket-target", "")
		}
		b.to.Dir = dir
	}
	if b.to.Dir != "" {
		b.name = b.to.Dir
		return nil
	}
	b.id = r.ofInstance()
	if r.BucketTarget != "" {
		var err error
		if b.id, err = parseBucket(r.BucketTarget); err != nil {
			return err
		}
		if b.id.same(bucketID{r.cfg.Bucket.Reach, r.cfg.Bucket.Name}) {
			b.id = r.ofInstance()
		}
	} else if b.id.endpoint == "" {
		return fail.Usagef("\"ocbackup init --force\" finds it; or say where its objects go: --bucket-target s3:https://host/bucket",
			"the configuration names no bucket: endpoint and name in [bucket]")
	}
	b.own, b.name = b.id.same(r.ofInstance()), b.id.String()
	to, err := r.destinationBucket(ctx, b)
	if err != nil {
		return err
	}
	b.to.Bucket = to
	src, err := s3mirror.OpenBucket(ctx, *to, s3mirror.Settings{})
	if err != nil {
		return err
	}
	if err := src.Check(ctx); err != nil {
		return err
	}
	if !b.own && r.Config == nil {
		// The configuration that is written back names the bucket that OpenCloud is going to have.
		r.cfg.Bucket.Endpoint, r.cfg.Bucket.Name, r.cfg.Bucket.Region, r.cfg.Bucket.Reach = b.id.endpoint, b.id.name, to.Region, ""
	}
	if r.BucketEnvFile != "" {
		r.cfg.Bucket.EnvFile = r.BucketEnvFile
	}
	return nil
}

// destinationBucket is the destination as it is opened.
func (r *run) destinationBucket(ctx context.Context, b *bucketPart) (*s3mirror.Bucket, error) {
	c := *b.cfg
	if r.BucketEnvFile != "" {
		c.Bucket.EnvFile = r.BucketEnvFile
	}
	to := &s3mirror.Bucket{Endpoint: b.id.endpoint, Name: b.id.name, Region: c.Bucket.Region, CAFile: c.Bucket.CAFile}
	if !b.own && b.id.server() != r.ofInstance().server() {
		to.Region = "us-east-1" // what servers that have no regions accept
		if r.BucketEnvFile == "" {
			c.Bucket.EnvFile = "" // another server has other keys
		}
	}
	if region := regionIn(r.BucketEnvFile); region != "" {
		to.Region = region
	}
	var err error
	if b.own {
		if to.Endpoint, err = discover.Reach(ctx, &c); err != nil {
			return nil, r.bareHint(err, "start the S3 server first, and let this host know its name (in /etc/hosts, say);\nor name the bucket as this host reaches it: --bucket-target s3:http://host:port/"+b.id.name+" --bucket-env-file FILE --no-start")
		}
	}
	access, secret, session, ok, err := c.BucketKeys()
	if err == nil && !ok {
		if access, secret, err = r.instanceKeys(ctx, b); err == nil && r.cfg.Bucket.EnvFile != "" && b.own {
			r.note(r.cfg.Bucket.EnvFile + " (bucket.env_file) is not on this host: OpenCloud's own keys are used.")
			r.cfg.Bucket.EnvFile = ""
		}
	}
	to.Keys = s3mirror.Keys{Access: access, Secret: secret, Session: session}
	return to, err
}

// checkApart makes sure that objects are not restored into the pool, or into the
// midst of something else.
func (r *run) checkApart(b *bucketPart) error {
	inPool := fail.Usagef("choose another --bucket-target", "%s is where the pool is", b.name)
	if b.to.Bucket != nil {
		p, _, s3 := splitS3(b.pool.Location())
		if s3 && (p.same(b.id) || p.same(bucketID{b.to.Bucket.Endpoint, b.id.name})) {
			return inPool
		}
		return nil
	}
	others := []string{b.pool.Local()}
	if p, local := config.LocalPath(r.Repo.Location()); local {
		others = append(others, p)
	}
	if r.Target == "" {
		others = append(others, r.cfg.Layout.ConfigDir, r.cfg.Layout.DataDir, r.cfg.Layout.UsersRoot)
	}
	for _, p := range others {
		if p == "" {
			continue
		}
		real, err := resolve(p)
		if err != nil {
			return err
		}
		if paths.Within(real, b.to.Dir) || paths.Within(b.to.Dir, real) {
			return fail.Usagef("choose another directory", "%s and %s lie in each other", b.to.Dir, p)
		}
	}
	return nil
}

// checkNamed refuses to start a server whose settings name another bucket than the one
// that the objects are restored to.
func (r *run) checkNamed(b *bucketPart) error {
	if r.Target != "" {
		return nil
	}
	named, whose := r.ofInstance(), "OpenCloud's settings"
	if r.has(opencloud.Config) {
		named, whose = r.ofSet(), "OpenCloud's settings in the set"
	}
	if b.to.Dir == "" && b.id.same(named) {
		return nil
	}
	const variables = "STORAGE_USERS_DECOMPOSEDS3_ENDPOINT, _REGION, _BUCKET, _ACCESS_KEY and _SECRET_KEY"
	switch {
	case len(r.items) == 0 || r.noStart():
		if b.to.Dir == "" {
			r.note(fmt.Sprintf("%s name the %s. Before OpenCloud is to use the %s, set %s, and [bucket] in the configuration.", whose, named, b.id, variables))
		} else {
			r.note(fmt.Sprintf("The objects go to a directory: OpenCloud reads them from the %s only.", named))
		}
		return nil
	case b.own:
		return fail.Usagef("keep the settings of now: --component "+strings.ReplaceAll(join(r.without(opencloud.Config)), " ", "")+
			"\nor restore to the bucket of then: --bucket-target s3:"+named.endpoint+"/"+named.name+
			"\nor restore with --no-start, and correct "+variables+" before you start OpenCloud",
			"%s name the %s, while the instance has the %s: it would be started with the wrong one", whose, named, b.id)
	}
	return fail.Usagef("restore with --no-start, and set "+variables+" before you start OpenCloud",
		"%s name the %s, and the objects go to %s: it would be started with the wrong one", whose, named, b.name)
}

// without lists the components of the restore but one.
func (r *run) without(c opencloud.Component) []opencloud.Component {
	var out []opencloud.Component
	for _, x := range r.res.Components {
		if x != c {
			out = append(out, x)
		}
	}
	return out
}
