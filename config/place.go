package config

import (
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// place is a pool's location, as far as it matters to the configuration.
type place struct {
	dir    string // a directory of this host
	server string // an S3 server, in a form that can be compared
	bucket string
}

// remoteName is how rclone names remotes. Connection strings (":sftp,host=...:" and
// "remote,pass=...:") are none: they may hold passwords.
var remoteName = regexp.MustCompile(`^[\w\p{L}\p{N}.+@]+(?:[ -]+[\w\p{L}\p{N}.+@-]+)*$`)

// parsePool takes a pool's location apart. wrong says what is wrong with it.
func parsePool(location string) (p place, wrong string) {
	if filepath.IsAbs(location) {
		return place{dir: location}, ""
	}
	switch kind, rest, _ := strings.Cut(location, ":"); kind {
	case "s3":
		return parseS3(rest)
	case "sftp":
		return place{}, wrongSFTP(rest)
	case "rclone":
		if remote, _, found := strings.Cut(rest, ":"); !found || !remoteName.MatchString(remote) {
			return place{}, "is not rclone:REMOTE:path, with a remote of rclone's configuration"
		}
		return place{}, ""
	}
	return place{}, "is neither an absolute path nor s3:https://host/bucket, sftp:user@host:/path or rclone:REMOTE:path"
}

func parseS3(rest string) (p place, wrong string) {
	u, err := url.Parse(rest)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return place{}, "is not s3:https://host/bucket/prefix (or s3:http:...)"
	case u.User != nil:
		return place{}, "holds a user or a password: access keys belong into pool.env_file"
	case u.RawQuery != "" || u.Fragment != "":
		return place{}, "has more than host, bucket and prefix"
	}
	bucket, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if bucket == "" {
		return place{}, "names no bucket: s3:https://host/bucket/prefix"
	}
	return place{server: server(u), bucket: bucket}, ""
}

// server is the host and port of a URL in a form that can be compared.
func server(u *url.URL) string {
	host, port := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	switch ip := net.ParseIP(host); {
	case ip != nil && ip.IsLoopback():
		host = "localhost"
	case ip != nil:
		host = ip.String()
	case strings.HasSuffix(host, ".amazonaws.com"):
		host, port = "amazonaws.com", "" // all of them lead to the same buckets
	}
	return net.JoinHostPort(host, port)
}

// wrongSFTP says what is wrong with an SFTP location without its "sftp:".
func wrongSFTP(rest string) string {
	const form = "is neither sftp:user@host:/path nor sftp://user@host:port//path"
	var user, host string
	if strings.HasPrefix(rest, "//") {
		u, err := url.Parse("sftp:" + rest)
		if err != nil {
			return form
		}
		if _, has := u.User.Password(); has {
			return "holds a password; log in with a key"
		}
		if !strings.HasPrefix(u.Path, "//") || u.RawQuery != "" || u.Fragment != "" {
			return "has no absolute path: two slashes come after the host"
		}
		user, host = u.User.Username(), u.Hostname()
	} else {
		login, _, found := strings.Cut(rest, ":/")
		if !found {
			return form
		}
		if i := strings.LastIndexByte(login, '@'); i >= 0 {
			user, login = login[:i], login[i+1:]
		}
		host = strings.Trim(login, "[]")
		if strings.Contains(user, ":") {
			return "holds a password; log in with a key"
		}
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return form
		}
	}
	// ssh takes what begins with - for an option.
	if host == "" || strings.HasPrefix(host, "-") || strings.HasPrefix(user, "-") || strings.ContainsAny(user+host, " \t\r\n/") {
		return "names no host that can be reached, or no such user"
	}
	return ""
}
