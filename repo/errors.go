package repo

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// Errors that tell why the repository can't be used. What wraps them says where
// it is and why.
var (
	ErrNoRepository  = errors.New("there is no restic repository at this location")
	ErrWrongPassword = errors.New("wrong password for the repository")
	ErrLocked        = errors.New("the repository is locked by another process")
	ErrExists        = errors.New("there is a restic repository at this location already")
	ErrDamaged       = errors.New("the data in the repository are damaged")
	ErrUnreachable   = errors.New("the repository cannot be reached")
	ErrNoPassword    = errors.New("no password is given for the repository (a password file or command, or RESTIC_PASSWORD_FILE)")
)

// NotInstalledError says that restic is not there.
type NotInstalledError struct{ Binary string }

// Error names the program that was looked for.
func (e *NotInstalledError) Error() string { return e.Binary + ": no such program" }

// TooOldError says that restic is older than what is needed.
type TooOldError struct {
	Binary string
	Have   Version
	Need   Version // MinVersion, or what an option asks for
	For    string  // the option; empty: ocbackup itself
}

// Error names both versions.
func (e *TooOldError) Error() string {
	s := fmt.Sprintf("%s is version %s; %s or newer is needed", e.Binary, e.Have, e.Need)
	if e.For != "" {
		s += " for " + e.For
	}
	return s
}

// IncompleteError says that restic could not read all of its source (exit code 3),
// or that it read fewer files than there are.
type IncompleteError struct {
	Items []Item // at most 100
	More  int    // how many items were left off
}

// Error names the first items.
func (e *IncompleteError) Error() string { return itemsText("read", e.Items, e.More) }

// RestoreError says that restic could not restore or verify everything.
type RestoreError struct {
	Items []Item // at most 100
	More  int    // how many items were left off
}

// Error names the first items.
func (e *RestoreError) Error() string { return itemsText("restored", e.Items, e.More) }

// DamagedSnapshotsError says that snapshots are in the repository but cannot be
// loaded, so that nobody knows what they are. An Item's Path is a snapshot's id.
type DamagedSnapshotsError struct{ Items []Item }

// Error names the first snapshots.
func (e *DamagedSnapshotsError) Error() string {
	return "snapshots: " + itemsText("loaded", e.Items, 0)
}

// Item is one thing that could not be read, and why.
type Item struct {
	Path string `json:"path"`
	Err  string `json:"error"`
}

// itemsText says how many items could not be read (or what verb says), and names
// the first three.
func itemsText(verb string, items []Item, more int) string {
	n := len(items) + more
	s := fmt.Sprintf("%d items could not be %s", n, verb)
	if n == 1 {
		s = "1 item could not be " + verb
	}
	for i, it := range items {
		if i == 3 {
			break
		}
		s += fmt.Sprintf("; %s: %s", it.Path, it.Err)
	}
	return s
}

// maxItems is how many items an error carries: a tree that lost its disk has millions.
const maxItems = 100

// itemList collects items. One path counts once among those that are kept.
type itemList struct {
	items []Item
	more  int
}

func (l *itemList) add(path, err string) {
	for _, it := range l.items {
		if it.Path == path {
			return
		}
	}
	if len(l.items) == maxItems {
		l.more++
		return
	}
	l.items = append(l.items, Item{Path: path, Err: err})
}

// restic's exit codes (doc/075_scripting.rst).
const (
	exitFatal         = 1
	exitIncomplete    = 3
	exitNoRepository  = 10
	exitLocked        = 11
	exitWrongPassword = 12
)

// explain turns the way restic ended into an error: x is how it ended, words is
// why, in its own words and without secrets.
func (r *Repo) explain(x *proc.ExitError, words string) error {
	at := r.Location()
	switch x.Code {
	case exitNoRepository:
		return fmt.Errorf("%w: %s", ErrNoRepository, at)
	case exitWrongPassword:
		return fmt.Errorf("%w %s", ErrWrongPassword, at)
	case exitLocked:
		return fmt.Errorf("%w: %s: %s", ErrLocked, at, lockHolder(words))
	}
	switch {
	case x.Signal != 0:
	case strings.Contains(words, "config file already exists"):
		return fmt.Errorf("%w: %s", ErrExists, at)
	case strings.Contains(words, "an empty password is not allowed"):
		return ErrNoPassword
	case strings.Contains(words, "unable to open repository at"),
		strings.Contains(words, "unable to open config file"),
		strings.Contains(words, "create repository at"):
		return unreachable(at, words)
	}
	exit := &proc.ExitError{Name: x.Name, Code: x.Code, Signal: x.Signal, Stderr: words}
	if x.Signal == 0 && x.Code == exitFatal && damageText.MatchString(words) {
		return fmt.Errorf("%w: %w", ErrDamaged, exit)
	}
	return exit
}

// damageText is how restic says that what it reads is not what was stored, or gone
// (internal/repository: checks of packs, blobs, indexes, trees; the backends' words
// for a file that is not there).
var damageText = regexp.MustCompile(`ciphertext verification failed|invalid data returned|returned invalid hash|file is too short|` +
	`plaintext is too short|blob .*not found|id [0-9a-f]{64} not found in repository|not found in (?:the )?index|hash does not match|` +
	`invalid input: magic number mismatch|tree nodes? (?:is|are) not ordered|` +
	`<(?:data|index|snapshot)/[0-9a-f]+>\)?:.*` + goneText + `|` + goneText + `[^\n]*\n(?:ReadFull|LoadRaw|Load)\(<`)

// goneText is how backends say that a file is not there.
const goneText = `(?:no such file or directory|does not exist|[Nn]ot ?[Ff]ound|NoSuchKey|\(404\))`

func unreachable(at, why string) error { return fmt.Errorf("%w: %s: %s", ErrUnreachable, at, why) }

// lockText is how restic says who holds a lock (internal/repository, lock file):
// "repository is already locked exclusively by PID 17011 on vm by root (UID 0, GID 0)
// lock was created at 2026-11-23 02:53:11 (1.455743884s ago)".
var lockText = regexp.MustCompile(`already locked (?:exclusively )?(by [^\n]+)(?:\n(lock was created at [^\n]+))?`)

// lockHolder finds who holds the lock in restic's words.
func lockHolder(words string) string {
	m := lockText.FindStringSubmatch(words)
	switch {
	case m == nil:
		return words
	case m[2] == "":
		return m[1]
	}
	return m[1] + ", " + m[2]
}
