package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// recordFormat is the number of the format of records: readers refuse any other.
const recordFormat = 1

// Record describes the snapshots of one set. It is written before they are made, so that
// whatever happens then, they are found again.
type Record struct {
	Format   int                   `json:"format"`
	Set      string                `json:"set"`
	Instance string                `json:"instance"`
	Created  time.Time             `json:"created"`
	Until    time.Time             `json:"until,omitzero"` // zero: not kept
	Volumes  []Volume              `json:"volumes"`
	Roots    map[string]FrozenRoot `json:"roots"`
}

// FrozenRoot is where a root is found.
type FrozenRoot struct {
	Driver Driver `json:"driver"`
	Path   string `json:"path"`   // as it was on the live system
	Volume string `json:"volume"` // name of the snapshot
	Rel    string `json:"rel"`    // its path in that
}

// used tells whether a root lies on the volume.
func (r Record) used(v Volume) bool {
	for _, f := range r.Roots {
		if f.Volume == v.Name {
			return true
		}
	}
	return false
}

// volumes returns those that are used, or those that are not.
func (r Record) volumes(used bool) []Volume {
	return slices.DeleteFunc(slices.Clone(r.Volumes), func(v Volume) bool { return r.used(v) != used })
}

// only returns a record of nothing but one of its volumes.
func (r Record) only(v Volume) Record {
	r.Volumes = []Volume{v}
	r.Roots = maps.Clone(r.Roots)
	maps.DeleteFunc(r.Roots, func(_ string, f FrozenRoot) bool { return f.Volume != v.Name })
	return r
}

// Kept returns the records of the snapshots that are kept on this host, the oldest first,
// also of those whose time is over. Beside an error it returns those that could be read.
func Kept(stateDir string) ([]Record, error) {
	all, _, err := records(stateDir)
	return slices.DeleteFunc(all, func(r Record) bool { return r.Until.IsZero() }), err
}

// Left returns the records of snapshots that are not kept, the oldest first: of a run that is
// under way, or of runs that died. Beside an error it returns those that could be read.
func Left(stateDir string) ([]Record, error) {
	all, _, err := records(stateDir)
	return slices.DeleteFunc(all, func(r Record) bool { return !r.Until.IsZero() }), err
}

// records reads all records, the oldest set first. Of those that can't be read, it returns
// the ids of the sets.
func records(stateDir string) (all []Record, unreadable []string, err error) {
	dir := filepath.Join(stateDir, "snapshots")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, e := range entries {
		set, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(set, ".") {
			continue
		}
		r, err := readRecord(filepath.Join(dir, e.Name()))
		if err != nil {
			unreadable = append(unreadable, set)
			errs = append(errs, err)
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Set, b.Set) })
	return all, unreadable, errors.Join(errs...)
}

func readRecord(file string) (Record, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err = json.Unmarshal(data, &r); err == nil && r.Format != recordFormat {
		err = fmt.Errorf("format %d, this version of ocbackup reads %d", r.Format, recordFormat)
	}
	if err != nil {
		return Record{}, fmt.Errorf("record of snapshots %s: %w", file, err)
	}
	return r, nil
}

func recordFile(stateDir, set string) string {
	return filepath.Join(stateDir, "snapshots", set+".json")
}

func writeRecord(stateDir, set string, data []byte) error {
	file := recordFile(stateDir, set)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(stateDir); err != nil {
		return err
	}
	return atomicfile.Write(file, append(data, '\n'), 0o600)
}
