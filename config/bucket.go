package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
)

// Bucket is the S3 bucket that holds the blobs of the storage driver decomposeds3.
type Bucket struct {
	Endpoint string `toml:"endpoint"` // URL, as OpenCloud has it
	Region   string `toml:"region"`
	Name     string `toml:"name"`
	// Reach is the URL by which this host reaches the endpoint, where that is a name
	// that only containers know. Empty: package discover finds it.
	Reach string `toml:"reach,omitempty"`
	// EnvFile holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without it the
	// instance's own keys are used.
	EnvFile   string `toml:"env_file,omitempty"`
	CAFile    string `toml:"ca_file,omitempty"`
	Transfers int    `toml:"transfers,omitempty"` // objects copied at a time; 0: 16, to SFTP 4
	Checkers  int    `toml:"checkers,omitempty"`  // spaces listed at a time; 0: 8
	LimitKiB  int    `toml:"limit_kib,omitempty"`
}

// Pool is where the objects of a bucket are backed up to.
type Pool struct {
	// Location is an absolute path, s3:https://host/bucket[/prefix],
	// sftp:[user@]host:/path, sftp://[user@]host[:port]//path or rclone:REMOTE:path.
	Location string `toml:"location"`
	Region   string `toml:"region,omitempty"`
	// EnvFile holds the access keys of an S3 pool, as Bucket.EnvFile does.
	EnvFile      string `toml:"env_file,omitempty"`
	CAFile       string `toml:"ca_file,omitempty"`
	RcloneConfig string `toml:"rclone_config,omitempty"`
	// PasswordFile is set where the pool is encrypted on this side.
	PasswordFile   string        `toml:"password_file,omitempty"`
	ReconcileEvery time.Duration `toml:"reconcile_every,omitempty"` // default 7 days
	Grace          time.Duration `toml:"grace,omitempty"`           // default 30 days
}

// NeedPool reports, as an error of code fail.Usage, what is missing for the blobs to
// be backed up. It is nil with a storage driver that keeps them in directories.
// Validate does not ask for this: sets without blobs can be made, and configurations
// from before there were pools can be read.
func (c *Config) NeedPool() error {
	if c.Layout.Driver != opencloud.DecomposedS3 {
		return nil
	}
	const hint = "\"ocbackup init --force --pool LOCATION\" finds the bucket and writes both, where OpenCloud's settings can be read; otherwise write them by hand"
	var out []problem
	// Of endpoint and name there are both or none: Validate sees to that.
	if c.Bucket.Endpoint == "" {
		out = append(out, problem{"bucket.endpoint", "is missing: the blobs lie in an S3 bucket", hint})
	}
	if c.Pool.Location == "" {
		out = append(out, problem{"pool.location", "is missing: choose the place that the bucket's objects are backed up to", hint})
	}
	if len(out) == 0 {
		return nil
	}
	return source{path: c.where()}.error(out)
}

// CheckPool reports, as an error of code fail.Usage, when a location is none that a
// pool can have. The error does not tell a password in it.
func CheckPool(location string) error {
	if _, wrong := parsePool(location); wrong != "" {
		return fail.Usagef("", "pool: %s %s", quoted(location), wrong)
	}
	return nil
}

// has tells whether a table has a meaning with the storage driver.
func (c *Config) has(table string) bool {
	return table != "bucket" && table != "pool" || c.Layout.Driver == opencloud.DecomposedS3
}

// checkDriver reports tables that the storage driver has no use for, and whether
// there is a bucket.
func (c *Config) checkDriver(add func(key, format string, args ...any)) bool {
	switch c.Layout.Driver {
	case opencloud.DecomposedS3:
		return true
	case opencloud.Posix, opencloud.Decomposed:
	default:
		return false // which driver is meant is not known
	}
	reported := map[string]bool{}
	for _, k := range Keys {
		table, _ := k.Table()
		if c.has(table) || reported[table] || k.value(c).IsZero() {
			continue
		}
		reported[table] = true
		add(k.Name, "[%s] goes with the storage driver decomposeds3; %s keeps the blobs in directories", table, c.Layout.Driver)
	}
	return false
}

func (c *Config) checkBucket(add func(key, format string, args ...any)) {
	for _, x := range []struct{ key, url string }{{"bucket.endpoint", c.Bucket.Endpoint}, {"bucket.reach", c.Bucket.Reach}} {
		if _, wrong := parseEndpoint(x.url); x.url != "" && wrong != "" {
			add(x.key, "%s %s", quoted(x.url), wrong)
		}
	}
	name := c.Bucket.Name
	if strings.HasPrefix(name, "-") || strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r)
	}) {
		add("bucket.name", "%q is no name of a bucket", name)
	}
	switch {
	case c.Bucket.Endpoint != "" && name == "":
		add("bucket.name", "is missing; it goes with endpoint")
	case c.Bucket.Endpoint == "" && name != "":
		add("bucket.endpoint", "is missing; it goes with name")
	}
}

func (c *Config) checkPool(add func(key, format string, args ...any)) {
	location := c.Pool.Location
	if location == "" {
		return
	}
	bad := func(format string, args ...any) {
		add("pool.location", "%s "+format, append([]any{quoted(location)}, args...)...)
	}
	p, wrong := parsePool(location)
	switch {
	case wrong != "":
		bad("%s", wrong)
	case p.dir != "":
		if key, dir := c.overlap(p.dir); key != "" {
			bad("and %s (%s) lie in each other; the pool needs a directory of its own", key, dir)
		}
	case strings.TrimRight(location, "/") == strings.TrimRight(c.Repository.Location, "/"):
		bad("is the repository; the pool needs a place of its own")
	case p.server != "" && p.bucket == c.Bucket.Name:
		for _, u := range []string{c.Bucket.Endpoint, c.Bucket.Reach} {
			if e, wrong := parseEndpoint(u); wrong == "" && server(e) == p.server {
				bad("lies in the bucket that is to be backed up; choose another bucket, best on another server")
				return
			}
		}
	}
}

// overlap returns the key and the path of what is backed up, or of the repository,
// when it lies in dir or dir in it. It goes by names alone.
func (c *Config) overlap(dir string) (key, path string) {
	near := func(p string) bool { return paths.Within(p, dir) || paths.Within(dir, p) }
	if r, local := LocalPath(c.Repository.Location); local && near(r) {
		return "repository.location", r
	}
	for _, k := range c.paths() {
		if !strings.HasPrefix(k.key, "layout.") && k.key != "extra.path" {
			continue
		}
		for _, p := range k.at {
			if near(*p) {
				return k.key, *p
			}
		}
	}
	return "", ""
}

// parseEndpoint reads the URL of an S3 server. wrong says what is wrong with it.
func parseEndpoint(s string) (u *url.URL, wrong string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, "is not the URL of a server, like https://s3.example.com or http://10.0.0.5:9000"
	case u.User != nil:
		return nil, "holds a user or a password: access keys belong into env_file"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, "has more than scheme, host and port"
	}
	return u, ""
}

// quoted is a location as messages name it: without what may be a password.
func quoted(location string) string {
	if i := strings.LastIndexByte(location, '@'); i >= 0 {
		if scheme, _, found := strings.Cut(location[:i], ":"); found {
			location = scheme + ":***" + location[i:]
		}
	}
	if i := strings.IndexAny(location, "?,="); i >= 0 {
		location = location[:i+1] + "***"
	}
	return fmt.Sprintf("%q", location)
}
