package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/census"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/repo"
)

// TestMain makes the test program play the guard process that a restore starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "guard" {
		dir := os.Args[3]
		err := guard.Serve(context.Background(), dir, os.Stdin, os.Stdout, func(ctx context.Context) error {
			_, err := recovery.Recover(ctx, dir, progress.Discard)
			return err
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "restore" {
		os.Exit(playRestore(os.Args[2]))
	}
	code := m.Run()
	if world.base != "" {
		_ = os.RemoveAll(world.base)
	}
	os.Exit(code)
}

// playRestore is a restore that a test can kill: with the options that it wrote into
// a file.
func playRestore(file string) int {
	var c child
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		go func() { <-signals; cancel(fail.New(fail.Interrupted, "interrupted", "")) }()
		_, err = Run(ctx, Options{
			Config: c.Config, Repo: repo.New(c.Repo), Set: c.Set, Maps: c.Maps, Components: c.Components,
			InPlace: c.InPlace, Yes: true, Report: progress.Discard,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return int(fail.CodeOf(err))
}

// child is what a restore in a process of its own needs.
type child struct {
	Config     *config.Config
	Repo       repo.Options
	Set        string
	Maps       []Mapping
	Components []opencloud.Component
	InPlace    bool
}

// world is a repository with one set of a recorded OpenCloud 4.0 instance (posix),
// made once for all tests.
var world struct {
	once    sync.Once
	err     error
	base    string // everything is in here
	orig    string // where the instance was when it was backed up
	options repo.Options
	set     string
}

const fixture = "../integration/testdata/opencloud-4.0-posix.tar.gz"

// theWorld returns a repository with a set, and skips the test where there can be none.
func theWorld(t *testing.T) *repo.Repo {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners can be restored by root only")
	}
	bin := env.Restic(t, "0.18")
	world.once.Do(func() { world.err = makeWorld(bin) })
	if errors.Is(world.err, errNoXattrs) {
		t.Skip(world.err)
	}
	if world.err != nil {
		t.Fatal(world.err)
	}
	return repo.New(world.options)
}

var errNoXattrs = errors.New("the temporary directory takes no user extended attributes")

func makeWorld(restic string) error {
	var err error
	if world.base, err = os.MkdirTemp("", "ocbackup-restore-"); err != nil {
		return err
	}
	if xattr.LSet(world.base, "user.probe", []byte("x")) != nil {
		return errNoXattrs
	}
	world.orig = filepath.Join(world.base, "orig")
	pw := filepath.Join(world.base, "password")
	if err := os.WriteFile(pw, []byte("secret word"), 0o600); err != nil {
		return err
	}
	if err := makeTree(world.orig); err != nil {
		return err
	}
	world.options = repo.Options{
		Binary: restic, Location: filepath.Join(world.base, "repo"), PasswordFile: pw, Host: "test",
		CacheDir: filepath.Join(world.base, "cache"),
	}
	ctx := context.Background()
	r := repo.New(world.options)
	if _, err := r.Prepare(ctx); err != nil {
		return err
	}
	if _, err := r.Init(ctx); err != nil {
		return err
	}
	if err := env.CheapenKey(world.options.Location, "secret word"); err != nil {
		return err
	}
	world.set, err = storeSet(ctx, r, configOf(world.orig), nil)
	return err
}

// makeTree makes an instance: the recorded tree, a deployment, a binary, thumbnails,
// and the scripts that play its manager.
func makeTree(base string) error {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	tar := exec.Command("tar", "--xattrs", "--xattrs-include=user.*", "--numeric-owner", "--strip-components=1", "-xzpf", fixture, "-C", base)
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, f := range []struct {
		path, text string
		mode       fs.FileMode
	}{
		{"data/version", "set", 0o640},
		{"data/thumbnails/t1", "thumb", 0o600},
		{"deploy/compose.yaml", "services: {}\n", 0o644},
		{"deploy/conf/csp.yaml", "csp: set\n", 0o644},
		{"deploy/notes.txt", "not part of it", 0o644},
		{"bin/opencloud", "#!/bin/sh\necho server\n", 0o755},
	} {
		p := filepath.Join(base, f.path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	if err := os.Chown(filepath.Join(base, "data/version"), 1234, 1235); err != nil {
		return err
	}
	return makeScripts(base)
}

// makeScripts makes the scripts of control type "command". The server does not
// start without its opencloud.yaml, and makes directories that it misses; it does not start on data of the set when a file
// "reject" says so.
func makeScripts(base string) error {
	for name, text := range map[string]string{
		"start": `echo start >>$B/log
[ -e $B/config/opencloud.yaml ] || { echo no opencloud.yaml >&2; exit 1; }
[ -e $B/data/search/bleve ] || [ ! -e $B/data/search ] || { mkdir $B/data/search/bleve; echo anew >$B/data/search/bleve/made; }
[ ! -e $B/makes ] || mkdir -p "$B/data/$(cat $B/makes)"
if [ -e $B/reject ] && [ "$(cat $B/data/version)" = set ]; then echo poisoned >&2; exit 1; fi
touch $B/running`,
		"stop":   `echo stop >>$B/log; rm -f $B/running`,
		"status": `[ -e $B/running ] || exit 3; stat -c %Z $B/running`,
		"exec": `echo "exec $*" >>$B/log
case "$1" in version) echo "Version: $(cat $B/installed 2>/dev/null || echo 4.0.0)";;
search) [ ! -e $B/noindex ] || { echo no index today >&2; exit 1; };; esac`,
	} {
		p := filepath.Join(base, "ctl", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte("#!/bin/sh\nB="+base+"\n"+text+"\n"), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func configOf(base string) *config.Config {
	ctl := func(name string) []string { return []string{filepath.Join(base, "ctl", name)} }
	c := &config.Config{
		Name:     "test",
		StateDir: filepath.Join(base, "state"),
		Layout: opencloud.Layout{
			Driver: opencloud.Posix, ConfigDir: filepath.Join(base, "config"), DataDir: filepath.Join(base, "data"),
			UsersRoot: filepath.Join(base, "data/storage/users"), SearchDir: filepath.Join(base, "data/search"),
			Deployment: []string{filepath.Join(base, "deploy/compose.yaml"), filepath.Join(base, "deploy/conf/csp.yaml")},
			Binary:     filepath.Join(base, "bin/opencloud"), Leave: []string{filepath.Join(base, "data/thumbnails")},
		},
		Control: control.Config{
			Type: "command", Start: ctl("start"), Stop: ctl("stop"), Status: ctl("status"), Exec: ctl("exec"),
			StopTimeout: 10 * time.Second, StartTimeout: 10 * time.Second,
		},
		Ready:      readiness.Config{Off: true},
		Repository: config.Repository{Location: "/nowhere"},
	}
	c.SetDefaults()
	return c
}

// storeSet stores a set in the way of package backup. change may alter the manifest
// before it is committed.
func storeSet(ctx context.Context, r *repo.Repo, c *config.Config, change func(*manifest.Manifest)) (string, error) {
	return storeSetOf(ctx, r, c, "", change)
}

// storeSetOf is storeSet with the inventory of a bucket.
func storeSetOf(ctx context.Context, r *repo.Repo, c *config.Config, inventory string, change func(*manifest.Manifest)) (string, error) {
	set := manifest.NewSetID(time.Now())
	m := &manifest.Manifest{
		Format: manifest.Format, Set: set, Instance: c.Name, OpenCloud: "4.0.0", Layout: c.Layout, Control: c.Control,
		Components: opencloud.Components, Full: true, Search: index.Judge(ctx, c.Layout.SearchDir, true),
	}
	for _, x := range c.Layout.Roots() {
		root, err := storeRoot(ctx, r, x, set)
		if err != nil {
			return "", err
		}
		m.Roots = append(m.Roots, root)
	}
	if change != nil {
		change(m)
	}
	beside := manifest.Beside{Contents: map[string][]byte{"ocbackup.toml": config.Render(c)}}
	if inventory != "" {
		beside.Paths = map[string]string{manifest.InventoryFile: inventory}
	}
	_, err := manifest.Store(ctx, r, m, beside)
	return set, err
}

func storeRoot(ctx context.Context, r *repo.Repo, x opencloud.Root, set string) (manifest.Root, error) {
	root := manifest.Root{Root: x}
	real, err := filepath.EvalSymlinks(x.Path)
	if x.Optional && errors.Is(err, fs.ErrNotExist) {
		return root, nil
	}
	if err != nil {
		return root, err
	}
	st, err := os.Stat(real)
	if err != nil {
		return root, err
	}
	root.Real, root.Entry, root.Dir = real, filepath.Base(real), st.IsDir()
	spec := repo.BackupSpec{Dir: filepath.Dir(real), Targets: []string{root.Entry}, Tags: []string{manifest.SetTag(set), manifest.RootTag(x.Name)}}
	for _, g := range x.Exclude {
		spec.Exclude = append(spec.Exclude, filepath.Join(opencloud.Glob(real), g))
	}
	if len(x.Include) > 0 {
		spec.Targets = nil
		for _, p := range globs(real, x.Include) {
			rel, _ := paths.Below(spec.Dir, p)
			spec.Targets = append(spec.Targets, rel)
		}
	}
	sum, err := r.Backup(ctx, spec)
	if err != nil {
		return root, err
	}
	root.Snapshot, root.Files, root.Bytes = sum.SnapshotID, sum.TotalFilesProcessed, sum.TotalBytesProcessed
	if root.Dir {
		counted, err := census.Count(ctx, real, x.Filter(), 2)
		if err != nil {
			return root, err
		}
		root.Census = &counted.Sum
	}
	return root, nil
}

// site is an instance that a test restores to: a copy of the one that was backed up,
// at another place, changed since, and running.
type site struct {
	t    *testing.T
	base string
	cfg  *config.Config
	repo *repo.Repo
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := emptySite(t)
	if out, err := exec.Command("cp", "-a", world.orig+"/.", s.base).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := makeScripts(s.base); err != nil {
		t.Fatal(err)
	}
	s.write("data/version", "live")
	s.write("data/nats/new-since", "x")
	s.write("data/thumbnails/t2", "kept")
	s.write("deploy/conf/csp.yaml", "csp: live\n")
	s.write("config/opencloud.yaml", s.read("config/opencloud.yaml")+"# live\n")
	s.write("running", "")
	return s
}

// emptySite is a bare host: nothing is there but the manager's scripts.
func emptySite(t *testing.T) *site {
	t.Helper()
	r := theWorld(t)
	base := filepath.Join(world.base, strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := makeScripts(base); err != nil {
		t.Fatal(err)
	}
	s := &site{t, base, configOf(base), r}
	// Manifests that one test has read need not be read again.
	cache := filepath.Join(world.base, "manifests")
	if err := errors.Join(os.MkdirAll(cache, 0o700), os.Mkdir(s.cfg.StateDir, 0o700), os.Symlink(cache, filepath.Join(s.cfg.StateDir, "cache"))); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) options() Options {
	return Options{
		Config: s.cfg, Repo: s.repo, Set: world.set, Yes: true, Report: progress.Discard,
		Maps: []Mapping{{world.orig, s.base}},
	}
}

func (s *site) write(rel, text string) {
	s.t.Helper()
	p := filepath.Join(s.base, rel)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(rel string) string {
	b, err := os.ReadFile(filepath.Join(s.base, rel))
	if err != nil {
		return "(" + filepath.Base(err.Error()) + ")"
	}
	return string(b)
}

func (s *site) has(rel string) bool { return paths.Exists(filepath.Join(s.base, rel)) }

func (s *site) want(rel, text string) {
	s.t.Helper()
	if got := s.read(rel); got != text {
		s.t.Errorf("%s: %q, want %q", rel, got, text)
	}
}

// leftovers lists what restores have left behind in the instance's directories.
func (s *site) leftovers() []string {
	var out []string
	_ = filepath.WalkDir(s.base, func(p string, d fs.DirEntry, err error) error {
		if err == nil && ours(d.Name()) {
			out = append(out, strings.TrimPrefix(p, s.base+"/"))
			return filepath.SkipDir
		}
		return nil
	})
	return out
}

// idCache is left out by a restore to another path, which those of these tests are.
const idCache = "KV_ids-storage-users"

// snap describes a tree: everything that a restore has to bring back.
func snap(t *testing.T, root string, skip ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.Name() == idCache {
			return filepath.SkipDir
		}
		for _, s := range skip {
			if rel == s {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		m, err := guard.ReadMeta(p)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v %o %d:%d %s", rel, d.Type(), m.Mode, m.UID, m.GID, m.MTime.Format(time.RFC3339Nano))
		var names []string
		for n, v := range m.Xattrs {
			names = append(names, fmt.Sprintf("%s=%q", n, v))
		}
		sort.Strings(names)
		line += " " + strings.Join(names, " ")
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", b)
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares two descriptions and shows the first differences.
func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	a, b := map[string]bool{}, map[string]bool{}
	for _, l := range want {
		a[l] = true
	}
	for _, l := range got {
		b[l] = true
	}
	n := 0
	for _, l := range want {
		if !b[l] && n < 5 {
			n++
			t.Errorf("%s: missing %.200s", what, l)
		}
	}
	for _, l := range got {
		if !a[l] && n < 10 {
			n++
			t.Errorf("%s: unexpected %.200s", what, l)
		}
	}
}

// cancelAt is a Reporter that ends a context when a step says a certain thing.
type cancelAt struct {
	text   string
	cancel context.CancelFunc
}

func (c cancelAt) Step(string) progress.Step { return c }
func (c cancelAt) Note(string)               {}
func (c cancelAt) Update(text string) {
	if strings.Contains(text, c.text) {
		c.cancel()
	}
}
func (c cancelAt) Done(string) {}
func (c cancelAt) Skip(string) {}
func (c cancelAt) Fail(error)  {}
