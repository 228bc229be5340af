package repo

import (
	"os"
	"regexp"
	"sort"
	"strings"
)

// passwordVars are the variables that restic takes a password from. File and
// command together are an error to it, so they are never mixed from two sources.
var passwordVars = []string{"RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND"}

// ownVars are never inherited: they would contradict what ocbackup says, or change
// what a backup reads.
var ownVars = map[string]bool{
	"RESTIC_REPOSITORY":      true,
	"RESTIC_REPOSITORY_FILE": true,
	"RESTIC_HOST":            true,
	"RESTIC_PROGRESS_FPS":    true,
	"RESTIC_IGNORE_INODE":    true,
	"RESTIC_IGNORE_CTIME":    true,
}

// envMap is an environment by name.
type envMap map[string]string

// processEnv is ocbackup's own environment.
func processEnv() envMap {
	m := envMap{}
	m.add(os.Environ())
	return m
}

func (m envMap) add(env []string) {
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
}

// merge takes over what another environment may set.
func (m envMap) merge(from envMap) {
	for _, name := range passwordVars {
		if _, ok := from[name]; ok {
			m.drop(passwordVars...)
			break
		}
	}
	for name, value := range from {
		if !ownVars[name] && !strings.HasPrefix(name, "RESTIC_FROM_") {
			m[name] = value
		}
	}
}

func (m envMap) drop(names ...string) {
	for _, name := range names {
		delete(m, name)
	}
}

func (m envMap) has(names ...string) bool {
	for _, name := range names {
		if m[name] != "" {
			return true
		}
	}
	return false
}

func (m envMap) list() []string {
	l := make([]string, 0, len(m))
	for name, value := range m {
		l = append(l, name+"="+value)
	}
	sort.Strings(l)
	return l
}

// env builds restic's environment: ocbackup's own without what contradicts the
// options, then Options.Env, then what the options say.
func (r *Repo) env() envMap {
	m := envMap{}
	m.merge(processEnv())
	m.merge(r.opt.Env)
	if r.opt.PasswordFile != "" || r.opt.PasswordCommand != "" {
		m.drop(passwordVars...)
	}
	for name, value := range map[string]string{
		"RESTIC_REPOSITORY":       r.opt.Location, // not -r: it may hold credentials
		"RESTIC_PASSWORD_FILE":    r.opt.PasswordFile,
		"RESTIC_PASSWORD_COMMAND": r.opt.PasswordCommand,
		"RESTIC_CACHE_DIR":        r.opt.CacheDir,
		"TMPDIR":                  r.opt.TempDir,
	} {
		if value != "" {
			m[name] = value
		}
	}
	return m
}

// deviceFeature has restic store the number of a file's device only where the file has
// several names. Each snapshot of a file system has another one, which would make the
// metadata of every directory new (restic, internal/feature/registry.go).
const deviceFeature = "device-id-for-hardlinks=true"

// features is the variable that asks for a feature beside those that the admin wants.
func (r *Repo) features(more string) envMap {
	const name = "RESTIC_FEATURES"
	if has := r.env()[name]; has != "" {
		more = has + "," + more
	}
	return envMap{name: more}
}

// secrets lists what must not turn up in an error or a log.
func (r *Repo) secrets() []string {
	var l []string
	for _, env := range []envMap{r.opt.Env, processEnv()} {
		for name, value := range env {
			if secretName(name) {
				l = append(l, value)
			}
		}
	}
	l = append(l, locationSecrets(r.opt.Location)...)
	// The longest first: a secret may be part of another.
	sort.Slice(l, func(i, j int) bool { return len(l[i]) > len(l[j]) })
	return l
}

// secretWord is what the name of a variable with a secret holds: RESTIC_PASSWORD,
// AWS_SECRET_ACCESS_KEY, AZURE_ACCOUNT_SAS, OS_AUTH_TOKEN, ST_KEY ... (restic's list
// is in its doc/075_scripting.rst; rclone, and programs of the admin's, have their own).
var secretWord = regexp.MustCompile(`(?i)KEY|SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|(?:^|_)(?:PASS|PW|SAS)(?:$|_)`)

// whereWord ends the names of variables that tell where a secret is.
var whereWord = regexp.MustCompile(`(?i)_(?:FILE|PATH|DIR|COMMAND|HINT)$`)

// secretName reports whether a variable of this name holds a secret.
func secretName(name string) bool {
	return secretWord.MatchString(name) && !whereWord.MatchString(name)
}
