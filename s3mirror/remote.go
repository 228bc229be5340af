package s3mirror

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/rclone/rclone/backend/crypt" // the backends a pool may lie on
	_ "github.com/rclone/rclone/backend/local"
	_ "github.com/rclone/rclone/backend/s3"
	_ "github.com/rclone/rclone/backend/sftp"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/cache"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/configfile"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/config/obscure"
	"github.com/rclone/rclone/fs/fspath"
	"github.com/rclone/rclone/lib/atexit"

	"github.com/ocbackup/ocbackup/fail"
)

// partialSuffix ends the names of files that are being written, where the backend
// can't write a whole file at once. No name in a pool ends with it.
const partialSuffix = ".ocb-partial"

// The defaults of Settings.
const (
	defaultTransfers     = 16
	defaultTransfersSFTP = 4 // each is an ssh process; servers refuse too many at once
	defaultCheckers      = 8
)

const (
	defaultTimeout = time.Minute
	defaultRegion  = "us-east-1"
	// connectTimeout is how long a connection may take to come about.
	connectTimeout = 10 * time.Second
	// tries is how often the S3 client in rclone tries a request; rclone tries that twice.
	// The waits in between are random, up to 2 and 4 s.
	tries = 3
)

var (
	startOnce sync.Once
	limit     struct {
		sync.Mutex
		kib int
	}
)

// configure returns a context that carries rclone's configuration for one remote,
// and sets what rclone has once per process.
func configure(ctx context.Context, s Settings, caFile string) context.Context {
	startOnce.Do(func() {
		// rclone's own handler ends the process, and OpenCloud would not be started again.
		atexit.IgnoreSignals()
		// What matters comes as an error.
		fs.SetLogger(slog.DiscardHandler)
		// Nobody is there to be asked for the password of an rclone.conf.
		fs.GetConfig(context.Background()).AskPassword = false
	})
	ctx, ci := fs.AddConfig(ctx)
	ci.Transfers, ci.Checkers = s.Transfers, s.Checkers
	ci.LowLevelRetries = tries
	ci.ConnectTimeout, ci.Timeout = fs.Duration(connectTimeout), fs.Duration(s.Timeout)
	ci.UseServerModTime = true // anything else costs a request per object
	ci.UserAgent = "ocbackup"
	if caFile != "" {
		ci.CaCert = []string{caFile}
	}
	limit.Lock()
	defer limit.Unlock()
	if s.LimitKiB > 0 && limit.kib != s.LimitKiB {
		limit.kib = s.LimitKiB
		rate := fs.SizeSuffix(s.LimitKiB) * fs.Kibi
		accounting.TokenBucket.SetBwLimit(fs.BwPair{Tx: rate, Rx: rate})
	}
	return ctx
}

// withDefaults fills in what is not set.
func (s Settings) withDefaults(sftp bool) Settings {
	if s.Transfers <= 0 {
		s.Transfers = defaultTransfers
		if sftp {
			s.Transfers = defaultTransfersSFTP
		}
	}
	if s.Checkers <= 0 {
		s.Checkers = defaultCheckers
	}
	if s.Timeout <= 0 {
		s.Timeout = defaultTimeout
	}
	if s.Log == nil {
		s.Log = func(string) {}
	}
	return s
}

// newFs makes a remote without an rclone.conf, and without a connection string that
// would put secrets into its name.
func newFs(ctx context.Context, backend, name, root string, opt configmap.Simple) (fs.Fs, error) {
	ri, err := fs.Find(backend)
	if err != nil {
		return nil, err
	}
	f, err := ri.NewFs(ctx, name, root, fs.ConfigMap(ri.Prefix, ri.Options, name, opt))
	if errors.Is(err, fs.ErrorIsFile) {
		return nil, fail.Usagef("name a directory", "%s is a file", root)
	}
	return f, err
}

