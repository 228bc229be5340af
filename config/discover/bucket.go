package discover

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

// The settings of the driver decomposeds3 that lead to its bucket. They go by no other
// names, and of the drivers' old names none has settings of its own.
var (
	bucketEndpoint = setting{"STORAGE_USERS_DECOMPOSEDS3_ENDPOINT", "storage-users", "drivers.decomposeds3.endpoint", ""}
	bucketRegion   = setting{"STORAGE_USERS_DECOMPOSEDS3_REGION", "storage-users", "drivers.decomposeds3.region", config.DefaultRegion}
	bucketName     = setting{"STORAGE_USERS_DECOMPOSEDS3_BUCKET", "storage-users", "drivers.decomposeds3.bucket", ""}
	bucketAccess   = setting{"STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY", "storage-users", "drivers.decomposeds3.access_key", ""}
	bucketSecret   = setting{"STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY", "storage-users", "drivers.decomposeds3.secret_key", ""}
)

// bucket finds the bucket, without its keys.
func (s *server) bucket() config.Bucket {
	b := config.Bucket{Endpoint: endpoint(s.get(bucketEndpoint)), Region: s.get(bucketRegion), Name: s.get(bucketName)}
	if b.Endpoint == "" || b.Name == "" {
		s.note("the bucket is not known: OpenCloud's %s or %s is not set, or is no URL; set endpoint and name in [bucket]", bucketEndpoint.env, bucketName.env)
		b.Endpoint, b.Name = "", ""
	}
	return b
}

func (s *server) keys() (access, secret string) { return s.get(bucketAccess), s.get(bucketSecret) }

// endpoint is an S3 server's address as OpenCloud understands it: of the URL only the
// host counts, and whatever is not http is https (decomposeds3/blobstore in reva).
func endpoint(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	if u.Scheme != "http" {
		u.Scheme = "https"
	}
	return u.Scheme + "://" + u.Host
}

// Bucket returns the bucket of an instance of which nobody can be asked, as its
// configuration files and the environment files of its deployment have it. What they
// do not tell is empty.
func Bucket(c *config.Config) config.Bucket { return ofFiles(c).bucket() }

// BucketKeys returns the access keys by which the instance uses its bucket, from the
// deployment as it is now. Where nobody can be asked about that, they come from
// OpenCloud's configuration files and the environment files of the deployment.
// Errors are of code fail.Usage.
func BucketKeys(ctx context.Context, c *config.Config) (access, secret string, err error) {
	const hint = "set env_file in [bucket]: a file with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	f, err := again(ctx, c)
	switch {
	case context.Cause(ctx) != nil:
		return "", "", context.Cause(ctx)
	case err != nil: // its hint is about finding an instance
		return "", "", fail.Usagef(hint, "the bucket's access keys can't be read from the deployment: %v", err)
	case f == nil:
		access, secret = ofFiles(c).keys()
	default:
		access, secret = f.keys()
	}
	for _, x := range []struct {
		value string
		from  setting
	}{{access, bucketAccess}, {secret, bucketSecret}} {
		if x.value == "" {
			return "", "", fail.Usagef(hint, "the bucket's access keys are not known: %s is not set for OpenCloud, nor %s in its %s.yaml",
				x.from.env, x.from.key, x.from.service)
		}
	}
	return access, secret, nil
}

// ofFiles is an instance of which nobody can be asked.
func ofFiles(c *config.Config) *server {
	s := &server{env: map[string]string{}, configDir: c.Layout.ConfigDir, dataDir: c.Layout.DataDir, mounts: onHost}
	for _, f := range c.Layout.Deployment {
		maps.Copy(s.env, simpleEnv(f))
	}
	return s
}

// assignment is a line of a file that does nothing but set variables.
var assignment = regexp.MustCompile(`^(export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*=`)

// simpleEnv reads a file of NAME=value lines, with "export" before them or not. Of
// other files it returns nothing.
func simpleEnv(path string) map[string]string {
	const most = 1 << 20
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Size() > most {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		m := assignment.FindStringSubmatch(line)
		if m == nil {
			return nil
		}
		text.WriteString(strings.TrimPrefix(line, m[1]) + "\n")
	}
	return config.ByName(control.ParseEnvironment(text.String()))
}

// bucketDrift is Drift of the bucket, where the configuration has one.
func bucketDrift(conf, found *config.Config) []string {
	a, b := conf.Bucket, found.Bucket
	if a.Endpoint == "" || found.Layout.Driver != opencloud.DecomposedS3 {
		return nil
	}
	var out []string
	for _, x := range []struct {
		key, a, b string
		same      bool
	}{
		{"endpoint", a.Endpoint, b.Endpoint, canonical(a.Endpoint) == canonical(b.Endpoint)},
		{"region", a.Region, b.Region, a.Region == b.Region},
		{"name", a.Name, b.Name, a.Name == b.Name},
	} {
		if !x.same {
			out = append(out, fmt.Sprintf("bucket.%s: the configuration says %s, OpenCloud uses %s", x.key, or(x.a, "nothing"), or(x.b, "nothing")))
		}
	}
	return out
}

// canonical is an endpoint in a form that can be compared.
func canonical(s string) string {
	s = strings.ToLower(endpoint(s))
	if strings.HasPrefix(s, "https:") {
		return strings.TrimSuffix(s, ":443")
	}
	return strings.TrimSuffix(s, ":80")
}

// exceptBucket says of the service that keeps the bucket, where it is one of
// OpenCloud's project, that the bucket is protected.
func exceptBucket(notProtected []string, b config.Bucket) []string {
	u, err := url.Parse(b.Endpoint)
	if err != nil || u.Hostname() == "" {
		return notProtected
	}
	for i, s := range notProtected {
		if strings.HasPrefix(s, "service "+u.Hostname()+": ") {
			notProtected[i] = s + " (all but OpenCloud's bucket)"
		}
	}
	return notProtected
}
