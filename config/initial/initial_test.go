package initial

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/snapshot"
)

// instance makes the directories of an instance and returns how it is named to Make.
func instance(t *testing.T) (dir string, o Options) {
	t.Helper()
	for _, v := range []string{"CREDENTIALS_DIRECTORY", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD", "RESTIC_PASSWORD_COMMAND", "OCBACKUP_PASSWORD_FILE", "OCBACKUP_REPOSITORY", "OCBACKUP_STATE_DIR", "OCBACKUP_NAME", "OCBACKUP_POOL"} {
		t.Setenv(v, "")
	}
	dir = t.TempDir()
	for _, d := range []string{"config", "data/storage/users/projects"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, Options{
		Output: dir + "/etc/ocbackup.toml", Name: "cloud", StateDir: dir + "/state", Repository: dir + "/repository", Restic: env.Restic(t, "0.18"),
		Paths: &discover.PathsOptions{ConfigDir: dir + "/config", DataDir: dir + "/data"},
	}
}

func makePlan(t *testing.T, o Options) *Plan {
	t.Helper()
	p, err := Make(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func do(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := makePlan(t, o).Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlanChangesNothing(t *testing.T) {
	dir, o := instance(t)
	p := makePlan(t, o)
	for _, f := range []string{"etc", "repository", "state"} {
		if paths.Exists(filepath.Join(dir, f)) {
			t.Errorf("%s was made", f)
		}
	}
	if !p.NewPassword || p.Replaces || !strings.Contains(string(p.Text), "location = \""+dir+"/repository\"") {
		t.Errorf("%+v\n%s", p, p.Text)
	}
}

func TestDo(t *testing.T) {
	dir, o := instance(t)
	r := do(t, o)
	if !r.PasswordCreated || !r.RepositoryCreated || len(r.RepositoryID) != 64 {
		t.Errorf("%+v", r)
	}
	c, err := config.Load(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "cloud" || c.Layout.Driver != opencloud.Posix || c.StateDir != dir+"/state" || c.Repository.PasswordFile != dir+"/etc/password" {
		t.Errorf("%+v", c)
	}
	for _, f := range []string{o.Output, c.Repository.PasswordFile} {
		st, err := os.Stat(f)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, st.Mode(), err)
		}
	}
	password, err := os.ReadFile(c.Repository.PasswordFile)
	if err != nil || len(strings.TrimSpace(string(password))) != 44 {
		t.Errorf("%q %v", password, err)
	}

	// A second time: refused, then with --force, which keeps password and repository.
	if _, err := Make(context.Background(), o); err == nil || fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "exists already") {
		t.Error(err)
	}
	o.Force, o.Repository, o.Restic, o.Name, o.Paths = true, "", "", "", nil
	r2 := do(t, o)
	if r2.PasswordCreated || r2.RepositoryCreated || r2.RepositoryID != r.RepositoryID || r2.Replaced != o.Output+".old" {
		t.Errorf("%+v", r2)
	}
	again, err := os.ReadFile(c.Repository.PasswordFile)
	if err != nil || string(again) != string(password) {
		t.Error("the password file was changed")
	}
	if c, err = config.Load(o.Output); err != nil || c.Name != "cloud" || c.StateDir != dir+"/state" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestForeignRepository(t *testing.T) {
	dir, o := instance(t)
	do(t, o)
	o.Output = dir + "/etc/second.toml"
	_, err := makePlan(t, o).Do(context.Background())
	_, _, hint := fail.Details(err)
	if fail.CodeOf(err) != fail.Repository || !strings.Contains(hint, "--password-file") {
		t.Error(err, hint)
	}
	if paths.Exists(dir+"/etc/second.toml") || paths.Exists(dir+"/etc/second.password") {
		t.Error("files were left behind")
	}
	o.PasswordFile = dir + "/etc/password"
	if r := do(t, o); r.RepositoryCreated || r.PasswordCreated {
		t.Errorf("%+v", r)
	}
}

func TestRefused(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(dir string, o *Options)
		code   fail.Code
		want   string
	}{
		{"no repository", func(_ string, o *Options) { o.Repository = "" }, fail.Usage, "repository.location: is missing"},
		{"no restic", func(dir string, o *Options) { o.Restic = dir + "/no" }, fail.Usage, "no such program"},
		{"repository can't be made", func(dir string, o *Options) { o.Repository = dir + "/file/repository" }, fail.Repository, "create the repository"},
		{"password for all to read", func(dir string, o *Options) { o.PasswordFile = dir + "/open" }, fail.Usage, "everybody on this machine"},
		{"a name with blanks", func(_ string, o *Options) { o.Name = "my cloud" }, fail.Usage, "name"},
		{"two instances", func(_ string, o *Options) { o.Unit = "x" }, fail.Usage, "exclude each other"},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir, o := instance(t)
			for _, f := range []string{"file", "open"} {
				if err := os.WriteFile(filepath.Join(dir, f), []byte("secret"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			x.change(dir, &o)
			p, err := Make(context.Background(), o)
			if err == nil {
				_, err = p.Do(context.Background())
			}
			if err == nil || fail.CodeOf(err) != x.code || !strings.Contains(err.Error(), x.want) {
				t.Errorf("code %d: %v", fail.CodeOf(err), err)
			}
			if paths.Exists(o.Output) {
				t.Error("the configuration was written")
			}
		})
	}
}

// TestUnreadable: an old file that can't be read is replaced, and that is said.
func TestUnreadable(t *testing.T) {
	_, o := instance(t)
	o.Force = true
	if err := os.MkdirAll(filepath.Dir(o.Output), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Output, []byte("nam = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := makePlan(t, o); !strings.Contains(strings.Join(p.Found.Notes, "\n"), "nothing could be taken over") {
		t.Error(p.Found.Notes)
	}
}

// TestKeep: what an admin has chosen outlives a new look at the instance.
func TestKeep(t *testing.T) {
	old := &config.Config{Name: "old", StateDir: "/s", Extra: []config.Extra{{Name: "x", Path: "/x"}}}
	old.Backup.Skip = []opencloud.Component{opencloud.Binary}
	old.Control = control.Config{AlsoStop: []string{"web"}, StopTimeout: 7}
	old.Ready.Off = true
	old.Snapshot.Driver = snapshot.None
	c := &config.Config{Name: "new"}
	c.Control = control.Config{Type: "systemd", Unit: "u", AlsoStop: []string{"db"}}
	keep(c, old)
	if c.Name != "old" || len(c.Extra) != 1 || len(c.Backup.Skip) != 1 || c.Control.Unit != "u" || len(c.Control.AlsoStop) != 2 || !c.Ready.Off || c.Control.StopTimeout != 7 || c.Snapshot.Driver != snapshot.None {
		t.Errorf("%+v", c)
	}
}