// s3Options are rclone's options for a bucket. Blind saves a request before each
// object that is read, whose size is known from a listing, and after each that is
// written, which is looked at here (s3api.go).
func s3Options(b Bucket, blind bool) configmap.Simple {
	return configmap.Simple{
		"provider": "Other", "endpoint": b.Endpoint, "region": b.Region,
		"access_key_id": b.Keys.Access, "secret_access_key": b.Keys.Secret, "session_token": b.Keys.Session,
		"env_auth": "false", "force_path_style": strconv.FormatBool(pathStyle(b.Endpoint)),
		"list_version": "2", "no_check_bucket": "true",
		"no_head": strconv.FormatBool(blind), "no_head_object": strconv.FormatBool(blind),
		"upload_cutoff":      uploadCutoff,
		"upload_concurrency": "1",
		// What RCLONE_S3_* in the environment must not change: names, contents, and whose keys.
		"encoding": "Slash,InvalidUtf8,Dot", "directory_markers": "false", "decompress": "false", "might_gzip": "unset",
		"versions": "false", "version_at": "off", "version_deleted": "false", "download_url": "", "role_arn": "",
		"sse_customer_algorithm": "", "sse_customer_key": "", "sse_customer_key_base64": "", "sse_customer_key_md5": "",
	}
}

// uploadCutoff is the size from which objects are uploaded in parts.
var uploadCutoff = "64Mi"

// pathStyle tells whether buckets are named in the path of the URL: everywhere but
// at AWS, as OpenCloud's own client has it (minio-go, BucketLookupAuto).
func pathStyle(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err != nil || !strings.HasSuffix(u.Hostname(), ".amazonaws.com")
}

// location is a Target's location, taken apart.
type location struct {
	kind       string // local, s3, sftp, rclone
	path       string // local, sftp: the directory; s3: the prefix; rclone: remote:path
	endpoint   string // s3
	bucket     string // s3
	host, user string // sftp
	port       string // sftp
}

// parseLocation takes a Target's location apart.
func parseLocation(s string) (location, error) {
	bad := func(why string) (location, error) { // s may hold a password: it is not told
		return location{}, fail.Usagef("use /directory, s3:https://host/bucket/prefix, sftp:user@host:/path or rclone:REMOTE:path",
			"the pool's location: %s", why)
	}
	switch {
	case filepath.IsAbs(s):
		return location{kind: "local", path: filepath.Clean(s)}, nil
	case strings.HasPrefix(s, "rclone:"):
		rest := strings.TrimPrefix(s, "rclone:")
		// Connection strings are no names.
		if name, _, ok := strings.Cut(rest, ":"); !ok || fspath.CheckConfigName(name) != nil {
			return bad("it names no remote of rclone's configuration")
		}
		return location{kind: "rclone", path: rest}, nil
	case strings.HasPrefix(s, "s3:"):
		u, err := url.Parse(strings.TrimPrefix(s, "s3:"))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return bad("it is no s3:https://host/bucket")
		}
		bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
		if bucket == "" {
			return bad("it names no bucket")
		}
		return location{kind: "s3", endpoint: u.Scheme + "://" + u.Host, bucket: bucket, path: prefix}, nil
	case strings.HasPrefix(s, "sftp://"):
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
			return bad("it is no sftp://user@host//path")
		}
		if _, has := u.User.Password(); has {
			return bad("a password does not belong in it")
		}
		l := location{kind: "sftp", host: u.Hostname(), user: u.User.Username(), port: u.Port(), path: strings.TrimPrefix(u.Path, "/")}
		return l.checkSSH(bad)
	case strings.HasPrefix(s, "sftp:"):
		login, path, found := strings.Cut(strings.TrimPrefix(s, "sftp:"), ":/")
		if !found {
			return bad("it is no sftp:user@host:/path")
		}
		l := location{kind: "sftp", host: login, path: "/" + path}
		if i := strings.LastIndexByte(login, '@'); i >= 0 {
			l.user, l.host = login[:i], login[i+1:]
		}
		if strings.HasPrefix(l.host, "[") && strings.HasSuffix(l.host, "]") {
			l.host = l.host[1 : len(l.host)-1]
		}
		return l.checkSSH(bad)
	}
	return bad("it is neither an absolute path nor one of the known kinds")
}

