package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

const (
	spaceID   = "d8c4bbbd-9716-4071-aad4-1e2485d02d93"
	spaceName = "Marketing"
	instance  = "cloud.example.com"
)

var deleted = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

// world is a space of an instance, and the repository and pool that sets of it go to.
type world struct {
	t       *testing.T
	driver  opencloud.Driver
	restic  string
	dir     string
	users   string // the users root on disk
	pool    string
	repo    *repo.Repo
	state   string
	nodes   []catalog.Node
	held    map[string][]byte // what the disk or the bucket holds, by Node.At
	sets    int
	roots   []manifest.Root            // of the newest set
	listing map[string]s3mirror.Object // the inventory; nil: what held says
}

// newWorld makes a space with a file in a folder, a version of it, a trash item, an empty
// file, one with an odd name and one that is still being processed.
func newWorld(t *testing.T, driver opencloud.Driver) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, driver: driver, restic: "0.19", dir: dir, users: filepath.Join(dir, "data", "users"), pool: filepath.Join(dir, "pool"),
		state: filepath.Join(dir, "state"), held: map[string][]byte{},
	}
	w.write("password", []byte("correct horse\n"))
	if err := os.CopyFS(filepath.Join(dir, "repo"), os.DirFS("../repo/testdata/repo")); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"data", "index", "locks", "snapshots"} {
		w.mkdir("repo/" + d)
	}
	w.open("0.19")
	w.folder("/offers")
	w.file("/offers/offer.odt", 200_000)
	w.file("/offers/terms.txt", 1000)
	w.file("/line\nbreak \xff.txt", 700)
	w.file("/same a", 500)
	w.file("/same b", 500)
	w.nodes = append(w.nodes, catalog.Node{Kind: catalog.KindFile, Space: spaceID, Path: "/empty", ID: nodeID("/empty")})
	w.add(catalog.Node{Kind: catalog.KindVersion, Path: "/offers/offer.odt", Version: "2026-11-01T10:00:00Z"}, 900)
	w.add(catalog.Node{Kind: catalog.KindFile, Path: "/old.txt", Trash: "k1", Item: true, Deleted: deleted}, 800)
	w.add(catalog.Node{Kind: catalog.KindFile, Path: "/upload.bin", Pending: "u1"}, 600)
	return w
}

