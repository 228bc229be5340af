//go:build integration

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// What is wrong with the configuration or the machine is found before anything is
// stopped: the instance goes on as if nothing had been.
func TestRefusedBeforeTheStop(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	sets := func(table, key, value string) func(c *cloud) {
		return func(c *cloud) { c.configure(table, key, value) }
	}
	for _, row := range []struct {
		name string
		set  func(c *cloud)
		code int
		says []string
	}{
		{"unknown key", sets("backup", "max_downtme", `"1m"`), 2, []string{"max_downtme", "max_downtime", "ocbackup.toml:"}},
		{"unknown table", sets("bakcup", "seed", `"never"`), 2, []string{"bakcup", "backup"}},
		{"wrong type", sets("repository", "retry_lock", `5`), 2, []string{"retry_lock"}},
		{"wrong type of a list", sets("control", "start", `"/bin/start"`), 2, []string{"control.start"}},
		{"unknown driver", sets("layout", "driver", `"posx"`), 2, []string{"posx", "posix"}},
		{"no TOML", func(c *cloud) { c.write("ocbackup.toml", "name = \n") }, 2, []string{"ocbackup.toml:1"}},
		{"no configuration", func(c *cloud) { c.remove("ocbackup.toml") }, 2, []string{"ocbackup.toml", "ocbackup init"}},
		{"missing root", sets("layout", "users_root", `"/nowhere/users"`), 2, []string{"/nowhere/users", "users"}},
		{"missing configuration directory", sets("layout", "config_dir", `"/nowhere/config"`), 2, []string{"/nowhere/config"}},
		{"no repository", sets("repository", "location", `"/nowhere/repository"`), 8, []string{"/nowhere/repository", "ocbackup init"}},
		{"wrong password", func(c *cloud) { c.write("password", "wrong\n") }, 8, []string{"wrong password", "password_file"}},
		{"password for all to read", func(c *cloud) { c.must755("password") }, 2, []string{"password"}},
		{"no password file", func(c *cloud) { c.remove("password") }, 2, []string{"password"}},
		{"no restic", sets("repository", "restic", `"/nowhere/restic"`), 2, []string{"/nowhere/restic", "0.17.1"}},
		{
			"restic too old",
			func(c *cloud) {
				c.restic(c.script("restic-0.14", `echo "restic 0.14.0 compiled with go1.19.8 on linux/amd64"`))
			},
			2,
			[]string{"0.14.0", "0.17.1"},
		},
		{"state directory can't be made", sets("", "state_dir", c.quoted("password/state")), 1, []string{"state"}},
		{"status command fails", sets("control", "status", `["/bin/false"]`), 1, []string{"status"}},
		{"no status command", sets("control", "status", `["/nowhere/status"]`), 1, []string{"/nowhere/status"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			changed := c.with(t)
			row.set(changed)
			r := changed.run("backup")
			c := c.with(t)
			c.saveConfig()
			wants(t, r, row.code, row.says...)
			c.running()
			if c.happened("stop") != 0 {
				t.Errorf("the server was stopped: %v", c.events())
			}
			if list := c.sets(); len(list) != 0 {
				t.Errorf("there are sets: %v", list)
			}
		})
	}
	c.good()
}