// checkSSH refuses what ssh would take for an option.
func (l location) checkSSH(bad func(string) (location, error)) (location, error) {
	switch {
	case l.host == "" || l.path == "":
		return bad("it lacks a host or a path")
	case strings.Contains(l.user, ":"):
		return bad("a password does not belong in it")
	case strings.Contains(l.host, ":") && net.ParseIP(l.host) == nil:
		return bad("it has no valid host")
	case strings.HasPrefix(l.host, "-") || strings.HasPrefix(l.user, "-") || strings.ContainsAny(l.host+l.user, " \t\"'"):
		return bad("it has no valid host or user")
	}
	return l, nil
}

// open opens the directory, bucket or remote of a target.
func (l location) open(ctx context.Context, t Target) (fs.Fs, error) {
	switch l.kind {
	case "local":
		return newFs(ctx, "local", "local", l.path, configmap.Simple{"no_check_updated": "true"})
	case "s3":
		root := l.bucket
		if l.path != "" {
			root += "/" + l.path
		}
		blind := t.Password == ""
		f, err := newFs(ctx, "s3", "ocbpool", root, s3Options(l.asBucket(t), blind))
		if err != nil {
			return nil, err
		}
		out := targetFs{Fs: f, blind: blind}
		if err := out.cutoff.Set(uploadCutoff); err != nil {
			return nil, err
		}
		out.api, err = newS3API(l.asBucket(t), l.path, time.Duration(fs.GetConfig(ctx).Timeout))
		return out, err
	case "sftp":
		return newFs(ctx, "sftp", "ocbpool", l.path, configmap.Simple{
			"ssh": strings.Join(l.ssh(), " "), "shell_type": "none", "disable_hashcheck": "true",
			"md5sum_command": "none", "sha1sum_command": "none",
		})
	}
	if t.RcloneConfig != "" {
		if err := config.SetConfigPath(t.RcloneConfig); err != nil {
			return nil, fmt.Errorf("rclone's configuration %s: %w", t.RcloneConfig, err)
		}
	}
	configfile.Install()
	f, err := fs.NewFs(ctx, l.path)
	if err != nil {
		name, _, _ := strings.Cut(l.path, ":")
		return nil, fail.Wrap(fail.Usage, err, fmt.Sprintf("open remote %q of %s", name, config.GetConfigPath()),
			"ocbackup links rclone's backends local, s3, sftp and crypt; check the remote with \"rclone lsd "+name+":\"")
	}
	return f, nil
}

// ssh is the command that reaches an SFTP location. It brings the admin's keys, agent,
// known hosts and ~/.ssh/config, as it does for restic.
func (l location) ssh() []string {
	ssh := []string{"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"}
	if l.port != "" {
		ssh = append(ssh, "-p", l.port)
	}
	if l.user != "" {
		ssh = append(ssh, "-l", l.user)
	}
	return append(ssh, l.host)
}

// asBucket is the bucket of an S3 location.
func (l location) asBucket(t Target) Bucket {
	return Bucket{Endpoint: l.endpoint, Region: cmp.Or(t.Region, defaultRegion), Name: l.bucket, Keys: t.Keys, CAFile: t.CAFile}
}

// encrypted wraps a remote so that names and contents are encrypted on this side. All
// that makes up the format is given: RCLONE_CRYPT_* in the environment has no say.
func encrypted(ctx context.Context, base fs.Fs, password string) (fs.Fs, error) {
	hidden, err := obscure.Obscure(password)
	if err != nil {
		return nil, err
	}
	// crypt finds the remote that it wraps by name, in a cache of the process.
	name := "ocbpool-" + rand.Text()
	cache.Put(name+":", base)
	defer cache.ClearConfig(name)
	return newFs(ctx, "crypt", "ocbpool-crypt", "", configmap.Simple{
		"remote": name + ":", "password": hidden, "password2": "",
		"filename_encryption": "standard", "directory_name_encryption": "true", "filename_encoding": "base32", "suffix": ".bin",
		"no_data_encryption": "false", "pass_bad_blocks": "false", "strict_names": "false", "show_mapping": "false",
	})
}

// trust returns the certificate authorities of a file; without one, nil.
func trust(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, "read the certificate authorities (ca_file)", "")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fail.Usagef("", "ca_file %s holds no certificate", caFile)
	}
	return &tls.Config{RootCAs: pool}, nil
}
