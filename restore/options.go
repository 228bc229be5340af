package restore

import (
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// Options say what to restore, where to, and how careful to be.
type Options struct {
	// Config is the configuration of the instance; nil on a bare host, where all of
	// it comes from the set.
	Config *config.Config
	// Bare says, on a bare host, how the repository was opened. It becomes part of
	// the configuration that is written back to ConfigPath, if there is none.
	Bare       config.Repository
	ConfigPath string

	Repo *repo.Repo
	// StateDir takes precedence over that of the configuration; empty: the
	// configuration's.
	StateDir string

	// Set is "latest" (or empty), a set's id, or a prefix that only one set has.
	Set string
	// Components limits the restore; empty: the whole instance.
	Components []opencloud.Component
	Maps       []Mapping

	// Target restores below this directory, beside the instance, which is not touched.
	Target string
	// InPlace writes onto the old data while the instance is stopped, instead of
	// staging the new data beside it. It takes no second copy of the space, and
	// can't be undone.
	InPlace bool

	// FromRepository takes all from the repository, also what is kept on this host in
	// snapshots of its file systems.
	FromRepository bool

	// Yes agrees to replacing what is there. Without it, Confirm is asked.
	Yes bool
	// Confirm asks a person to type a word; it gives false when nobody can be asked.
	Confirm func(question, word string) (bool, error)
	// NoStart leaves the instance stopped.
	NoStart bool
	// NoRollback leaves the new data in place even when the server does not come up
	// with it.
	NoRollback bool
	// AllowVersionMismatch lets a server that is newer than the set go on.
	AllowVersionMismatch bool
	// KeepStaging leaves what was staged in place when the restore fails.
	KeepStaging bool

	// BucketTarget is where the bucket's objects go: a directory's absolute path, or
	// s3:https://host/bucket. Empty: to the bucket of the instance.
	BucketTarget string
	// BucketEnvFile holds the access keys of the bucket that objects go to.
	BucketEnvFile string
	// PoolAt, PoolEnvFile and PoolPasswordFile take precedence over what the
	// configuration says of the pool.
	PoolAt, PoolEnvFile, PoolPasswordFile string
	// DeleteExtra deletes, when all is restored, the objects of the bucket that the set
	// does not have.
	DeleteExtra bool
	// AcceptDamagedBlobs goes on without the objects that the pool no longer has.
	AcceptDamagedBlobs bool

	// DryRun only finds out what would be done.
	DryRun bool

	Report progress.Reporter
}

// The ways in which data is restored.
const (
	ModeStaged  = "staged"   // beside the old data, then exchanged
	ModeInPlace = "in-place" // onto the old data
	ModeBeside  = "target"   // below another directory; the instance is not touched
	ModeBucket  = "bucket"   // objects of the bucket alone; the instance is not touched
	ModeUndo    = "undo"     // an earlier restore was taken back
)

// Result is what a restore has done, or with DryRun would do. docs/json.md
// describes it.
type Result struct {
	Set        string                `json:"set"`
	Instance   string                `json:"instance"`
	Mode       string                `json:"mode"`
	DryRun     bool                  `json:"dry_run,omitempty"`
	Full       bool                  `json:"full"` // the whole instance
	Components []opencloud.Component `json:"components"`
	OpenCloud  string                `json:"opencloud"` // the version the set was taken from
	Started    time.Time             `json:"started"`
	Seconds    float64               `json:"seconds"`

	Roots []Restored `json:"roots"`
	// Replaced lists what was there before and gave way.
	Replaced []Replaced `json:"replaced,omitempty"`
	// Bucket is set where the bucket is part of the restore.
	Bucket *RestoredBucket `json:"bucket,omitempty"`

	// Running tells whether the instance runs, and is ready, at the end.
	Running bool `json:"running"`
	// WasRunning tells whether it ran, as far as its manager knew, before.
	WasRunning bool `json:"was_running"`
	// Downtime is how long the instance was away, in seconds.
	Downtime float64 `json:"downtime_s"`

	// Aside lists the directories that hold the old data; Undo is the command that
	// brings it back, Delete the one that does away with it.
	Aside  []string `json:"aside,omitempty"`
	Undo   string   `json:"undo_command,omitempty"`
	Delete string   `json:"delete_command,omitempty"`

	// Reindex is "not needed", "done", "pending" (still to be done) or "would" (dry run);
	// ReindexWhy says why it was called for.
	Reindex    string `json:"reindex"`
	ReindexWhy string `json:"reindex_why,omitempty"`
	// ReindexBy is the command that builds it, as long as that is pending.
	ReindexBy string `json:"reindex_command,omitempty"`

	// Not lists what of the set was not restored, with how to get it.
	Not []string `json:"not_restored,omitempty"`
	// Notes are things that somebody should know or look at.
	Notes []string `json:"notes,omitempty"`
}

// The values of Result.Reindex.
const (
	ReindexNotNeeded = "not needed"
	ReindexDone      = "done"
	ReindexPending   = "pending"
	ReindexWould     = "would"
)

// Restored is a root that was restored.
type Restored struct {
	Name string `json:"name"`
	Path string `json:"path"` // where it is now
	// From is FromRepository, or the driver of the snapshot on this host that it is
	// copied from.
	From  string `json:"from"`
	Files uint64 `json:"files"`
	Bytes uint64 `json:"bytes"`
}

// RestoredBucket is what a restore has done, or with DryRun would do, to an S3 bucket.
type RestoredBucket struct {
	Destination string `json:"destination"` // the bucket or the directory that the objects went to
	// Objects and Bytes are what the set holds; Restored of them were missing, or had
	// another content, as Differing had.
	Objects       uint64 `json:"objects"`
	Bytes         uint64 `json:"bytes"`
	Restored      uint64 `json:"restored"`
	RestoredBytes uint64 `json:"restored_bytes"`
	Differing     uint64 `json:"differing"`
	// Extra is what was there and is not in the set. Deleted is what of it was deleted.
	Extra        uint64 `json:"extra"`
	ExtraBytes   uint64 `json:"extra_bytes"`
	Deleted      uint64 `json:"deleted"`
	DeletedBytes uint64 `json:"deleted_bytes"`
	// Findings are objects that could not be restored as they were.
	Findings []manifest.Finding `json:"findings,omitempty"`
}

// Replaced is something that was in the way.
type Replaced struct {
	Root    string `json:"root"`
	Path    string `json:"path"`
	Entries int    `json:"entries"` // in the directory itself; 1 for a file
	// Files lists what of the directory gives way, where that is not all of it.
	Files []string `json:"files,omitempty"`
	// Aside is the directory that the old data is kept in; empty: nowhere.
	Aside string `json:"aside,omitempty"`
}

// what names what gives way.
func (r Replaced) what() string {
	if len(r.Files) > 0 && len(r.Files) <= 8 {
		return strings.Join(r.Files, ", ")
	}
	return r.Path
}

// String names what gave way, for people.
func (r Replaced) String() string { return r.what() }
