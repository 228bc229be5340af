package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/snapshot"
)

// Defaults of keys that no other package has one for.
const (
	DefaultMaxDowntime = 30 * time.Minute
	DefaultRetryLock   = 2 * time.Minute
	// DefaultRegion is OpenCloud's default of the bucket's region.
	DefaultRegion         = "default"
	DefaultReconcileEvery = 7 * 24 * time.Hour
	DefaultGrace          = 30 * 24 * time.Hour
	// DefaultLVMSize is for lvcreate --extents (lvcreate(8)).
	DefaultLVMSize = "20%ORIGIN"
)

// SetDefaults fills in what was left out, and cleans paths.
func (c *Config) SetDefaults() {
	def(&c.Repository.RetryLock, DefaultRetryLock)
	def(&c.Repository.Restic, "restic")
	def(&c.Repository.Compression, "auto")
	def(&c.Backup.MaxDowntime, DefaultMaxDowntime)
	def(&c.Backup.Seed, "auto")
	def(&c.Snapshot.Driver, snapshot.Auto)
	def(&c.Snapshot.LVMSize, DefaultLVMSize)
	def(&c.Log.Level, "info")
	def(&c.Ready.Timeout, readiness.DefaultTimeout)
	def(&c.Ready.Address, "127.0.0.1:9200")
	def(&c.Control.StopTimeout, control.DefaultStopTimeout)
	def(&c.Control.StartTimeout, control.DefaultStartTimeout)
	if c.Control.Type == "compose" {
		def(&c.Control.Service, "opencloud")
	}
	if c.Name != "" {
		def(&c.StateDir, filepath.Join(DefaultStateDir, c.Name))
	}
	if c.Layout.DataDir != "" {
		def(&c.Layout.UsersRoot, filepath.Join(c.Layout.DataDir, "storage/users"))
		if !c.Layout.SearchExternal {
			def(&c.Layout.SearchDir, filepath.Join(c.Layout.DataDir, "search"))
		}
	}
	if c.Layout.Driver == opencloud.DecomposedS3 {
		def(&c.Bucket.Region, DefaultRegion)
		def(&c.Pool.ReconcileEvery, DefaultReconcileEvery)
		def(&c.Pool.Grace, DefaultGrace)
	}
	for _, p := range append(c.paths(), pathKey{"pool.location", []*string{&c.Pool.Location}}) {
		for _, s := range p.at {
			if filepath.IsAbs(*s) {
				*s = filepath.Clean(*s)
			}
		}
	}
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// pathKey is a key that holds paths, which must be absolute.
type pathKey struct {
	key string
	at  []*string
}

func (c *Config) paths() []pathKey {
	one := func(key string, s *string) pathKey { return pathKey{key, []*string{s}} }
	list := func(key string, l []string) pathKey {
		p := pathKey{key: key}
		for i := range l {
			p.at = append(p.at, &l[i])
		}
		return p
	}
	out := []pathKey{
		one("state_dir", &c.StateDir),
		one("repository.password_file", &c.Repository.PasswordFile),
		one("repository.env_file", &c.Repository.EnvFile),
		one("repository.cache_dir", &c.Repository.CacheDir),
		one("repository.temp_dir", &c.Repository.TempDir),
		one("layout.config_dir", &c.Layout.ConfigDir),
		one("layout.data_dir", &c.Layout.DataDir),
		one("layout.users_root", &c.Layout.UsersRoot),
		one("layout.search_dir", &c.Layout.SearchDir),
		list("layout.system_paths", c.Layout.SystemPaths),
		list("layout.deployment", c.Layout.Deployment),
		one("layout.binary", &c.Layout.Binary),
		list("layout.leave_out", c.Layout.Leave),
		one("control.project_dir", &c.Control.ProjectDir),
		list("control.files", c.Control.Files),
		one("ready.token_file", &c.Ready.TokenFile),
		one("ready.password_file", &c.Ready.PasswordFile),
		one("bucket.env_file", &c.Bucket.EnvFile),
		one("bucket.ca_file", &c.Bucket.CAFile),
		one("pool.env_file", &c.Pool.EnvFile),
		one("pool.ca_file", &c.Pool.CAFile),
		one("pool.rclone_config", &c.Pool.RcloneConfig),
		one("pool.password_file", &c.Pool.PasswordFile),
		one("snapshot.path", &c.Snapshot.Path),
		one("snapshot.mount_point", &c.Snapshot.MountPoint),
	}
	for i := range c.Extra {
		out = append(out, one("extra.path", &c.Extra[i].Path))
	}
	return out
}

var (
	nameSyntax  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	extraSyntax = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
)

// Validate reports all that is wrong with c, as one error of code fail.Usage that
// names the keys. It looks at c alone, not at the machine: that is the task of
// package doctor.
func (c *Config) Validate() error {
	if p := c.problems(); len(p) > 0 {
		return source{path: c.where()}.error(p)
	}
	return nil
}

// where names the configuration in messages.
func (c *Config) where() string {
	if c.Path == "" {
		return "configuration"
	}
	return c.Path
}

func (c *Config) problems() []problem {
	var out []problem
	add := func(key, format string, args ...any) {
		out = append(out, problem{key: key, text: fmt.Sprintf(format, args...)})
	}
	c.checkSchema(add)
	if c.Name != "" && !nameSyntax.MatchString(c.Name) {
		add("name", "%q: only letters, digits, dot, dash and underscore are possible", c.Name)
	}
	for _, p := range c.paths() {
		for _, s := range p.at {
			if *s != "" && !filepath.IsAbs(*s) {
				add(p.key, "%q is not an absolute path", *s)
			}
		}
	}
	if path, local := LocalPath(c.Repository.Location); local && path != "" && !filepath.IsAbs(path) {
		add("repository.location", "%q is neither an absolute path nor an address (sftp:, rest:, s3:, ...)", c.Repository.Location)
	}
	if c.Repository.PasswordFile != "" && c.Repository.PasswordCommand != "" {
		add("repository.password_command", "password_file is set as well; give one of them")
	}
	for _, p := range c.Backup.AcceptLost {
		if !strings.Contains(p, ":/") {
			add("backup.accept_lost", "%q is no SPACE:/path", p)
		}
	}
	if (c.Ready.User == "") != (c.Ready.PasswordFile == "") {
		add("ready.user", "user and password_file go together")
	}
	c.checkControl(add)
	c.checkExtra(add)
	c.checkSnapshot(add)
	if c.checkDriver(add) {
		c.checkBucket(add)
		c.checkPool(add)
	}
	return out
}

// checkSchema checks what the schema knows: required keys, possible values, signs.
func (c *Config) checkSchema(add func(key, format string, args ...any)) {
	for _, k := range Keys {
		if table, _ := k.Table(); table == "extra" || !c.has(table) {
			continue
		}
		v := k.value(c)
		if k.Required && v.IsZero() {
			hint := ""
			if k.Env != "" {
				hint = " (or the environment variable " + k.Env + ")"
			}
			add(k.Name, "is missing; it must be set%s", hint)
			continue
		}
		switch kindOf(v.Type()) {
		case kindString:
			checkValue(k, v.String(), add)
		case kindStrings:
			for i := range v.Len() {
				checkValue(k, v.Index(i).String(), add)
				if v.Index(i).String() == "" {
					add(k.Name, "holds an empty text")
				}
			}
		case kindInt:
			if v.Int() < 0 {
				add(k.Name, "%d is less than 0", v.Int())
			}
		case kindDuration:
			if wrong := k.checkDuration(time.Duration(v.Int())); wrong != "" {
				add(k.Name, "%q %s", time.Duration(v.Int()), wrong)
			}
		}
	}
}

func checkValue(k Key, s string, add func(key, format string, args ...any)) {
	switch {
	case !utf8.ValidString(s):
		add(k.Name, "%q is not valid UTF-8, which a TOML file can't hold", s)
	case strings.ContainsRune(s, 0):
		add(k.Name, "%q contains a NUL character", s)
	case s != "" && len(k.Values) > 0 && !slices.Contains(k.Values, s):
		add(k.Name, "%q is not one of %s", s, strings.Join(k.Values, ", "))
	}
}

// checkControl checks what each type of control needs.
func (c *Config) checkControl(add func(key, format string, args ...any)) {
	needs := map[string][]string{
		"systemd": {"control.unit"},
		"compose": {"control.project_dir", "control.service"},
		"docker":  {"control.container"},
		"podman":  {"control.container"},
		"command": {"control.start", "control.stop", "control.status"},
	}
	for _, name := range needs[c.Control.Type] {
		if keyNamed(name).value(c).IsZero() {
			add(name, "is missing; control type %q needs it", c.Control.Type)
		}
	}
}

func (c *Config) checkExtra(add func(key, format string, args ...any)) {
	seen := map[string]bool{}
	for _, e := range c.Extra {
		switch {
		case !extraSyntax.MatchString(e.Name):
			add("extra.name", "%q: only lower-case letters, digits and dashes are possible", e.Name)
		case seen[e.Name]:
			add("extra.name", "%q is there twice", e.Name)
		}
		seen[e.Name] = true
		if (e.Path == "") == (len(e.Command) == 0) {
			add("extra.path", "extra %q: give either path or command", e.Name)
		}
	}
}

// lvmSize is what lvcreate takes for --size and, with a percent sign, for --extents
// (lvcreate(8)).
var lvmSize = regexp.MustCompile(`^[1-9][0-9]*([kmgtKMGT]|%(ORIGIN|FREE|VG))$`)

// checkSnapshot checks what goes with the driver command, and the size for lvm.
func (c *Config) checkSnapshot(add func(key, format string, args ...any)) {
	s := c.Snapshot
	if s.LVMSize != "" && !lvmSize.MatchString(s.LVMSize) {
		add("snapshot.lvm_size", "%q is neither a size like \"10g\" nor a share like \"20%%ORIGIN\", \"50%%FREE\" or \"5%%VG\"", s.LVMSize)
	}
	complete := true
	for _, name := range []string{"snapshot.path", "snapshot.mount_point", "snapshot.create", "snapshot.destroy"} {
		given := keyNamed(name).value(c).Len() > 0
		complete = complete && given
		switch {
		case s.Driver == snapshot.Command && !given:
			add(name, "is missing; snapshot driver \"command\" needs it")
		case s.Driver != snapshot.Command && given:
			add(name, "goes with the snapshot driver \"command\"; driver is %q", s.Driver)
		}
	}
	if s.Driver == snapshot.Command && complete && !strings.Contains(strings.Join(append(s.Create, s.MountPoint), " "), snapshotName) {
		add("snapshot.create", "%s occurs neither here nor in mount_point: one snapshot could not be told from another", snapshotName)
	}
}

// snapshotName stands for the name of the snapshot in the keys of the driver command.
const snapshotName = "{name}"

// Equal reports whether two configurations mean the same. Where they were read
// from does not matter.
func (c *Config) Equal(d *Config) bool {
	a, b := *c, *d
	a.Path, b.Path = "", ""
	return reflect.DeepEqual(a.normal(), b.normal())
}

// normal makes empty lists nil.
func (c Config) normal() Config {
	for _, k := range Keys {
		if table, _ := k.Table(); table == "extra" {
			continue
		}
		if v := k.value(&c); v.Kind() == reflect.Slice && v.Len() == 0 {
			v.SetZero()
		}
	}
	if len(c.Extra) == 0 {
		c.Extra = nil
	}
	return c
}

// LocalPath returns the path of a repository that lies on a local (or mounted)
// file system, and whether location is such a one.
func LocalPath(location string) (string, bool) {
	scheme, rest, found := strings.Cut(location, ":")
	if !found {
		return location, true
	}
	switch scheme {
	case "local":
		return rest, true
	case "sftp", "rest", "s3", "swift", "b2", "azure", "gs", "rclone":
		return "", false
	}
	return location, true
}
