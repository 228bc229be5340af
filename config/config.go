// Package config reads and writes ocbackup.toml: its schema, defaults and
// validation, and where secrets come from.
package config

import (
	"time"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/snapshot"
)

// DefaultPath is where the configuration file is looked for.
const DefaultPath = "/etc/ocbackup/ocbackup.toml"

// DefaultStateDir holds, per instance, the lock, the journal, markers and caches.
const DefaultStateDir = "/var/lib/ocbackup"

// Config is the configuration of one instance.
type Config struct {
	// Name is the instance's name: the --host of its snapshots.
	Name string `toml:"name"`
	// StateDir holds lock, journal, markers and caches of this instance.
	StateDir string `toml:"state_dir,omitempty"`

	Layout     opencloud.Layout `toml:"layout"`
	Control    control.Config   `toml:"control"`
	Ready      readiness.Config `toml:"ready"`
	Repository Repository       `toml:"repository"`
	Bucket     Bucket           `toml:"bucket,omitempty"`
	Pool       Pool             `toml:"pool,omitempty"`
	Backup     Backup           `toml:"backup"`
	Snapshot   snapshot.Config  `toml:"snapshot,omitempty"`
	Extra      []Extra          `toml:"extra,omitempty"`
	Log        Log              `toml:"log,omitempty"`

	// NotProtected lists stateful services beside OpenCloud that discovery saw and
	// that no set holds. They are named on every run.
	NotProtected []string `toml:"not_protected,omitempty"`

	// Path is the file this was read from; empty without a file.
	Path string `toml:"-"`
}

// Repository says where the restic repository is and how it is opened.
type Repository struct {
	Location        string `toml:"location"`
	PasswordFile    string `toml:"password_file,omitempty"`
	PasswordCommand string `toml:"password_command,omitempty"`
	// EnvFile holds backend credentials as NAME=value lines.
	EnvFile     string        `toml:"env_file,omitempty"`
	Restic      string        `toml:"restic,omitempty"` // program; default: restic from PATH
	CacheDir    string        `toml:"cache_dir,omitempty"`
	TempDir     string        `toml:"temp_dir,omitempty"`
	RetryLock   time.Duration `toml:"retry_lock,omitempty"` // default 2 min
	Compression string        `toml:"compression,omitempty"`

	LimitUploadKiB   int `toml:"limit_upload_kib,omitempty"`
	LimitDownloadKiB int `toml:"limit_download_kib,omitempty"`
	ReadConcurrency  int `toml:"read_concurrency,omitempty"`
}

// Backup says how a backup is run.
type Backup struct {
	// MaxDowntime is the hard deadline of the cold window; default 30 min.
	MaxDowntime time.Duration `toml:"max_downtime,omitempty"`
	// Seed says whether data is stored once before the stop, so that the final pass
	// has little left to do: auto (where that is worth it), always, never.
	Seed string `toml:"seed,omitempty"`
	// Components that are left out of every set (search, binary).
	Skip []opencloud.Component `toml:"skip,omitempty"`
	// AcceptLost lists losses of users' data that are known and can't be mended, as
	// SPACE:/path: they do not make a set inconsistent.
	AcceptLost []string `toml:"accept_lost,omitempty"`
}

// Extra is a further root, or a command whose output is stored, beside OpenCloud.
type Extra struct {
	Name    string   `toml:"name"`
	Path    string   `toml:"path,omitempty"`
	Command []string `toml:"command,omitempty"`
}

// Log says how logs are written.
type Log struct {
	Format string `toml:"format,omitempty"` // console or json; default: console on a terminal, else json
	Level  string `toml:"level,omitempty"`  // debug, info, warn, error; default info
}
