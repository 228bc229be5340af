package extract

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/adler32"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// TestMain runs many tests at a time: restic waits for 200 ms whenever it has taken a lock.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("8") // a number
	}
	os.Exit(env.Main(m))
}

var drivers = []opencloud.Driver{opencloud.Posix, opencloud.Decomposed, opencloud.DecomposedS3}

// eachDriver runs a test with a set of every driver.
func eachDriver(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	for _, d := range drivers {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, d))
		})
	}
}

const (
	setID    = "20261123T021500Z-7f3a"
	instance = "cloud.example.com"
	spaceID  = "b76f29e6-2918-4802-8aa3-0d2e5ca7006e"
)

// then is a time that files of the set have.
var then = time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)

// world is a set of one space, with a repository, and for DecomposedS3 a pool.
type world struct {
	t       testing.TB
	driver  opencloud.Driver
	dir     string
	repo    *repo.Repo
	options repo.Options
	space   catalog.Space
	nodes   []*catalog.Node
	pool    *s3mirror.Pool
	objects []s3mirror.Object
	set     *manifest.Set
	catalog *catalog.File
}

func newWorld(t testing.TB, driver opencloud.Driver) *world {
	t.Helper()
	w := &world{t: t, driver: driver, dir: t.TempDir(), space: catalog.Space{ID: spaceID, Name: "Marketing", Type: "project", Dir: "projects/" + spaceID}}
	if driver != opencloud.Posix {
		w.space.Dir = "spaces/" + spaceID[:2] + "/" + spaceID[2:]
	}
	w.options = repo.Options{
		Binary: env.Restic(t, "0.18"), Location: w.at("repo"), PasswordFile: w.at("password"), Host: instance, CacheDir: w.at("cache"),
	}
	w.must(os.WriteFile(w.at("password"), []byte("correct horse\n"), 0o600))
	w.must(os.CopyFS(w.options.Location, os.DirFS("../repo/testdata/repo"))) // its key costs nothing to derive
	for _, d := range []string{"data", "index", "locks", "snapshots"} {
		w.must(os.Mkdir(filepath.Join(w.options.Location, d), 0o700))
	}
	w.must(os.MkdirAll(w.at("users"), 0o700))
	w.repo = repo.New(w.options)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) at(rel string) string { return filepath.Join(w.dir, rel) }

// folder adds a folder.
func (w *world) folder(p string) *catalog.Node {
	n := &catalog.Node{Kind: catalog.KindFolder, Space: spaceID, Path: p, ID: uuid.NewString(), MTime: then.Add(-time.Hour)}
	w.nodes = append(w.nodes, n)
	return n
}

// file adds a file, and its content to what is stored.
func (w *world) file(p, content string) *catalog.Node {
	return w.content(&catalog.Node{Kind: catalog.KindFile, Path: p}, w.space.Dir+p, content)
}

// version adds an older content of a file.
func (w *world) version(p, key, content string) *catalog.Node {
	return w.content(&catalog.Node{Kind: catalog.KindVersion, Path: p, Version: key}, w.space.Dir+"/.oc-nodes/54/8b/3c/5e/-"+path.Base(p)+".REV."+key, content)
}

// trash adds something that was deleted; below is its path in the item.
func (w *world) trash(n *catalog.Node, below, content string) *catalog.Node {
	n.Item = below == ""
	if n.Kind == catalog.KindFolder {
		n.Space, n.MTime = spaceID, then.Add(-time.Hour)
		w.nodes = append(w.nodes, n)
		return n
	}
	at := w.space.Dir + "/.Trash/files/" + n.Trash + ".trashitem" + below
	if n.Kind == catalog.KindVersion {
		n.Item, at = false, w.space.Dir+"/.oc-nodes/00/00/00/00/-"+n.Trash+".REV."+n.Version
	}
	return w.content(n, at, content)
}

// content completes a node, and stores its content: at, with driver posix.
func (w *world) content(n *catalog.Node, at, content string) *catalog.Node {
	w.t.Helper()
	b := []byte(content)
	s1, m5 := sha1.Sum(b), md5.Sum(b)
	n.Space, n.ID, n.Size, n.MTime, n.Blob = spaceID, uuid.NewString(), int64(len(b)), then, uuid.NewString()
	n.SHA1, n.MD5, n.Adler32 = hex.EncodeToString(s1[:]), hex.EncodeToString(m5[:]), fmt.Sprintf("%08x", adler32.Checksum(b))
	w.nodes = append(w.nodes, n)
	if len(b) == 0 {
		n.Blob = ""
		return n
	}
	n.At = at
	switch w.driver {
	case opencloud.Decomposed:
		n.At = w.space.Dir + "/blobs/" + pathify(n.Blob)
	case opencloud.DecomposedS3:
		n.At = spaceID + "/" + pathify(n.Blob)
		w.objects = append(w.objects, s3mirror.Object{Key: n.At, Size: n.Size, MD5: n.MD5, SHA1: n.SHA1})
	}
	w.must(os.MkdirAll(filepath.Dir(w.stored(n)), 0o700))
	w.must(os.WriteFile(w.stored(n), b, 0o600))
	return n
}

func pathify(id string) string {
	return id[:2] + "/" + id[2:4] + "/" + id[4:6] + "/" + id[6:8] + "/" + id[8:]
}

// stored is where the content of a node is before it is stored; in a pool, after it, too.
func (w *world) stored(n *catalog.Node) string {
	if w.driver == opencloud.DecomposedS3 {
		return w.at("pool/blobs/" + n.At)
	}
	return w.at("users/" + n.At)
}