// must755 lets everybody read a file.
func (c *cloud) must755(name string) {
	c.t.Helper()
	if err := os.Chmod(c.path(name), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

// asPlainRoot runs ocbackup as a root without the right to read everything.
func (c *cloud) asPlainRoot(extra []string, args ...string) env.Result {
	caps := "-dac_override,-dac_read_search"
	return env.Exec(background, append([]string{"OCBACKUP_CONFIG=" + c.path("ocbackup.toml")}, extra...),
		"setpriv", append([]string{"--bounding-set=" + caps, "--inh-caps=" + caps, ocbackupProgram(c.t)}, args...)...)
}

// What can't be read makes the run incomplete, whenever that shows: a directory
// before the stop, a file's content when restic reads it.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.backup()
	const dir, file = "data/storage/users/secrets", "data/storage/users/secrets/secret"
	hide := func(path string) string { return "chown 4242 " + path + " && chmod 0 " + path }
	c.write(file, "text")
	stops := c.happened("stop")

	wants(t, env.Exec(background, nil, "sh", "-c", hide(c.path(dir))), 0)
	wants(t, c.asPlainRoot(nil, "backup"), 3, c.path(dir))
	if c.happened("stop") != stops {
		t.Error("the server was stopped for it")
	}
	c.running()

	c.remove(dir)
	c.write(file, "text")
	wants(t, c.asPlainRoot(fault("cold.stopped", "exec:"+hide(c.path(file))), "backup"), 3, "secret", "running again")
	c.running()
	if n := len(c.sets()); n != 1 {
		t.Errorf("there are %d sets", n)
	}

	c.remove(dir)
	c.good()
}

// Without extended attributes the posix driver's metadata has no place to be.
func TestFileSystemWithoutAttributes(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	dir := mountRAM(t)
	c.configure("layout", "users_root", quote(dir))
	wants(t, c.run("backup"), 2, "attributes", dir)
	c.running()
	c.configure("layout", "users_root", "")

	// And where they are lost already, the backup says so instead of storing the loss.
	lost := c.path("lost")
	wants(t, env.Exec(background, nil, "cp", "-r", "--preserve=mode,ownership,timestamps", c.path("data/storage/users"), lost), 0)
	c.configure("layout", "users_root", quote(lost))
	wants(t, c.run("backup"), 3, lost, "attributes")
	c.configure("layout", "users_root", "")
	if c.happened("stop") != 0 {
		t.Error("the server was stopped for it")
	}
	c.good()
}

// mountRAM mounts a file system that takes no extended attributes of users.
func mountRAM(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "ramfs", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

// A set whose manifest is damaged is shown as such, and does not hide the others.
func TestDamagedManifest(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	first := c.backup()
	for _, bad := range []struct{ id, manifest string }{
		{"20991231T000000Z-0001", "{"},
		{"20991231T000000Z-0002", `{"format": 99}`},
		{"20991231T000000Z-0003", ""},
	} {
		dir := c.path("forged", bad.id)
		c.write(filepath.Join("forged", bad.id, "manifest/manifest.json"), bad.manifest)
		if bad.manifest == "" {
			c.remove(filepath.Join("forged", bad.id, "manifest/manifest.json"))
		}
		cmd := exec.Command(env.Restic(t, "0.18"), "backup", "--host", c.name, "--tag", "manifest", "--tag", "set="+bad.id, "manifest")
		cmd.Env, cmd.Dir = append(os.Environ(), c.resticEnv()...), dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		wants(t, c.run("list"), 0, bad.id, "DAMAGED", first)
		wants(t, c.run("show", bad.id), 4, bad.id)
		wants(t, c.run("restore", "--yes", bad.id), 4, bad.id)
		wants(t, c.run("verify", bad.id), 4, bad.id)
	}
	wants(t, c.run("show"), 0, first) // the latest is the latest that is sound
	wants(t, c.run("verify", "--all"), 4, first)
	// One prefix, several sets.
	wants(t, c.run("show", "20991231T"), 2, "20991231T000000Z-0001", "20991231T000000Z-0002")
	wants(t, c.run("restore", "--yes", "20991231T"), 2, "20991231T000000Z-0001", "20991231T000000Z-0003")
	c.running()

	id := c.backup()
	c.restoreCopy(id)
	c.restore(id)
	c.running()
}

// A manifest whose roots are gone from the repository is not restored from.
func TestMissingSnapshot(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	id := c.backup()
	for _, s := range c.snapshots() {
		if s.tag("set") == id && s.tag("root") == "users" {
			wants(t, c.runRestic("forget", s.ID), 0)
		}
	}
	wants(t, c.run("list"), 0, "BROKEN")
	wants(t, c.run("verify"), 4, "users")
	wants(t, c.run("restore", "--yes", id), 4, "users")
	wants(t, c.run("restore", "--yes"), 2, "complete")
	c.running()
	if next := c.good(); next == id {
		t.Error("no new set")
	}
}

// A tree whose data was changed in the repository is noticed.
func TestDamagedRepository(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	c.write("data/storage/users/large", noise(t, 1<<20))
	c.backup()
	packs, _ := filepath.Glob(c.path("repository/data/*/*"))
	if len(packs) == 0 {
		t.Fatal("no packs")
	}
	largest := packs[0]
	for _, p := range packs {
		if a, b := size(t, p), size(t, largest); a > b {
			largest = p
		}
	}
	if err := os.Chmod(largest, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(largest, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), size(t, largest)/2); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	wants(t, c.run("verify", "--read-data", "100%"), 4)
	r := c.run("restore", "--target", c.path("to"))
	if r.Code == 0 {
		t.Error("damaged data was restored without a word")
	}
	if entries, _ := os.ReadDir(c.path("to")); len(entries) > 0 {
		t.Errorf("it was left in the target: %v", entries)
	}
	r = c.run("restore", "--yes")
	if r.Code != 4 && r.Code != 8 || strings.Contains(r.Stderr, "NOT BACK") {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	c.running()
	c.noTraces()
	if c.happened("stop") != 1 {
		t.Error("the server was stopped for it")
	}
}

func size(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}
