// Package repo runs restic, and is the only package that does. It speaks restic's
// JSON, knows its exit codes, and turns both into values and typed errors.
package repo

import (
	"fmt"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/paths"
)

// Options say which repository, and how restic is run.
type Options struct {
	// Binary is the restic program; empty: "restic" from PATH.
	Binary string
	// Location is the repository as restic takes it: a path, s3:..., sftp:..., rest:...
	Location string
	// PasswordFile or PasswordCommand give the password; the password itself never
	// passes through ocbackup.
	PasswordFile    string
	PasswordCommand string
	// Env is added to restic's environment: backend credentials (AWS_ACCESS_KEY_ID, ...).
	// The values of those whose names say so (KEY, SECRET, TOKEN, PASSWORD, ...) are
	// kept out of errors and logs.
	Env map[string]string
	// Host is the --host of new snapshots, and of those that are listed.
	Host string
	// CacheDir is restic's cache; empty: restic's default.
	CacheDir string
	// TempDir is where packs are made; empty: restic's default. In memory is faster.
	TempDir string
	// RetryLock is how long restic waits for a lock of another process.
	RetryLock time.Duration
	// Limits; 0: none.
	LimitUploadKiB, LimitDownloadKiB int
	ReadConcurrency                  int
	// Compression is auto, off, max, or (restic 0.19) fastest, better; empty: auto.
	Compression string
}

// MinVersion is the oldest restic that ocbackup works with: exit codes 10, 11 and
// 12, restore --delete, snapshot:subfolder and --retry-lock came until then.
var MinVersion = Version{0, 17, 1}

// Version is restic's version.
type Version struct{ Major, Minor, Patch int }

// String gives "0.17.1".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Patch < w.Patch
}

// Snapshot is a restic snapshot.
type Snapshot struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Hostname string    `json:"hostname"`
	Paths    []string  `json:"paths"`
	Tags     []string  `json:"tags"`
	Summary  *Summary  `json:"summary,omitempty"`
}

// HasTag reports whether the snapshot carries a tag.
func (s Snapshot) HasTag(tag string) bool {
	for _, t := range s.Tags {
		if t == tag {
			return true
		}
	}
	return false
}

// Summary is what restic says of a backup that ended.
type Summary struct {
	SnapshotID          string    `json:"snapshot_id,omitempty"`
	FilesNew            uint64    `json:"files_new"`
	FilesChanged        uint64    `json:"files_changed"`
	FilesUnmodified     uint64    `json:"files_unmodified"`
	DirsNew             uint64    `json:"dirs_new"`
	DirsChanged         uint64    `json:"dirs_changed"`
	DirsUnmodified      uint64    `json:"dirs_unmodified"`
	DataAdded           uint64    `json:"data_added"`        // bytes before compression
	DataAddedPacked     uint64    `json:"data_added_packed"` // bytes in the repository
	TotalFilesProcessed uint64    `json:"total_files_processed"`
	TotalBytesProcessed uint64    `json:"total_bytes_processed"`
	BackupStart         time.Time `json:"backup_start"`
	BackupEnd           time.Time `json:"backup_end"`
}

// Progress is how far restic is.
type Progress struct {
	FilesDone, FilesTotal uint64
	BytesDone, BytesTotal uint64
	Current               string // one of the files being worked on
}

// BackupSpec says what to store.
type BackupSpec struct {
	// Dir is the working directory: always the parent of the root, so that the same
	// tree finds its parent wherever it is read from.
	Dir string
	// Targets are relative to Dir. They are taken literally.
	Targets []string
	// Exclude lists absolute globs: path.Match syntax, where "**" also stands for any
	// number of folders, and what matches is left out with all below it. A caller
	// escapes what is literal.
	Exclude []string
	Tags    []string
	// Parent is the snapshot id to compare with; empty: none (everything is read).
	Parent string
	// DryRun reads and compares but stores nothing; the Summary has no snapshot id.
	DryRun bool
	// NoScan spares the walk by which restic finds out how much there is: Progress
	// then has no totals.
	NoScan bool
	// OnProgress may be nil.
	OnProgress func(Progress)
}

// CommandSpec says which command's standard output to store.
type CommandSpec struct {
	Command []string
	// Env is added to the command's environment ("NAME=value"), which is ocbackup's
	// own otherwise: restic's credentials are not in it. The values are secrets.
	Env      []string
	Filename string // the name that the output gets in the snapshot, without folders
	Tags     []string
	// OnProgress may be nil.
	OnProgress func(Progress)
}

// RestoreSpec says what to restore, and where to.
type RestoreSpec struct {
	Snapshot string // id
	// Subfolder restores only what is below it, straight into Target; empty: all.
	// Owner, mode, times and xattrs of the subfolder itself are not restored: restic
	// leaves Target's own alone.
	Subfolder string
	Target    string
	// Include lists restic's patterns, which are matched with paths below Subfolder;
	// empty: all.
	Include []string
	// Delete removes what is in the target but not in the snapshot.
	Delete bool
	// Overwrite is always, if-changed, if-newer, never; empty: always.
	Overwrite string
	Verify    bool // read everything back and compare
	DryRun    bool
	// OnProgress may be nil.
	OnProgress func(Progress)
}

// RestoreSummary is what restic says of a restore that ended.
type RestoreSummary struct {
	TotalFiles    uint64 `json:"total_files"`
	FilesRestored uint64 `json:"files_restored"`
	FilesSkipped  uint64 `json:"files_skipped"`
	FilesDeleted  uint64 `json:"files_deleted"`
	TotalBytes    uint64 `json:"total_bytes"`
	BytesRestored uint64 `json:"bytes_restored"`
}

// CheckSpec says how deep a check goes.
type CheckSpec struct {
	// ReadData is empty (structure only), "n/t" or "x%".
	ReadData string
	// OnProgress may be nil. Files are snapshots first, then pack files.
	OnProgress func(Progress)
}

// CheckResult is what a check found. Errors is empty when the repository is sound.
type CheckResult struct {
	Errors []string
	// Advice is how restic says that the damage is to be mended.
	Advice []string
}

// Repo is one restic repository. Its methods may be called from several goroutines.
type Repo struct {
	opt Options
	// deviceFree tells that restic can leave out the device numbers of files.
	deviceFree bool
}

// New returns the repository that opt describes. Nothing is run or opened yet.
// Relative paths are taken from the present working directory.
func New(opt Options) *Repo {
	if strings.ContainsRune(opt.Binary, '/') {
		opt.Binary = paths.Absolute(opt.Binary)
	}
	if opt.Binary == "" {
		opt.Binary = "restic"
	}
	opt.Location = absoluteLocation(opt.Location)
	opt.PasswordFile = paths.Absolute(opt.PasswordFile)
	opt.CacheDir = paths.Absolute(opt.CacheDir)
	opt.TempDir = paths.Absolute(opt.TempDir)
	return &Repo{opt: opt}
}
