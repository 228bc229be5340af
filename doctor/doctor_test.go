package doctor

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/config/initial"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/snapshot"
)

// patient is an instance with a configuration and a real repository.
type patient struct {
	dir    string
	config *config.Config
}

// fakeRestic opens every repository, quickly.
const fakeRestic = `case " $* " in
*" version "*) echo "restic 0.18.0 compiled with go1.24.4 on linux/amd64";;
*" cat "*) echo '{"version":2,"id":"5ed1c3f2","chunker_polynomial":"2482db7e0cc31f"}';;
*" snapshots "*) echo '[]';;
*) exit 1;;
esac`

// scheduled is a systemctl that knows the units of "ocbackup schedule install".
const scheduled = `echo "ocbackup-cloud-backup.timer enabled enabled"; echo "ocbackup-cloud-recover.service enabled enabled"`

// newPatient makes a healthy instance. An empty restic is a fake one.
func newPatient(t *testing.T, restic string) *patient {
	t.Helper()
	for _, v := range []string{"CREDENTIALS_DIRECTORY", "OCBACKUP_REPOSITORY", "OCBACKUP_PASSWORD_FILE", "OCBACKUP_STATE_DIR", "OCBACKUP_NAME"} {
		t.Setenv(v, "")
	}
	p := &patient{dir: t.TempDir()}
	if restic == "" {
		p.fake(t, "restic", fakeRestic)
	}
	p.fake(t, "systemctl", scheduled)
	for _, d := range []string{"config", "data/storage/users/projects/p", "state", "other"} {
		if err := os.MkdirAll(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.write(t, "config/opencloud.yaml", "")
	if err := unix.Setxattr(p.dir+"/data/storage/users/projects/p", "user.oc.space.id", []byte("p"), 0); err != nil {
		t.Skipf("%s takes no extended attributes: %v", p.dir, err)
	}
	plan, err := initial.Make(context.Background(), initial.Options{
		Output: p.dir + "/ocbackup.toml", Name: "cloud", StateDir: p.dir + "/state", Repository: p.dir + "/repository", Restic: restic,
		Paths: &discover.PathsOptions{ConfigDir: p.dir + "/config", DataDir: p.dir + "/data"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Do(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.config = plan.Config
	return p
}

// fake puts a shell script of that name first in PATH.
func (p *patient) fake(t *testing.T, name, body string) {
	t.Helper()
	p.write(t, "bin/"+name, "#!/bin/sh\n"+body+"\n")
	if err := os.Chmod(p.dir+"/bin/"+name, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", p.dir+"/bin:"+os.Getenv("PATH"))
}

func (p *patient) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *patient) examine(t *testing.T) *Report {
	t.Helper()
	p.write(t, "ocbackup.toml", string(config.Render(p.config)))
	r, err := Run(context.Background(), p.dir+"/ocbackup.toml", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHealthy(t *testing.T) {
	p := newPatient(t, env.Restic(t, "0.18"))
	r := p.examine(t)
	for _, f := range r.Findings {
		// A user that is not root, a repository beside the data, and no control.
		if f.Status > Info && f.Check != "user" && f.Check != "repository disk" && f.Check != "server" && f.Check != "state directory" {
			t.Errorf("%s %s: %s (%s)", f.Status, f.Check, f.What, f.Mend)
		}
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"status":"ok"`) {
		t.Errorf("%s %v", b, err)
	}
}

// TestFindings damages one thing at a time.
func TestFindings(t *testing.T) {
	for _, x := range []struct {
		name   string
		damage func(t *testing.T, p *patient)
		check  string
		status Status
		what   string // part of the finding or of its remedy
		code   fail.Code
	}{
		{"unknown key", func(_ *testing.T, p *patient) { p.config.Control.Type = "nobody" }, "configuration", Error, "control.type", fail.Usage},
		{"configuration for all to change", func(t *testing.T, p *patient) {
			p.write(t, "ocbackup.toml", "")
			chmod(t, p.dir+"/ocbackup.toml", 0o666)
		}, "configuration", Warning, "chmod go-w", fail.OK},
		{"password for all to read", func(t *testing.T, p *patient) { chmod(t, p.config.Repository.PasswordFile, 0o644) }, "secrets", Error, "chmod 600", fail.Usage},
		{"password for the group to read", func(t *testing.T, p *patient) { chmod(t, p.config.Repository.PasswordFile, 0o640) }, "secrets", Info, "group", fail.OK},
		{"no password file", func(t *testing.T, p *patient) { remove(t, p.config.Repository.PasswordFile) }, "secrets", Error, "there is no file", fail.Usage},
		{"no restic", func(_ *testing.T, p *patient) { p.config.Repository.Restic = p.dir + "/no" }, "restic", Error, "install restic", fail.Usage},
		{"old restic", func(t *testing.T, p *patient) {
			p.fake(t, "restic", `echo "restic 0.14.0 compiled with go1.19.4 on linux/amd64"`)
			p.config.Repository.Restic = "restic"
		}, "restic", Error, "0.14.0", fail.Usage},
		{"repository in the data", func(_ *testing.T, p *patient) { p.config.Repository.Location = p.dir + "/data/repository" }, "repository disk", Error, "inside what is backed up", fail.Usage},
		{"no backup yet", nothing, "repository", Info, "no backup", fail.OK},
		{"data gone", func(t *testing.T, p *patient) { remove(t, p.dir+"/data/storage") }, "data", Error, "users:", fail.Usage},
		{"no opencloud.yaml", func(t *testing.T, p *patient) { remove(t, p.dir+"/config/opencloud.yaml") }, "data", Warning, "opencloud.yaml", fail.OK},
		{"no index yet", nothing, "data", Info, "search", fail.OK},
		{"deployment gone", func(_ *testing.T, p *patient) {
			p.config.Layout.Deployment = []string{p.dir + "/compose.yaml", p.dir + "/.env"}
		}, "data", Warning, "compose.yaml", fail.OK},
		{"a space without attributes", func(t *testing.T, p *patient) { p.write(t, "data/storage/users/users/u/file", "") }, "attributes", Warning, "1 of 2 spaces", fail.OK},
		{"all attributes lost", func(t *testing.T, p *patient) {
			if err := unix.Removexattr(p.dir+"/data/storage/users/projects/p", "user.oc.space.id"); err != nil {
				t.Fatal(err)
			}
		}, "attributes", Error, "metadata are lost", fail.Failed},
		{"damaged index", func(t *testing.T, p *patient) { p.write(t, "data/search/bleve/index_meta.json", "x") }, "search index", Warning, "damaged", fail.OK},
		{"external index", func(_ *testing.T, p *patient) { p.config.Layout.SearchExternal = true }, "search index", Info, "outside OpenCloud", fail.OK},
		{"not protected", func(_ *testing.T, p *patient) { p.config.NotProtected = []string{"service postgres: volume pg"} }, "not protected", Warning, "postgres", fail.OK},
		{"extra gone", func(_ *testing.T, p *patient) { p.config.Extra = []config.Extra{{Name: "x", Path: p.dir + "/no"}} }, "extra", Error, "x:", fail.Usage},
		{"extra command gone", func(_ *testing.T, p *patient) {
			p.config.Extra = []config.Extra{{Name: "x", Command: []string{"no-such-program"}}}
		}, "extra", Error, "no-such-program", fail.Usage},
		{"extra", func(_ *testing.T, p *patient) { p.config.Extra = []config.Extra{{Name: "x", Command: []string{"sh"}}} }, "extra", OK, "1 extra", fail.OK},
		{"stopped", func(t *testing.T, p *patient) { p.commands(t, "exit 3") }, "control", Warning, "is stopped", fail.OK},
		{"state not known", func(t *testing.T, p *patient) { p.commands(t, "echo broken >&2; exit 9") }, "control", Error, "broken", fail.Failed},
		{"not ready", func(t *testing.T, p *patient) {
			p.commands(t, "echo 1")
			p.config.Ready.Address = "127.0.0.1:1"
		}, "readiness", Error, "127.0.0.1:1", fail.Failed},
		{"not to be asked", func(_ *testing.T, p *patient) { p.config.Ready.Off = true }, "readiness", Info, "not checked", fail.OK},
		{"server command", func(t *testing.T, p *patient) {
			p.commands(t, "exit 3")
			p.fake(t, "oc-exec", "echo Version: 4.0.0")
			p.config.Control.Exec = []string{p.dir + "/bin/oc-exec"}
		}, "server", OK, "OpenCloud 4.0.0", fail.OK},
		{"no server commands", nothing, "server", Warning, "set exec", fail.OK},
		{"interrupted run", func(t *testing.T, p *patient) { p.journal(t, guard.Journal{Kind: guard.Backup, PID: 1 << 30}) }, "journal", Error, "ocbackup recover", fail.Failed},
		{"interrupted while OpenCloud was stopped", func(t *testing.T, p *patient) {
			p.journal(t, guard.Journal{Kind: guard.Backup, PID: 1 << 30, WasRunning: true})
		}, "journal", Error, "ocbackup recover", fail.NotBack},
		{"run under way", func(t *testing.T, p *patient) {
			p.journal(t, guard.Journal{Kind: guard.Backup, PID: os.Getpid(), BootID: guard.BootID()})
		}, "journal", Info, "under way", fail.OK},
		{"a process of that id after a reboot", func(t *testing.T, p *patient) {
			p.journal(t, guard.Journal{Kind: guard.Backup, PID: os.Getpid(), BootID: "other"})
		}, "journal", Error, "ocbackup recover", fail.Failed},
		{"held", func(t *testing.T, p *patient) {
			p.journal(t, guard.Journal{Kind: guard.Restore, PID: 1 << 30, Hold: "half of it"})
		}, "journal", Error, "ocbackup restore --in-place 2026", fail.NotBack},
		{"damaged journal", func(t *testing.T, p *patient) { p.write(t, "state/"+guard.JournalName, "{") }, "journal", Error, "ocbackup recover", fail.NotBack},
		{"snapshots turned off", func(_ *testing.T, p *patient) { p.config.Snapshot.Driver = snapshot.None }, "snapshots", Info, "turned off", fail.OK},
		{"kept snapshots", func(t *testing.T, p *patient) {
			p.snapshots(t, time.Now().Add(-90*time.Minute), time.Now().Add(time.Hour))
		}, "snapshots", OK, "7f3a, made 1 hour ago, are kept until 20", fail.OK},
		{"snapshots whose time is over", func(t *testing.T, p *patient) { p.snapshots(t, time.Now(), time.Now().Add(-time.Hour)) }, "snapshots", OK, "are removed by the next backup", fail.OK},
		{"a kept snapshot that is lost", func(t *testing.T, p *patient) {
			if os.Geteuid() != 0 { // nobody else can know
				env.Need(t, os.ErrPermission)
			}
			p.snapshots(t, time.Now(), time.Now().Add(time.Hour), snapshot.Volume{
				Driver: snapshot.Command, Name: "it", Live: "/srv", Command: &snapshot.Config{MountPoint: p.dir + "/none"},
			})
		}, "snapshots", Warning, "7f3a were kept: the snapshot it of /srv is lost: mount_point: stat", fail.OK},
		{"left-over snapshots", func(t *testing.T, p *patient) { p.snapshots(t, time.Now(), time.Time{}) }, "snapshots", Warning, "7f3a ocbackup recover", fail.OK},
		{"damaged record", func(t *testing.T, p *patient) { p.write(t, "state/snapshots/x.json", "{") }, "snapshots", Error, "x.json", fail.Failed},
		{"reindex", func(t *testing.T, p *patient) {
			if err := index.MarkRequired(p.dir+"/state", index.Marker{Reason: index.Absent, Since: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}, "reindex", Warning, "ocbackup reindex", fail.OK},
		{"timer not enabled", func(t *testing.T, p *patient) {
			p.fake(t, "systemctl", strings.Replace(scheduled, "timer enabled", "timer disabled", 1))
		}, "schedule", Warning, "systemctl enable --now ocbackup-cloud-backup.timer", fail.OK},
		{"nothing at boot", func(t *testing.T, p *patient) {
			p.fake(t, "systemctl", `echo "ocbackup-cloud-backup.timer enabled enabled"`)
		}, "schedule", Warning, "power loss", fail.OK},
		{"no timer", func(t *testing.T, p *patient) { p.fake(t, "systemctl", `exit 0`) }, "schedule", Warning, "ocbackup schedule install", fail.OK},
		{"state directory that can't be made", func(t *testing.T, p *patient) { p.config.StateDir = p.write(t, "file", "") + "/state" }, "state directory", Error, "can't be written to", fail.Usage},
		{"state in the data", func(_ *testing.T, p *patient) { p.config.StateDir = p.dir + "/data/ocbackup" }, "state directory", Warning, "inside what is backed up", fail.OK},
		{"state in memory", func(t *testing.T, p *patient) {
			dir, err := os.MkdirTemp("/dev/shm", "ocbackup-doctor-test-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { remove(t, dir) })
			p.config.StateDir = dir
		}, "state directory", Warning, "in memory", fail.OK},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := newPatient(t, "")
			x.damage(t, p)
			r := p.examine(t)
			for _, f := range r.Findings {
				if f.Check == x.check && f.Status == x.status && strings.Contains(f.What+" "+f.Mend, x.what) {
					if x.code != fail.OK && fail.CodeOf(r.Err()) != x.code {
						t.Errorf("exit code %d, want %d (%+v)", fail.CodeOf(r.Err()), x.code, r.Findings)
					}
					return
				}
			}
			t.Errorf("not found: %+v", r.Findings)
		})
	}
}

// TestRepository is about what a real restic says.
func TestRepository(t *testing.T) {
	restic := env.Restic(t, "0.18")
	p := newPatient(t, restic)
	expect := func(what string) {
		t.Helper()
		r := p.examine(t)
		for _, f := range r.Findings {
			if f.Check == "repository" && f.Status == Error && strings.Contains(f.What+f.Mend, what) {
				if fail.CodeOf(r.Err()) != fail.Repository {
					t.Error(r.Err())
				}
				return
			}
		}
		t.Errorf("not found: %+v", r.Findings)
	}
	right := p.config.Repository.PasswordFile
	p.config.Repository.PasswordFile = p.write(t, "password2", "wrong")
	expect("wrong password")
	p.config.Repository.PasswordFile = right
	remove(t, p.dir+"/repository")
	expect("ocbackup init")
}

func nothing(*testing.T, *patient) {}

// commands gives the instance control by commands, with this status.
func (p *patient) commands(t *testing.T, status string) {
	t.Helper()
	p.fake(t, "oc-status", status)
	p.config.Control = control.Config{
		Type: "command", Start: []string{"true"}, Stop: []string{"true"}, Status: []string{p.dir + "/bin/oc-status"},
		StopTimeout: time.Second, StartTimeout: time.Second,
	}
}

func (p *patient) journal(t *testing.T, j guard.Journal) {
	t.Helper()
	j.Format, j.Instance, j.Set = 1, "cloud", "20261123T021500Z-7f3a"
	if err := guard.Write(p.dir+"/state", j); err != nil {
		t.Fatal(err)
	}
}

// snapshots writes the record of a set's snapshots, as package snapshot does.
func (p *patient) snapshots(t *testing.T, created, until time.Time, volumes ...snapshot.Volume) {
	t.Helper()
	roots := map[string]snapshot.FrozenRoot{}
	for _, v := range volumes {
		roots[v.Name] = snapshot.FrozenRoot{Driver: v.Driver, Volume: v.Name}
	}
	b, err := json.Marshal(snapshot.Record{
		Format: 1, Set: "20261123T021500Z-7f3a", Instance: "cloud", Created: created, Until: until, Volumes: volumes, Roots: roots,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "state/snapshots/20261123T021500Z-7f3a.json", string(b))
}

// of returns what a check found.
func (r *Report) of(check string) (found []Finding) {
	for _, f := range r.Findings {
		if f.Check == check {
			found = append(found, f)
		}
	}
	return found
}

// TestSnapshotsInUse: those of a run that is at work are not left over.
func TestSnapshotsInUse(t *testing.T) {
	p := newPatient(t, "")
	p.snapshots(t, time.Now(), time.Time{})
	lock, err := guard.Acquire(p.dir+"/state", "backup")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	for _, f := range p.examine(t).of("snapshots") {
		if f.Status == Warning {
			t.Errorf("%+v", f)
		}
	}
}

// TestFreezing: file systems with snapshots and without.
func TestFreezing(t *testing.T) {
	p := newPatient(t, "")
	for _, x := range []struct {
		fs     string
		driver snapshot.Driver
		status Status
		what   string
	}{
		{"btrfs", snapshot.Auto, OK, "users by btrfs"},
		{"btrfs", snapshot.Btrfs, OK, "users by btrfs"},
		{"ext4", snapshot.Auto, Info, "users: read while OpenCloud is stopped: "},
		{"ext4", snapshot.Btrfs, Error, "users ("},
	} {
		p.config.Layout.UsersRoot, p.config.Snapshot.Driver = env.FileSystem(t, x.fs, 120), x.driver
		r := p.examine(t)
		found := r.of("snapshots")
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Status == x.status && strings.HasPrefix(f.What, x.what) }) {
			t.Errorf("%s, driver %s: %+v", x.fs, x.driver, found)
		}
		if x.status == Error && fail.CodeOf(r.Err()) != fail.Usage {
			t.Errorf("driver %s: %v", x.driver, r.Err())
		}
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestDeployment compares a configuration with a container that has changed since.
func TestDeployment(t *testing.T) {
	p := newPatient(t, "")
	p.fake(t, "docker", `case "$1 $2 $3" in
"ps -a --format") echo oc;;
"container inspect oc") echo '[{"Name":"/oc","Config":{"Image":"opencloudeu/opencloud:4.0.0","Env":["STORAGE_USERS_DRIVER=posix"]},"HostConfig":{"RestartPolicy":{"Name":"always"}},
"Mounts":[{"Type":"bind","Source":"`+p.dir+`/config","Destination":"/etc/opencloud","RW":true},{"Type":"bind","Source":"`+p.dir+`/other","Destination":"/var/lib/opencloud","RW":true}]}]';;
*) exit 1;;
esac`)
	p.config.Control = control.Config{Type: "docker", Container: "oc", StopTimeout: time.Second, StartTimeout: time.Second}
	r := p.examine(t)
	var drift, policy bool
	for _, f := range r.Findings {
		drift = drift || f.Check == "deployment" && f.Status == Error && strings.Contains(f.What, "OpenCloud uses "+p.dir+"/other")
		policy = policy || f.Check == "restart policy" && f.Status == Info
	}
	if !drift || !policy {
		t.Errorf("%+v", r.Findings)
	}
	if fail.CodeOf(r.Err()) != fail.Usage {
		t.Error(r.Err())
	}
}

// TestErrRanks: the configuration before the repository, both before the rest.
func TestErrRanks(t *testing.T) {
	for _, x := range []struct {
		codes []fail.Code
		want  fail.Code
	}{
		{[]fail.Code{fail.Repository, fail.Usage, fail.Failed}, fail.Usage},
		{[]fail.Code{fail.Failed, fail.Repository}, fail.Repository},
		{[]fail.Code{fail.Incomplete}, fail.Failed},
		{[]fail.Code{fail.Usage, fail.NotBack, fail.Repository}, fail.NotBack},
		{nil, fail.OK},
	} {
		r := &Report{}
		r.add(warning("", ""))
		for _, c := range x.codes {
			r.add(failure(c, "", ""))
		}
		if got := fail.CodeOf(r.Err()); got != x.want {
			t.Errorf("%v: %d", x.codes, got)
		}
	}
}

func TestInterrupted(t *testing.T) {
	p := newPatient(t, "")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(fail.New(fail.Interrupted, "interrupted", ""))
	if _, err := Run(ctx, p.dir+"/ocbackup.toml", "", nil); fail.CodeOf(err) != fail.Interrupted {
		t.Error(err)
	}
}
