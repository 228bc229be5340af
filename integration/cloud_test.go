//go:build integration

package integration

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
)

// background is for what runs also while a test is cleaned up.
var background = context.Background()

// cloud is an OpenCloud instance of a test, with all that belongs to it in one
// directory: config/ and data/ of the server, the repository, the state directory
// and ocbackup.toml. A stand-in plays the server, or $OPENCLOUD_BIN is it; it is
// controlled by commands.
type cloud struct {
	t      testing.TB
	dir    string
	name   string
	driver string
	config map[string]map[string]string // table, key, TOML value
	web    string                       // address of the server's proxy
	env    []string                     // of the server
	s3     *env.S3                      // that holds the bucket of driver decomposeds3; nil for others
}

// newCloud makes an instance on a fresh tree, and starts it.
func newCloud(t testing.TB, driver string) *cloud {
	t.Helper()
	c := prepareCloud(t, driver, "")
	if r := env.Exec(background, c.env, serverProgram(t), "init"); r.Code != 0 {
		t.Fatalf("init: %s", r.Stderr)
	}
	c.start()
	return c
}

// newCloudOn makes an instance in a directory, which may lie on any file system, and
// starts it. Its repository lies elsewhere. It has a name of its own, since what is
// made of a file system is found again by that.
func newCloudOn(t testing.TB, dir, driver string) *cloud {
	t.Helper()
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "repository")); err != nil {
		t.Fatal(err)
	}
	c := prepareCloudIn(t, dir, driver, "")
	c.name = fmt.Sprintf("cloud-%d-%d.test", os.Getpid(), named.Add(1))
	c.configure("", "name", strconv.Quote(c.name))
	if r := env.Exec(background, c.env, serverProgram(t), "init"); r.Code != 0 {
		t.Fatalf("init: %s", r.Stderr)
	}
	c.start()
	return c
}

var named atomic.Int64

// newRecordedCloud makes an instance on a tree that was recorded from a real
// server, and starts it.
func newRecordedCloud(t testing.TB, fixture string) *cloud {
	t.Helper()
	driver := fixture[strings.LastIndexByte(fixture, '-')+1:]
	c := prepareCloud(t, driver, fixture)
	if tree := env.ExtractFixture(t, fixture, c.dir); tree.Bucket != "" {
		c.s3.LoadBucket(t, env.BucketName, tree.Bucket)
	}
	c.start()
	return c
}

func prepareCloud(t testing.TB, driver, fixture string) *cloud {
	t.Helper()
	return prepareCloudIn(t, t.TempDir(), driver, fixture)
}

func prepareCloudIn(t testing.TB, dir, driver, fixture string) *cloud {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners are restored")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, dir: dir, name: "cloud.test", driver: driver, env: env.ServerEnv(t, dir, driver, fixture)}
	// Enough writes to make a copy of the running tree inconsistent, and not so many
	// that a dozen servers keep the machine busy.
	c.env = append(c.env, "STANDIN_INTERVAL=50ms")
	c.web = c.serverEnv("PROXY_HTTP_ADDR")
	newRepository(t, c.path("repository"))
	if driver == "decomposeds3" {
		var vars []string
		c.s3, vars = env.ServerBucket(t, env.Tree{})
		c.env = append(c.env, vars...)
	}

	var server strings.Builder
	fmt.Fprintf(&server, "STANDIN='%s'\nexport", serverProgram(t))
	for _, e := range c.env {
		fmt.Fprintf(&server, " '%s'", e)
	}
	c.write("server.env", server.String()+"\n")
	t.Cleanup(func() { c.ctl("kill") })

	control := func(action string) string {
		return fmt.Sprintf("[%q, %q, %q]", filepath.Join(env.Root(), "tools/standin-ctl.sh"), dir, action)
	}
	c.config = map[string]map[string]string{
		"":           {"name": strconv.Quote(c.name), "state_dir": c.quoted("state")},
		"repository": {"location": c.quoted("repository"), "password_file": c.quoted("password"), "restic": strconv.Quote(env.Restic(t, "0.18")), "retry_lock": `"2s"`},
		"layout":     {"driver": strconv.Quote(driver), "config_dir": c.quoted("config"), "data_dir": c.quoted("data")},
		"control": {
			"type": `"command"`, "start": control("start"), "stop": control("stop"), "status": control("status"), "exec": control("exec"),
			"stop_timeout": `"20s"`, "start_timeout": `"20s"`,
		},
		"ready": {"address": strconv.Quote(c.web), "idm_address": strconv.Quote(c.serverEnv("IDM_LDAPS_ADDR")), "timeout": `"30s"`},
		"log":   {"format": `"console"`},
	}
	if c.s3 != nil {
		c.config["bucket"] = map[string]string{
			"endpoint": strconv.Quote(c.s3.Endpoint), "region": strconv.Quote(c.s3.Region), "name": strconv.Quote(env.BucketName),
			"env_file": strconv.Quote(c.s3.AWSFile(t)),
		}
		c.config["pool"] = map[string]string{"location": c.quoted("pool")}
	}
	if env.RealServer(t) != "" {
		// It takes longer, above all where it shares the machine with others.
		c.config["ready"]["timeout"] = `"120s"`
	}
	c.saveConfig()
	return c
}