// open opens the repository with another restic and an empty cache.
func (w *world) open(version string) {
	w.restic = version
	cache := filepath.Join(w.dir, "cache-"+fmt.Sprint(rand.Uint32()))
	w.repo = repo.New(repo.Options{
		Binary: env.Restic(w.t, version), Location: filepath.Join(w.dir, "repo"), PasswordFile: filepath.Join(w.dir, "password"),
		Host: instance, CacheDir: cache,
	})
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Join(w.dir, name), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name string, data []byte) {
	w.t.Helper()
	if old, err := os.ReadFile(filepath.Join(w.dir, name)); err == nil && bytes.Equal(old, data) {
		return // its times stay what they are
	}
	w.mkdir(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// nodeID is an id made of a name.
func nodeID(name string) string {
	x := sha256.Sum256([]byte(name))
	h := hex.EncodeToString(x[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}

func noise(size int) []byte {
	b := make([]byte, size)
	x := rand.NewChaCha8([32]byte{byte(size), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	_, _ = x.Read(b)
	return b
}

func (w *world) folder(path string) {
	w.nodes = append(w.nodes, catalog.Node{Kind: catalog.KindFolder, Space: spaceID, Path: path, ID: nodeID(path)})
}

func (w *world) file(path string, size int) {
	w.add(catalog.Node{Kind: catalog.KindFile, Path: path}, size)
}

// add adds a node with content, where its driver keeps it.
func (w *world) add(n catalog.Node, size int) {
	b := noise(size)
	s1, m5 := sha1.Sum(b), md5.Sum(b)
	n.Space, n.ID, n.Size, n.SHA1, n.MD5 = spaceID, nodeID(n.Path), int64(size), hex.EncodeToString(s1[:]), hex.EncodeToString(m5[:])
	n.Blob = nodeID(n.Path + n.Version + n.Trash)
	switch {
	case w.driver == opencloud.Decomposed:
		n.At = spaceDir(w.driver) + "/blobs/" + scatter(n.Blob)
	case w.driver == opencloud.DecomposedS3:
		n.At = spaceID + "/" + scatter(n.Blob)
	case n.Kind == catalog.KindVersion:
		n.At = spaceDir(w.driver) + "/.oc-nodes/" + scatter(n.ID) + ".REV." + n.Version
	case n.Trash != "":
		n.At = spaceDir(w.driver) + "/.Trash/files/" + n.Trash + ".trashitem"
	default:
		n.At = spaceDir(w.driver) + n.Path
	}
	w.nodes = append(w.nodes, n)
	w.held[n.At] = b
}

func spaceDir(d opencloud.Driver) string {
	if d == opencloud.Posix {
		return "projects/" + spaceID
	}
	return "spaces/" + spaceID[:2] + "/" + spaceID[2:]
}

// at is where the content of a node lies: "PATH", "PATH@version" or "PATH@trash".
func (w *world) at(name string) string {
	w.t.Helper()
	path, kind, _ := strings.Cut(name, "@")
	for _, n := range w.nodes {
		if n.Path == path && (n.Kind == catalog.KindVersion) == (kind == "version") && (n.Trash != "") == (kind == "trash") {
			return n.At
		}
	}
	w.t.Fatalf("there is no node %s", name)
	return ""
}

// disk writes the users root.
func (w *world) disk() {
	w.t.Helper()
	w.mkdir("data/users/" + spaceDir(w.driver))
	for at, b := range w.held {
		if w.driver != opencloud.DecomposedS3 {
			w.write("data/users/"+at, b)
		}
	}
	if w.driver == opencloud.Posix {
		return
	}
	for _, n := range w.nodes {
		file := "data/users/" + spaceDir(w.driver) + "/nodes/" + scatter(n.ID)
		switch {
		case n.Kind == catalog.KindVersion:
			file += ".REV." + n.Version
		case n.Item:
			file += ".T." + n.Deleted.Format(time.RFC3339Nano)
		}
		w.write(file+".mpk", []byte("metadata of "+n.Path+n.Version))
	}
}

// store stores a set of what is there.
func (w *world) store(change ...func(m *manifest.Manifest, files map[string]string)) string {
	w.t.Helper()
	w.disk()
	m := w.manifest()
	files := map[string]string{}
	config := filepath.Join(w.dir, "data", "config")
	w.write("data/config/opencloud.yaml", []byte("secrets\n"))
	blobs := []string{"spaces/" + spaceID[:2] + "/" + spaceID[2:] + "/blobs"}
	w.root(m, opencloud.Root{Name: "config", Components: []opencloud.Component{opencloud.Config}, Path: config}, nil, []string{"config"})
	switch w.driver {
	case opencloud.Posix:
		w.root(m, opencloud.Root{Name: "users", Components: []opencloud.Component{opencloud.Metadata, opencloud.Blobs}, Path: w.users}, nil, []string{"users"})
	default:
		w.root(m, opencloud.Root{Name: "metadata", Components: []opencloud.Component{opencloud.Metadata}, Path: w.users},
			[]string{w.users + "/spaces/*/*/blobs"}, []string{"users"})
		if w.driver == opencloud.Decomposed {
			w.root(m, opencloud.Root{Name: "blobs", Components: []opencloud.Component{opencloud.Blobs}, Path: w.users}, nil, []string{"users/" + blobs[0]})
		} else {
			files[manifest.InventoryFile] = w.inventory(m)
		}
	}
	w.roots = m.Roots
	return w.commit(m, files, change...)
}

// again stores another set of the same roots, and without a bucket.
func (w *world) again(change ...func(m *manifest.Manifest, files map[string]string)) string {
	w.t.Helper()
	m := w.manifest()
	m.Roots = slices.Clone(w.roots)
	return w.commit(m, map[string]string{}, change...)
}

func (w *world) manifest() *manifest.Manifest {
	w.sets++
	return &manifest.Manifest{
		Format: manifest.Format, Set: fmt.Sprintf("20261123T02150%dZ-7f3a", w.sets), Instance: instance, Full: true,
		Layout: opencloud.Layout{Driver: w.driver, UsersRoot: w.users},
	}
}

func (w *world) commit(m *manifest.Manifest, files map[string]string, change ...func(m *manifest.Manifest, files map[string]string)) string {
	w.t.Helper()
	files[manifest.CatalogFile] = w.catalog(m)
	m.Certificate = &manifest.Proof{Nodes: m.Catalog.Nodes()}
	for _, f := range change {
		f(m, files)
	}
	if _, err := manifest.Store(w.t.Context(), w.repo, m, manifest.Beside{Paths: files}); err != nil {
		w.t.Fatal(err)
	}
	return m.Set
}

func (w *world) root(m *manifest.Manifest, root opencloud.Root, exclude, targets []string) {
	w.t.Helper()
	sum, err := w.repo.Backup(w.t.Context(), repo.BackupSpec{
		Dir: filepath.Join(w.dir, "data"), Targets: targets, Exclude: exclude, Tags: []string{manifest.SetTag(m.Set), manifest.RootTag(root.Name)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.Roots = append(m.Roots, manifest.Root{
		Root: root, Real: root.Path, Snapshot: sum.SnapshotID, Entry: filepath.Base(root.Path), Dir: true,
		Files: sum.TotalFilesProcessed, Bytes: sum.TotalBytesProcessed,
	})
}

// catalog writes the catalog.
func (w *world) catalog(m *manifest.Manifest) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "catalog.jsonl")
	c, err := catalog.Create(path, w.driver)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := c.Section(catalog.Space{Kind: catalog.KindSpace, ID: spaceID, Name: spaceName, Type: "project", Dir: spaceDir(w.driver)})
	if err != nil {
		w.t.Fatal(err)
	}
	nodes := slices.Clone(w.nodes)
	slices.SortFunc(nodes, func(a, b catalog.Node) int { return catalog.Compare(&a, &b) })
	for i := range nodes {
		if err := s.Add(&nodes[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		w.t.Fatal(err)
	}
	sum, err := c.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	m.Catalog = &sum
	return path
}

// object is the record of an object in an inventory.
func object(key string, b []byte) s3mirror.Object {
	s1, m5 := sha1.Sum(b), md5.Sum(b)
	return s3mirror.Object{Key: key, Size: int64(len(b)), SHA1: hex.EncodeToString(s1[:]), MD5: hex.EncodeToString(m5[:])}
}

// inventory brings the objects into the pool, and writes the inventory.
func (w *world) inventory(m *manifest.Manifest) string {
	w.t.Helper()
	p := w.openPool()
	info, err := p.Create(w.t.Context(), s3mirror.Owner{Instance: instance, Repository: "r"})
	if err != nil {
		w.t.Fatal(err)
	}
	list := map[string]s3mirror.Object{}
	for key, b := range w.held {
		w.write("pool/blobs/"+key, b)
		list[key] = object(key, b)
	}
	if w.listing != nil {
		list = w.listing
	}
	var data []byte
	for _, key := range slices.Sorted(maps.Keys(list)) {
		line, err := json.Marshal(list[key])
		if err != nil {
			w.t.Fatal(err)
		}
		data = append(append(data, line...), '\n')
	}
	digest := sha256.Sum256(data)
	m.Bucket = &manifest.Bucket{
		Name: "b", Pool: manifest.Pool{Location: w.pool, ID: info.ID}, Objects: uint64(len(list)), Digest: hex.EncodeToString(digest[:]),
	}
	path := filepath.Join(w.t.TempDir(), "inventory")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) openPool() *s3mirror.Pool {
	w.t.Helper()
	p, err := s3mirror.OpenPool(w.t.Context(), s3mirror.Target{Location: w.pool}, s3mirror.Settings{StateDir: w.state})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// options are those of a Run that reads a part.
func (w *world) options(part string) Options {
	w.t.Helper()
	p, err := ParsePart(part)
	if err != nil {
		w.t.Fatal(err)
	}
	return Options{
		Repo: w.repo, Part: p, StateDir: w.state, Report: progress.Discard,
		Pool: func(context.Context, *manifest.Manifest) (*s3mirror.Pool, error) { return w.openPool(), nil },
	}
}

// verify verifies the newest set.
func (w *world) verify(part string) *Report {
	w.t.Helper()
	rep, err := Run(w.t.Context(), w.options(part))
	if err != nil {
		w.t.Fatal(err)
	}
	return rep
}

// lossesOf is what a certificate says is lost, by class: "CLASS PATH", with "@version" and
// "@trash".
func lossesOf(c *certificate.Certificate) (list []string) {
	if c == nil {
		return []string{"no certificate"}
	}
	for _, f := range c.Findings {
		if !f.Fatal {
			continue
		}
		path := f.Path
		switch {
		case f.Trash != "":
			path += "@trash"
		case f.Version != "":
			path += "@version"
		}
		list = append(list, string(f.Class)+" "+path)
		if f.SpaceName != spaceName {
			list = append(list, "a finding without the name of its space: "+cmp.Or(f.SpaceName, f.Space))
		}
	}
	slices.Sort(list)
	return list
}

// wants fails the test unless exactly this is lost, and the report is sound exactly when
// nothing is.
func (w *world) wants(rep *Report, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	c := rep.Sets[len(rep.Sets)-1].Certificate
	if got := lossesOf(c); !slices.Equal(got, want) {
		w.t.Errorf("lost:\n%q\nwant:\n%q", got, want)
	}
	if c != nil && c.Fatal != uint64(len(want)) {
		w.t.Errorf("%d are fatal, want %d", c.Fatal, len(want))
	}
	if rep.Sound != (len(want) == 0) {
		text, _ := json.MarshalIndent(rep, "", " ")
		w.t.Errorf("sound: %v\n%s", rep.Sound, text)
	}
}

// contains makes sure that one of the lines holds a text.
func contains(t *testing.T, lines []string, text string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, text) }) {
		t.Errorf("%q is not in %q", text, lines)
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// packs are the paths of the repository's packs.
func (w *world) packs() []string {
	w.t.Helper()
	list, err := filepath.Glob(filepath.Join(w.dir, "repo/data/*/*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}
