package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/repo"
)

// FileName is the name of the manifest in its snapshot.
const FileName = "manifest.json"

// dir is the folder that holds the files of a manifest snapshot.
const dir = "manifest"

// readers is how many manifests are read at a time: each takes a restic process,
// which spends most of its first second deriving the key.
const readers = 2

// Set is a committed set as the repository has it.
type Set struct {
	ID       string
	Snapshot string    // the restic snapshot of the manifest
	Manifest *Manifest // nil when Err is not
	// Err tells why the manifest can't be used: damaged, or of a format that this
	// version does not know.
	Err error
	// Missing names the roots whose snapshots are gone from the repository.
	Missing []string
}

// Inconsistent tells whether data of users was lost already when the set was made: its
// certificate has fatal findings. It is never taken for the latest.
func (s *Set) Inconsistent() bool {
	return s.Manifest != nil && s.Manifest.Certificate != nil && s.Manifest.Certificate.Fatal > 0
}

// Beside are the files that are stored beside a manifest, by name: Contents of small ones,
// Paths of those that are on disk already.
type Beside struct {
	Contents map[string][]byte
	Paths    map[string]string
	// TempDir takes them until they are stored; empty: the system's. On the file system of
	// Paths nothing is copied.
	TempDir string
}

// Store writes the manifest and the files beside it as the snapshot that commits
// the set, and returns that snapshot's id.
func Store(ctx context.Context, r *repo.Repo, m *Manifest, files Beside) (string, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode manifest: %w", err)
	}
	tmp, err := os.MkdirTemp(files.TempDir, "ocbackup-manifest-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // left-over temporary files are no reason to fail
	if err := os.Mkdir(filepath.Join(tmp, dir), 0o700); err != nil {
		return "", err
	}
	write := func(name string, b []byte) error {
		return os.WriteFile(filepath.Join(tmp, dir, name), b, 0o600)
	}
	if err := write(FileName, append(data, '\n')); err != nil {
		return "", err
	}
	for name, b := range files.Contents {
		if err := write(name, b); err != nil {
			return "", err
		}
	}
	for name, path := range files.Paths {
		if err := linkOrCopy(path, filepath.Join(tmp, dir, name)); err != nil {
			return "", err
		}
	}
	sum, err := r.Backup(ctx, repo.BackupSpec{
		Dir: tmp, Targets: []string{dir},
		Tags: []string{Tag, SetTag(m.Set)},
	})
	if err != nil {
		return "", err
	}
	return sum.SnapshotID, nil
}

// linkOrCopy gives a file a second name, or a copy where that can't be.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// List returns the committed sets, oldest first. Manifests are kept in cacheDir
// ("" for none): snapshots never change, so what was read once stays true. With a
// *repo.DamagedSnapshotsError the sets are those that are left.
func List(ctx context.Context, r *repo.Repo, cacheDir string) ([]Set, error) {
	snaps, err := r.Snapshots(ctx)
	var damaged *repo.DamagedSnapshotsError
	if err != nil && !errors.As(err, &damaged) {
		return nil, err
	}
	sets, readErr := FromSnapshots(ctx, r, snaps, cacheDir)
	if readErr != nil {
		return nil, readErr
	}
	return sets, err
}