// onlyStandin skips what a real server can't be made to do.
func onlyStandin(t testing.TB, why string) {
	t.Helper()
	if env.RealServer(t) != "" {
		t.Skip("not on a real server: " + why)
	}
}

// with returns the same instance for a subtest, which may configure it otherwise.
func (c *cloud) with(t testing.TB) *cloud {
	other := *c
	other.t = t
	other.config = map[string]map[string]string{}
	for table, keys := range c.config {
		other.config[table] = maps.Clone(keys)
	}
	return &other
}

// path is a path below the instance's directory.
func (c *cloud) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

func (c *cloud) quoted(elem ...string) string { return strconv.Quote(c.path(elem...)) }

func (c *cloud) serverEnv(name string) string {
	for _, e := range c.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	c.t.Fatalf("no %s", name)
	return ""
}

// write writes a file below the instance's directory.
func (c *cloud) write(name, content string) {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Dir(c.path(name)), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// read reads a file below the instance's directory; "" when it is not there.
func (c *cloud) read(name string) string {
	b, _ := os.ReadFile(c.path(name))
	return string(b)
}

// remove removes files or trees below the instance's directory.
func (c *cloud) remove(names ...string) {
	c.t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(c.path(name)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// script writes an executable file below the instance's directory and returns its path.
func (c *cloud) script(name, text string) string {
	c.t.Helper()
	c.write(name, "#!/bin/sh\n"+text+"\n")
	if err := os.Chmod(c.path(name), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return c.path(name)
}

// configure sets a key of ocbackup.toml to a TOML value; "" takes it out.
func (c *cloud) configure(table, key, value string) {
	c.t.Helper()
	if c.config[table] == nil {
		c.config[table] = map[string]string{}
	}
	c.config[table][key] = value
	if value == "" {
		delete(c.config[table], key)
	}
	c.saveConfig()
}

// saveConfig writes ocbackup.toml, and the password file beside it.
func (c *cloud) saveConfig() {
	c.t.Helper()
	c.remove("password")
	c.write("password", password+"\n")
	var b strings.Builder
	tables := []string{""}
	for t := range c.config {
		if t != "" {
			tables = append(tables, t)
		}
	}
	slices.Sort(tables)
	for _, t := range tables {
		if t != "" {
			fmt.Fprintf(&b, "[%s]\n", t)
		}
		for k, v := range c.config[t] {
			fmt.Fprintf(&b, "%s = %s\n", k, v)
		}
	}
	c.write("ocbackup.toml", b.String())
}

// restic makes ocbackup use this program.
func (c *cloud) restic(path string) { c.configure("repository", "restic", strconv.Quote(path)) }

// runRestic runs restic itself on the repository.
func (c *cloud) runRestic(args ...string) env.Result {
	return env.Exec(background, c.resticEnv(), env.Restic(c.t, "0.18"), args...)
}

func (c *cloud) resticEnv() []string {
	return []string{"RESTIC_REPOSITORY=" + c.path("repository"), "RESTIC_PASSWORD=" + password, "RESTIC_CACHE_DIR=" + c.path("cache")}
}

// ctl starts, stops, kills or asks the server.
func (c *cloud) ctl(args ...string) env.Result {
	return env.Exec(background, nil, filepath.Join(env.Root(), "tools/standin-ctl.sh"), append([]string{c.dir}, args...)...)
}

// start starts the server and waits until it is ready.
func (c *cloud) start() {
	c.t.Helper()
	before := c.happened("ready")
	if r := c.ctl("start"); r.Code != 0 {
		c.t.Fatalf("start: %s", r.Stderr)
	}
	env.Eventually(c.t, 2*time.Minute, "the server is ready", func() bool {
		if log := c.read("server.log"); strings.Contains(log, "standin: ") {
			c.t.Fatalf("the server ended: %s", log)
		}
		return c.happened("ready") > before
	})
}

// stop stops the server in order.
func (c *cloud) stop() {
	c.t.Helper()
	if r := c.ctl("stop"); r.Code != 0 {
		c.t.Fatalf("stop: %s", r.Stderr)
	}
}

// kill takes the server away, as a loss of power would.
func (c *cloud) kill() {
	c.t.Helper()
	if r := c.ctl("kill"); r.Code != 0 || r.Stderr != "" {
		c.t.Fatalf("kill: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// writesEvery restarts the server with another pause between its writes.
func (c *cloud) writesEvery(pause string) {
	c.t.Helper()
	c.stop()
	c.write("server.env", c.read("server.env")+"export STANDIN_INTERVAL="+pause+"\n")
	c.start()
}

// index has all spaces indexed: a real server does it by itself, in its own time.
func (c *cloud) index() {
	c.t.Helper()
	if env.RealServer(c.t) == "" {
		wants(c.t, c.ctl("exec", "search", "index", "--all-spaces"), 0)
	} else {
		c.indexed(2)
	}
}

// version is the server's version.
func (c *cloud) version() string {
	c.t.Helper()
	r := c.ctl("exec", "version", "--skip-services")
	wants(c.t, r, 0)
	version, ok := opencloud.ParseVersion(r.Stdout)
	if !ok {
		c.t.Fatalf("no version: %s", r.Stdout)
	}
	return version
}

// quirk makes the server misbehave (integration/standin, quirk).
func (c *cloud) quirk(name, value string) { c.write("config/standin."+name, value) }

// events lists what the server did: start, ready, stop, ...
func (c *cloud) events() (list []string) {
	for line := range strings.Lines(c.read("events")) {
		if f := strings.Fields(line); len(f) == 3 {
			list = append(list, f[1])
		}
	}
	return list
}

// happened counts an event.
func (c *cloud) happened(event string) (n int) {
	for _, e := range c.events() {
		if e == event {
			n++
		}
	}
	return n
}

// command is a run of ocbackup that has not been started.
func (c *cloud) command(args ...string) *exec.Cmd {
	cmd := exec.Command(ocbackupProgram(c.t), args...)
	cmd.Env = append(os.Environ(), "OCBACKUP_CONFIG="+c.path("ocbackup.toml"))
	cmd.Dir = c.dir
	return cmd
}

// run runs ocbackup to its end.
func (c *cloud) run(args ...string) env.Result { return c.runWith(nil, args...) }

// runWith is run with additions to the environment.
func (c *cloud) runWith(extra []string, args ...string) env.Result {
	return env.Exec(background, append([]string{"OCBACKUP_CONFIG=" + c.path("ocbackup.toml")}, extra...), ocbackupProgram(c.t), args...)
}

// fault is the environment that injects a fault.
func fault(point, action string) []string { return []string{"OCBACKUP_FAULT=" + point + "=" + action} }

// must runs ocbackup, which has to succeed, and returns its output.
func (c *cloud) must(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	wants(c.t, r, 0)
	return r.Stdout
}

// wants checks how a command ended, and that it says all of these on either output.
func wants(t testing.TB, r env.Result, code int, says ...string) {
	t.Helper()
	if r.Code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	for _, s := range says {
		if !strings.Contains(r.Stdout+r.Stderr, s) {
			t.Errorf("it does not say %q:\n%s%s", s, r.Stdout, r.Stderr)
		}
	}
}

// backup makes a backup, which has to succeed, and returns the set's id.
func (c *cloud) backup(args ...string) string {
	c.t.Helper()
	out := c.must(append([]string{"--json", "backup"}, args...)...)
	var res struct{ Set string }
	if err := json.Unmarshal([]byte(out), &res); err != nil || res.Set == "" {
		c.t.Fatalf("no set in the result (%v): %s", err, out)
	}
	return res.Set
}

// set is a set as "list" shows it.
type set struct {
	Set   string
	State string
	Error string
}

// sets lists the sets, oldest first.
func (c *cloud) sets() []set {
	c.t.Helper()
	var list struct{ Sets []set }
	if err := json.Unmarshal([]byte(c.must("--json", "list")), &list); err != nil {
		c.t.Fatal(err)
	}
	return list.Sets
}

// snapshot is a snapshot of the repository, as restic shows it.
type snapshot struct {
	ID      string
	Parent  string
	Tags    []string
	Summary struct {
		FilesUnmodified int    `json:"files_unmodified"`
		FilesChanged    int    `json:"files_changed"`
		FilesNew        int    `json:"files_new"`
		DataAdded       uint64 `json:"data_added"`
	}
}

func (s snapshot) tag(name string) string {
	for _, t := range s.Tags {
		if v, ok := strings.CutPrefix(t, name+"="); ok {
			return v
		}
	}
	return ""
}

// snapshots lists all of the repository's.
func (c *cloud) snapshots() []snapshot {
	c.t.Helper()
	r := c.runRestic("snapshots", "--json", "--no-lock")
	wants(c.t, r, 0)
	var list []snapshot
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		c.t.Fatal(err)
	}
	return list
}

// check has the server program check the consistency of a copy of the instance below root
// ("" for the instance itself): 0 consistent, 1 not, 3 attributes lost.
func (c *cloud) check(root string) env.Result {
	args := []string{"check"}
	if c.s3 != nil && root != "" {
		args = append(args, root+"/bucket") // the copy's objects, not those of now
	}
	return env.Exec(background, append(slices.Clone(c.env),
		"OC_CONFIG_DIR="+root+c.path("config"), "OC_BASE_DATA_PATH="+root+c.path("data")), serverProgram(c.t), args...)
}

// restoreCopy restores a set beside the instance, checks that nothing of it is lost
// or inconsistent, and returns the directory.
func (c *cloud) restoreCopy(set string) string {
	c.t.Helper()
	dir := c.path("copy-of-" + set)
	c.remove("copy-of-" + set)
	c.must("restore", "--target", dir, set)
	wants(c.t, c.check(dir), 0)
	return dir
}

// running asserts that the server runs and that people can log in: it answers, and
// there is nothing left of a run that would have to bring it back.
func (c *cloud) running() {
	c.t.Helper()
	if r := c.ctl("status"); r.Code != 0 {
		c.t.Fatalf("the server does not run: %s\n%s", r.Stderr, c.read("server.log"))
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the server's own certificate
	}}
	answer, err := client.Get("https://" + c.web + "/graph/v1.0/me")
	if err != nil {
		c.t.Fatalf("the server does not answer: %v", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		c.t.Fatalf("the server answers %s", answer.Status)
	}
	c.noJournal()
}

// stopped asserts that the server is stopped.
func (c *cloud) stopped() {
	c.t.Helper()
	if r := c.ctl("status"); r.Code != 3 {
		c.t.Fatalf("the server is not stopped: %d %s", r.Code, r.Stderr)
	}
}

func (c *cloud) noJournal() {
	c.t.Helper()
	if j := c.read("state/journal.json"); j != "" {
		c.t.Errorf("a journal is left: %s", j)
	}
}

// awaitBack waits until a guard has brought the server back.
func (c *cloud) awaitBack() {
	c.t.Helper()
	env.Eventually(c.t, 40*time.Second, "the guard is done", func() bool {
		if _, err := os.Stat(c.path("state/journal.json")); err == nil {
			return false
		}
		// The lock is the guard's until it has ended.
		return exec.Command("flock", "-n", c.path("state/lock"), "true").Run() == nil
	})
}

// next asserts that the instance runs, and that the next backup commits a set that
// can be restored with nothing lost, and leaves nothing in the repository that
// belongs to no set. It returns that set.
func (c *cloud) next() string {
	c.t.Helper()
	c.running()
	id := c.backup()
	c.running()
	if _, err := os.Stat(c.path("state/prove")); err == nil {
		c.t.Error("state/prove is left")
	}
	if err := os.RemoveAll(c.restoreCopy(id)); err != nil {
		c.t.Fatal(err)
	}
	c.noStrays()
	return id
}

// good is next, and that the set and the repository are found sound.
func (c *cloud) good() string {
	c.t.Helper()
	id := c.next()
	c.must("verify")
	return id
}

// noStrays asserts that each snapshot in the repository belongs to a committed set.
func (c *cloud) noStrays() {
	c.t.Helper()
	committed := map[string]bool{}
	list := c.snapshots()
	for _, s := range list {
		if slices.Contains(s.Tags, "manifest") {
			committed[s.tag("set")] = true
		}
	}
	for _, s := range list {
		if !committed[s.tag("set")] || slices.Contains(s.Tags, "seed") {
			c.t.Errorf("snapshot %s belongs to no set: %v", s.ID, s.Tags)
		}
	}
	if locks, _ := os.ReadDir(c.path("repository/locks")); len(locks) > 0 {
		c.t.Errorf("%d locks are left in the repository", len(locks))
	}
}

// marks are files in every root of a set, by which a test sees which data is in place.
func (c *cloud) marks() []string {
	m := []string{"config/mark", "data/nats/mark", "data/search/mark", "data/storage/users/mark"}
	if c.driver != "posix" {
		blobs, _ := filepath.Glob(c.path("data/storage/users/spaces/*/*/blobs"))
		for _, b := range blobs {
			rel, _ := filepath.Rel(c.dir, b)
			m = append(m, rel+"/mark")
		}
	}
	return m
}

// mark writes all marks.
func (c *cloud) mark(text string) {
	c.t.Helper()
	for _, m := range c.marks() {
		c.write(m, text)
	}
}

// marked returns what all marks say: one text when they agree.
func (c *cloud) marked() string {
	var texts []string
	for _, m := range c.marks() {
		if text := c.read(m); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, " and ")
}
