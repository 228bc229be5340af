package repo

import (
	"net/url"
	"strings"

	"github.com/ocbackup/ocbackup/paths"
)

// Location names the repository in messages: a password in it is replaced by ***.
func (r *Repo) Location() string { return WithoutPassword(r.opt.Location) }

// WithoutPassword returns a repository's location with the password in it, if there
// is one, replaced by ***.
func WithoutPassword(location string) string {
	from, to, ok := locationPassword(location)
	if !ok {
		return location
	}
	return location[:from] + "***" + location[to:]
}

// locationPassword finds the password in a location such as
// rest:https://user:password@host/path.
func locationPassword(loc string) (from, to int, ok bool) {
	start := strings.Index(loc, "://")
	if start < 0 {
		return 0, 0, false
	}
	start += len("://")
	end := len(loc)
	if i := strings.IndexByte(loc[start:], '/'); i >= 0 {
		end = start + i
	}
	at := strings.LastIndexByte(loc[start:end], '@')
	if _, port, has := strings.Cut(loc[start:end], ":"); at < 0 && has && strings.Trim(port, "0123456789") != "" {
		at = strings.LastIndexByte(loc[start:], '@') // no port: a password that holds a slash
	}
	if at < 0 {
		return 0, 0, false
	}
	colon := strings.IndexByte(loc[start:start+at], ':')
	if colon < 0 {
		return 0, 0, false
	}
	return start + colon + 1, start + at, true
}

// locationSecrets are the spellings in which a location's password can turn up
// in restic's words.
func locationSecrets(loc string) []string {
	from, to, ok := locationPassword(loc)
	if !ok {
		return nil
	}
	secrets := []string{loc[from:to]}
	if plain, err := url.PathUnescape(loc[from:to]); err == nil && plain != loc[from:to] {
		secrets = append(secrets, plain)
	}
	return secrets
}

// absoluteLocation makes a local repository's path absolute. What restic takes as
// local is in its internal/backend/location: "local:PATH", or no colon at all.
func absoluteLocation(loc string) string {
	if p, ok := strings.CutPrefix(loc, "local:"); ok {
		return "local:" + paths.Absolute(p)
	}
	if strings.Contains(loc, ":") {
		return loc
	}
	return paths.Absolute(loc)
}