// FromSnapshots is List for a caller that has the repository's snapshots already. A
// manifest that is damaged is its set's Err; one that can't be read right now (a
// lock, the network) is an error.
func FromSnapshots(ctx context.Context, r *repo.Repo, snaps []repo.Snapshot, cacheDir string) ([]Set, error) {
	byID := map[string]repo.Snapshot{}
	var sets []Set
	for _, s := range snaps {
		byID[s.ID] = s
		set := SetOf(s)
		if s.HasTag(Tag) && set != "" {
			sets = append(sets, Set{ID: set, Snapshot: s.ID})
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i := range sets {
		g.Go(func() error {
			s := &sets[i]
			var err error
			s.Manifest, s.Err, err = read(gctx, r, s.Snapshot, cacheDir)
			if s.Manifest != nil && s.Manifest.Set != s.ID {
				s.Err = fmt.Errorf("the manifest is damaged: it names set %s", s.Manifest.Set)
			}
			if err != nil {
				return fmt.Errorf("read the manifest of set %s: %w", s.ID, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := range sets {
		s := &sets[i]
		if s.Manifest == nil {
			continue
		}
		for _, root := range s.Manifest.Roots {
			if _, ok := byID[root.Snapshot]; root.Snapshot != "" && !ok {
				s.Missing = append(s.Missing, root.Name)
			}
		}
	}
	sort.Slice(sets, func(i, j int) bool { return sets[i].ID < sets[j].ID })
	return sets, nil
}

// Latest is the name of the newest usable set.
const Latest = "latest"

// Find returns the set that id names: "latest" (or ""), an id, or a prefix of one
// that only one set has, and what PassedOver says. Its error is that of Pick, when it is
// not the repository's. Damaged snapshots elsewhere do not keep it from being found.
func Find(ctx context.Context, r *repo.Repo, cacheDir, id string) (s *Set, passedOver []string, err error) {
	sets, err := List(ctx, r, cacheDir)
	var damaged *repo.DamagedSnapshotsError
	if err != nil && !errors.As(err, &damaged) {
		return nil, nil, err
	}
	if s, err = Pick(sets, id, r.Host()); err != nil {
		return nil, nil, err
	}
	return s, PassedOver(sets, id), nil
}

// Pick is Find for a caller that has the sets already. "latest" is the newest set
// that is full, undamaged, complete and consistent; among the sets of several instances it
// means nothing, unless instance names one. Its error is a *NotFoundError, an
// *AmbiguousError or an *InstancesError, and carries fail.Usage and what to do.
func Pick(sets []Set, id, instance string) (*Set, error) {
	s, err := pick(sets, id, instance)
	return s, Failure(err)
}

func pick(sets []Set, id, instance string) (*Set, error) {
	if id == "" || id == Latest {
		if names := instances(sets); instance == "" && len(names) > 1 {
			return nil, &InstancesError{Names: names}
		}
		for i := len(sets) - 1; i >= 0; i-- {
			if s := &sets[i]; s.Err == nil && s.Manifest.Full && len(s.Missing) == 0 && !s.Inconsistent() {
				return s, nil
			}
		}
		return nil, &NotFoundError{ID: Latest, Instance: instance, Sets: len(sets)}
	}
	var found *Set
	var ids []string
	for i := range sets {
		if sets[i].ID == id {
			return &sets[i], nil
		}
		if strings.HasPrefix(sets[i].ID, id) {
			found = &sets[i]
			ids = append(ids, sets[i].ID)
		}
	}
	switch len(ids) {
	case 0:
		return nil, &NotFoundError{ID: id, Instance: instance, Sets: len(sets)}
	case 1:
		return found, nil
	}
	return nil, &AmbiguousError{Prefix: id, IDs: ids}
}

// PassedOver lists the newer sets that Pick did not take for the latest because data of
// users is missing in them; none when id names a set. Whoever means the newest is to be told.
func PassedOver(sets []Set, id string) (ids []string) {
	if id != "" && id != Latest {
		return nil
	}
	for i := range sets {
		switch s := &sets[i]; {
		case s.Err != nil || !s.Manifest.Full || len(s.Missing) > 0:
		case s.Inconsistent():
			ids = append(ids, s.ID)
		default:
			ids = nil
		}
	}
	return ids
}

// File returns one of the files beside the manifest.
func File(ctx context.Context, r *repo.Repo, s *Set, name string) ([]byte, error) {
	var b bytes.Buffer
	if err := r.Dump(ctx, s.Snapshot, "/"+dir+"/"+name, &b); err != nil {
		return nil, fmt.Errorf("read %s of set %s: %w", name, s.ID, err)
	}
	return b.Bytes(), nil
}

// Decode reads a manifest. Fields that it does not know are ignored.
func Decode(data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("the manifest is damaged: %w", err)
	}
	if m.Format != Format {
		return nil, fmt.Errorf("the manifest has format %d; this version of ocbackup reads format %d", m.Format, Format)
	}
	if !setID.MatchString(m.Set) || len(m.Roots) == 0 && m.Bucket == nil {
		return nil, errors.New("the manifest is damaged: set id or roots are missing")
	}
	return &m, nil
}

// read returns the manifest of a snapshot, from the cache where it is there and
// sound; or what damage keeps it from being read; or why it can't be read right now.
func read(ctx context.Context, r *repo.Repo, snapshot, cacheDir string) (m *Manifest, damage, err error) {
	cached := ""
	if cacheDir != "" {
		cached = filepath.Join(cacheDir, "manifests", snapshot+".json")
		if data, err := os.ReadFile(cached); err == nil {
			if m, err := Decode(data); err == nil {
				return m, nil, nil
			}
		}
	}
	var b bytes.Buffer
	if err := r.Dump(ctx, snapshot, "/"+dir+"/"+FileName, &b); err != nil {
		if errors.Is(err, repo.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the manifest can't be read: %w", err), nil
		}
		return nil, nil, err
	}
	m, damage = Decode(b.Bytes())
	if damage == nil && cached != "" {
		remember(cached, b.Bytes())
	}
	return m, damage, nil
}

// remember puts a manifest into the cache. It is a convenience: failing to is no error.
func remember(path string, data []byte) {
	if os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	_ = atomicfile.Write(path, data, 0o600)
}

// instances lists the instances that the sets belong to.
func instances(sets []Set) []string {
	var names []string
	for _, s := range sets {
		if s.Manifest != nil && !slices.Contains(names, s.Manifest.Instance) {
			names = append(names, s.Manifest.Instance)
		}
	}
	sort.Strings(names)
	return names
}
