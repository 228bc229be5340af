package manifest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/repo"
)

var setID = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-f]{4}$`)

// NewSetID returns the id of a set that was begun at t: the UTC time and four
// random hex digits, 20261123T021500Z-7f3a. Ids sort by time.
func NewSetID(t time.Time) string {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return t.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:])
}

// SetTag is the restic tag that every snapshot of a set carries.
func SetTag(set string) string { return "set=" + set }

// RootTag is the restic tag that every snapshot of a root carries.
func RootTag(root string) string { return "root=" + root }

// Tag is the restic tag of the snapshot that holds a manifest.
const Tag = "manifest"

// tagged returns the value of a NAME=value tag.
func tagged(tags []string, name string) string {
	for _, t := range tags {
		if v, ok := strings.CutPrefix(t, name+"="); ok {
			return v
		}
	}
	return ""
}

// NotFoundError says that no set has this id.
type NotFoundError struct {
	ID       string
	Instance string
	Sets     int // how many sets there are
}

// Error tells what was looked for.
func (e *NotFoundError) Error() string {
	of := ""
	if e.Instance != "" {
		of = fmt.Sprintf(" of instance %q", e.Instance)
	}
	switch {
	case e.Sets == 0:
		return "the repository holds no set" + of
	case e.ID == Latest:
		return fmt.Sprintf("none of the %d sets%s is complete, consistent and undamaged", e.Sets, of)
	}
	return fmt.Sprintf("no set %q among the %d sets%s", e.ID, e.Sets, of)
}

// AmbiguousError says that a prefix matches more than one set.
type AmbiguousError struct {
	Prefix string
	IDs    []string
}

// Error lists the sets.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q matches %d sets: %s", e.Prefix, len(e.IDs), strings.Join(e.IDs, ", "))
}

// InstancesError says that the repository holds sets of several instances, so that
// it must be told which one is meant.
type InstancesError struct{ Names []string }

// Error lists the instances.
func (e *InstancesError) Error() string {
	return "the repository holds sets of several instances: " + strings.Join(e.Names, ", ")
}

// Failure turns the error that says that a set is not to be found into what a person
// is told: with fail.Usage, and what to do. Other errors stay as they are.
func Failure(err error) error {
	var (
		unknown   *NotFoundError
		ambiguous *AmbiguousError
		several   *InstancesError
	)
	switch {
	case errors.As(err, &unknown) && unknown.Sets == 0:
		return fail.Wrap(fail.Usage, err, "", "make one with \"ocbackup backup\", or correct the repository's location or --instance")
	case errors.As(err, &unknown) && unknown.ID == Latest:
		return fail.Wrap(fail.Usage, err, "", "see \"ocbackup list\"; a set that is named is taken as it is")
	case errors.As(err, &unknown):
		return fail.Wrap(fail.Usage, err, "", "see \"ocbackup list\"")
	case errors.As(err, &ambiguous):
		return fail.Wrap(fail.Usage, err, "", "give more of the id")
	case errors.As(err, &several):
		return fail.Wrap(fail.Usage, err, "", "choose one with --instance NAME, or name a set")
	}
	return err
}

// SetOf returns the id of the set that a snapshot belongs to, "" for none.
func SetOf(s repo.Snapshot) string {
	if id := tagged(s.Tags, "set"); setID.MatchString(id) {
		return id
	}
	return ""
}