// store makes the set.
func (w *world) store() *world {
	w.t.Helper()
	ctx := context.Background()
	m := &manifest.Manifest{
		Format: manifest.Format, Set: setID, Instance: instance, Full: true, Components: opencloud.Components,
		Layout: opencloud.Layout{Driver: w.driver, UsersRoot: w.at("users")},
	}
	files := manifest.Beside{Paths: map[string]string{}}
	if w.driver == opencloud.DecomposedS3 {
		m.Roots = make([]manifest.Root, 1)
		m.Bucket, files.Paths[manifest.InventoryFile] = w.makePool()
	} else {
		root := manifest.Root{Root: opencloud.Root{Name: "blobs", Components: []opencloud.Component{opencloud.Blobs}}, Entry: "users"}
		sum, err := w.repo.Backup(ctx, repo.BackupSpec{Dir: w.dir, Targets: []string{"users"}, Tags: []string{manifest.SetTag(setID)}})
		w.must(err)
		root.Snapshot = sum.SnapshotID
		m.Roots = append(m.Roots, root)
	}
	id, err := manifest.Store(ctx, w.repo, m, files)
	w.must(err)
	w.set = &manifest.Set{ID: setID, Snapshot: id, Manifest: m}
	w.writeCatalog()
	return w
}

// makePool makes a pool of what was put into its directory, and the inventory.
func (w *world) makePool() (*manifest.Bucket, string) {
	w.t.Helper()
	ctx := context.Background()
	blobs := w.at("pool/blobs")
	w.must(os.MkdirAll(blobs, 0o700))
	w.must(os.Rename(w.at("pool"), w.at("filled"))) // a new pool is empty
	var err error
	w.pool, err = s3mirror.OpenPool(ctx, s3mirror.Target{Location: w.at("pool")}, s3mirror.Settings{StateDir: w.t.TempDir()})
	w.must(err)
	info, err := w.pool.Create(ctx, s3mirror.Owner{Instance: instance, Repository: "r"})
	w.must(err)
	w.must(os.Rename(w.at("filled/blobs"), blobs))
	slices.SortFunc(w.objects, func(a, b s3mirror.Object) int { return strings.Compare(a.Key, b.Key) })
	var inv bytes.Buffer
	for _, o := range w.objects {
		line, err := json.Marshal(o)
		w.must(err)
		inv.Write(append(line, '\n'))
	}
	w.must(os.WriteFile(w.at("inventory"), inv.Bytes(), 0o600))
	digest := sha256.Sum256(inv.Bytes())
	return &manifest.Bucket{
		Name: "b", Digest: hex.EncodeToString(digest[:]), Pool: manifest.Pool{ID: info.ID, Location: w.at("pool")},
	}, w.at("inventory")
}

// writeCatalog writes the nodes as they are now.
func (w *world) writeCatalog() {
	w.t.Helper()
	slices.SortFunc(w.nodes, catalog.Compare)
	out, err := catalog.Create(w.at("catalog.jsonl"), w.driver)
	w.must(err)
	s, err := out.Section(w.space)
	w.must(err)
	for _, n := range w.nodes {
		w.must(s.Add(n))
	}
	w.must(s.Close())
	_, err = out.Close()
	w.must(err)
	w.catalog, err = catalog.Open(w.at("catalog.jsonl"))
	w.must(err)
	w.t.Cleanup(func() { w.catalog.Close() })
	w.space, err = w.catalog.Resolve(spaceID)
	w.must(err)
}

// get are options that bring path into a new directory.
func (w *world) get(path string) Options {
	return Options{
		Repo: w.repo, Set: w.set, Catalog: w.catalog, Space: w.space, Path: path, To: filepath.Join(w.t.TempDir(), "to"), Report: progress.Discard,
		Pool: func(context.Context) (*s3mirror.Pool, error) { return w.pool, nil },
	}
}

// fake puts a shell script in the place of restic.
func (w *world) fake(script string) {
	w.t.Helper()
	opt := w.options
	opt.Binary = w.at("fake-restic")
	// A child that is forked meanwhile would inherit the open file, and Linux runs no
	// program that is open for writing.
	syscall.ForkLock.RLock()
	err := os.WriteFile(opt.Binary, []byte("#!/bin/sh\n"+script+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	w.must(err)
	w.repo = repo.New(opt)
}

// run runs, and expects no error.
func (w *world) run(o Options) *Result {
	w.t.Helper()
	res, err := Run(context.Background(), o)
	if err != nil {
		w.t.Fatalf("%v; %+v", err, res)
	}
	return res
}

// tree describes what is below a directory: contents of files, times of all.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := paths.Below(dir, p)
		st, err := d.Info()
		if err != nil {
			return err
		}
		text := "folder"
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(b)
		case !d.IsDir():
			text = d.Type().String()
		}
		if !st.ModTime().Equal(then) && !st.ModTime().Equal(then.Add(-time.Hour)) {
			text += " (of another time)"
		}
		out[rel] = text
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// expect compares a tree with what it is to be.
func expect(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := tree(t, dir)
	for rel, text := range want {
		if got[rel] != text {
			t.Errorf("%q: %.80q, want %.80q", rel, got[rel], text)
		}
	}
	for rel := range got {
		if _, ok := want[rel]; !ok {
			t.Errorf("%q is not expected", rel)
		}
	}
}

// notes is a Reporter that keeps notes.
type notes struct {
	progress.Reporter
	text string
}

func (n *notes) Note(text string) { n.text += text + "\n" }
