package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/snapshot"
)

func TestMain(m *testing.M) {
	// A failure's input is in its message; no files are to be left behind.
	_ = flag.Set("rapid.nofailfile", "true")
	for _, k := range Keys {
		if k.Env != "" {
			_ = os.Unsetenv(k.Env) // the machine's own
		}
	}
	os.Exit(m.Run())
}

const minimal = `name = "cloud"

[repository]
location = "/srv/backup"

[layout]
driver = "posix"
config_dir = "/etc/opencloud"
data_dir = "/var/lib/opencloud/"

[control]
type = "systemd"
unit = "opencloud.service"
`

// withBucket is minimal with the blobs in a bucket.
var withBucket = strings.Replace(minimal, "\"posix\"", "\"decomposeds3\"", 1) + `
[bucket]
endpoint = "http://minio:9000"
name = "oc"

[pool]
location = "/srv/pool/"
`

func TestDefaults(t *testing.T) {
	c, err := parse("t.toml", minimal)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ what, got, want any }{
		{"state dir", c.StateDir, "/var/lib/ocbackup/cloud"},
		{"data dir", c.Layout.DataDir, "/var/lib/opencloud"},
		{"users root", c.Layout.UsersRoot, "/var/lib/opencloud/storage/users"},
		{"search dir", c.Layout.SearchDir, "/var/lib/opencloud/search"},
		{"max downtime", c.Backup.MaxDowntime, 30 * time.Minute},
		{"ready timeout", c.Ready.Timeout, 3 * time.Minute},
		{"retry lock", c.Repository.RetryLock, 2 * time.Minute},
		{"seed", c.Backup.Seed, "auto"},
		{"snapshots", fmt.Sprint(c.Snapshot), fmt.Sprint(snapshot.Config{Driver: snapshot.Auto, LVMSize: "20%ORIGIN"})},
		{"path", c.Path, "t.toml"},
		{"no bucket", c.Bucket, Bucket{}},
		{"no pool", c.Pool, Pool{}},
	} {
		if x.got != x.want {
			t.Errorf("%s: %v, want %v", x.what, x.got, x.want)
		}
	}
	if text := string(Render(c)); strings.Contains(text, "bucket]") || strings.Contains(text, "pool]") {
		t.Errorf("a driver without a bucket is asked for one:\n%s", text)
	}
	c, err = parse("t.toml", withBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ what, got, want any }{
		{"region", c.Bucket.Region, "default"},
		{"pool", c.Pool.Location, "/srv/pool"},
		{"reconcile every", c.Pool.ReconcileEvery, 168 * time.Hour},
		{"grace", c.Pool.Grace, 720 * time.Hour},
		{"need pool", c.NeedPool(), nil},
	} {
		if x.got != x.want {
			t.Errorf("%s: %v, want %v", x.what, x.got, x.want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, x := range []struct {
		name, old, new string
		want           []string
	}{
		{"unknown key", "driver =", "drivr =", []string{"t.toml:7: layout.drivr: there is no such key; did you mean layout.driver?"}},
		{"unknown table", "[control]", "[contrl]", []string{"t.toml:11: contrl: there is no such key; did you mean control?"}},
		{"key in the wrong table", `name = "cloud"`, "name = \"cloud\"\nunit = \"x\"", []string{"t.toml:2: unit: there is no such key; did you mean control.unit (in the table [control])?"}},
		{"far from any key", `name = "cloud"`, "name = \"cloud\"\nzzzzzzzzzzzz = 1", []string{"t.toml:2: zzzzzzzzzzzz: there is no such key"}},
		{"wrong type", `name = "cloud"`, `name = 5`, []string{"t.toml:1: name: expected text in quotes, found whole number"}},
		{"text for a list", `driver = "posix"`, "driver = \"posix\"\ndeployment = \"/x\"", []string{"t.toml:8: layout.deployment: expected list of texts, found text"}},
		{"number in a list", `driver = "posix"`, "driver = \"posix\"\ndeployment = [1]", []string{"t.toml:8: layout.deployment", "whole number in the list"}},
		{"value for a table", "[repository]\nlocation", "repository", []string{"t.toml:3: repository: expected table, found text"}},
		{"table for an array", "[control]", "[extra]\nname=\"x\"\n[control]", []string{"t.toml:11: extra: expected list of tables, found table"}},
		{"duration without unit", "[control]", "[backup]\nmax_downtime = \"30\"\n[control]", []string{"t.toml:12: backup.max_downtime: expected a duration", `found "30"`}},
		{"duration as a number", "[control]", "[backup]\nmax_downtime = 30\n[control]", []string{"t.toml:12: backup.max_downtime: expected duration"}},
		{"duration of zero", "[control]", "[backup]\nmax_downtime = \"0s\"\n[control]", []string{"t.toml:12: backup.max_downtime", "more than 0"}},
		{"syntax", `name = "cloud"`, `name = cloud`, []string{"t.toml:1:"}},
		{"unknown driver", `"posix"`, `"posx"`, []string{`t.toml:7: layout.driver: "posx" is not one of posix, decomposed`}},
		{"unknown control", `"systemd"`, `"sysv"`, []string{`t.toml:12: control.type: "sysv" is not one of systemd, compose`}},
		{"control without its keys", `unit = "opencloud.service"`, "", []string{`control.unit: is missing; control type "systemd" needs it`}},
		{"relative path", `"/etc/opencloud"`, `"etc/opencloud"`, []string{`t.toml:8: layout.config_dir: "etc/opencloud" is not an absolute path`}},
		{"relative repository", `"/srv/backup"`, `"backup"`, []string{"t.toml:4: repository.location"}},
		{"name with a blank", `"cloud"`, `"my cloud"`, []string{`t.toml:1: name: "my cloud"`}},
		{"name with a slash", `"cloud"`, `"../x"`, []string{`t.toml:1: name: "../x"`}},
		{"no name", `name = "cloud"`, "", []string{"name: is missing", "OCBACKUP_NAME"}},
		{"both passwords", "[layout]", "password_file = \"/p\"\npassword_command = \"p\"\n[layout]", []string{"t.toml:7: repository.password_command"}},
		{"negative limit", "[layout]", "limit_upload_kib = -1\n[layout]", []string{"t.toml:6: repository.limit_upload_kib: -1"}},
		{"an accepted loss that is no place", "[control]", "[backup]\naccept_lost = [\"Marketing\"]\n[control]", []string{`t.toml:12: backup.accept_lost: "Marketing" is no SPACE:/path`}},
		{"a component that can't be left out", "[control]", "[backup]\nskip = [\"system\"]\n[control]", []string{`t.toml:12: backup.skip: "system" is not one of search, binary`}},
		{"extra without content", "[control]", "[[extra]]\nname = \"x\"\n[control]", []string{`extra "x": give either path or command`}},
		{"unknown key of the second extra", "[control]", "[[extra]]\nname = \"x\"\npath = \"/x\"\n[[extra]]\nname = \"y\"\npaht = \"/y\"\n[control]", []string{"t.toml:16: extra.paht", "did you mean extra.path?"}},
		{"unknown snapshot driver", "[control]", "[snapshot]\ndriver = \"zsf\"\n[control]", []string{`t.toml:12: snapshot.driver: "zsf" is not one of auto, btrfs, zfs`}},
		{"negative time", "[control]", "[snapshot]\nkeep_snapshots = \"-1h\"\n[control]", []string{`t.toml:12: snapshot.keep_snapshots: "-1h" is less than 0`}},
		{"size without unit", "[control]", "[snapshot]\nlvm_size = \"10\"\n[control]", []string{`t.toml:12: snapshot.lvm_size: "10" is neither`}},
		{"share of what", "[control]", "[snapshot]\nlvm_size = \"20%\"\n[control]", []string{`t.toml:12: snapshot.lvm_size: "20%" is neither`}},
		{"snapshot commands without the driver", "[control]", "[snapshot]\ndestroy = [\"d\"]\n[control]", []string{`t.toml:12: snapshot.destroy: goes with the snapshot driver "command"; driver is "auto"`}},
		{"snapshot driver without its commands", "[control]", "[snapshot]\ndriver = \"command\"\npath = \"/srv\"\n[control]", []string{
			"t.toml: snapshot.mount_point: is missing", "t.toml: snapshot.create: is missing", "t.toml: snapshot.destroy: is missing",
		}},
		{"snapshots that can't be told apart", "[control]", "[snapshot]\ndriver = \"command\"\npath = \"/srv\"\nmount_point = \"/mnt\"\ncreate = [\"c\"]\ndestroy = [\"d\", \"{name}\"]\n[control]", []string{
			"t.toml:15: snapshot.create: {name} occurs neither",
		}},
		{"relative mount point", "[control]", "[snapshot]\ndriver = \"command\"\npath = \"/srv\"\nmount_point = \"{name}\"\ncreate = [\"c\"]\ndestroy = [\"d\"]\n[control]", []string{
			`t.toml:14: snapshot.mount_point: "{name}" is not an absolute path`,
		}},
		{"two mistakes at once", `driver = "posix"`, "drivr = \"posix\"\ndata = 1", []string{"t.toml:7: layout.drivr", "t.toml:8: layout.data"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := strings.Replace(minimal, x.old, x.new, 1)
			if text == minimal {
				t.Fatal("the test changes nothing")
			}
			_, err := parse("t.toml", text)
			if err == nil {
				t.Fatal("no error")
			}
			if fail.CodeOf(err) != fail.Usage {
				t.Errorf("code %d", fail.CodeOf(err))
			}
			for _, want := range x.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %s\nwant %s", err, want)
				}
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	t.Setenv(PathEnv, filepath.Join(t.TempDir(), "no.toml"))
	_, err := Load("")
	if fail.CodeOf(err) != fail.Usage || !strings.Contains(err.Error(), "no.toml") {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("OCBACKUP_REPOSITORY", "s3:https://s3.example.com/b")
	t.Setenv("OCBACKUP_PASSWORD_FILE", "/p")
	t.Setenv("OCBACKUP_STATE_DIR", "/s")
	t.Setenv("OCBACKUP_MAX_DOWNTIME", "7m")
	c, err := parse("t.toml", strings.Replace(minimal, "[layout]", "password_command = \"x\"\n[layout]", 1))
	if err != nil {
		t.Fatal(err)
	}
	if c.Repository.Location != "s3:https://s3.example.com/b" || c.Repository.PasswordFile != "/p" ||
		c.Repository.PasswordCommand != "" || c.StateDir != "/s" || c.Backup.MaxDowntime != 7*time.Minute {
		t.Errorf("%+v", c)
	}
	t.Setenv("OCBACKUP_MAX_DOWNTIME", "soon")
	if _, err := parse("t.toml", minimal); err == nil || !strings.Contains(err.Error(), "OCBACKUP_MAX_DOWNTIME") {
		t.Error(err)
	}
}

// TestSnapshotEnvironment: another driver takes the place of the commands.
func TestSnapshotEnvironment(t *testing.T) {
	text := minimal + `
[snapshot]
driver = "command"
keep_snapshots = "0s"
path = "/srv//opencloud/"
mount_point = "/mnt/{name}"
create = ["/usr/local/sbin/oc-snapshot", "create"]
destroy = ["/usr/local/sbin/oc-snapshot", "destroy"]
`
	c, err := parse("t.toml", text)
	if err != nil || c.Snapshot.Driver != snapshot.Command || c.Snapshot.Path != "/srv/opencloud" || c.Snapshot.Keep != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	t.Setenv("OCBACKUP_SNAPSHOT_DRIVER", "none")
	c, err = parse("t.toml", text)
	if err != nil || c.Snapshot.Driver != snapshot.None || c.Snapshot.Path != "" {
		t.Errorf("%+v, %v", c, err)
	}
	t.Setenv("OCBACKUP_SNAPSHOT_DRIVER", "zsf")
	if _, err := parse("t.toml", text); err == nil || !strings.Contains(err.Error(), "snapshot.driver") {
		t.Error(err)
	}
}

// TestSchema holds the schema against the types that it describes.
func TestSchema(t *testing.T) {
	listed := map[string]bool{}
	for _, k := range Keys {
		if listed[k.Name] {
			t.Errorf("%s is listed twice", k.Name)
		}
		listed[k.Name] = true
		if _, ok := fieldTypes[k.Name]; !ok {
			t.Errorf("%s is no field", k.Name)
		}
		if k.Doc == "" || k.Example == "" && k.Default == "" {
			t.Errorf("%s lacks an explanation or an example", k.Name)
		}
		if k.Env != "" && !strings.HasPrefix(k.Env, "OCBACKUP_") {
			t.Errorf("%s: %s", k.Name, k.Env)
		}
	}
	for name, typ := range fieldTypes {
		if k := kindOf(typ); k != kindTable && k != kindTables && !listed[name] {
			t.Errorf("%s is not in the schema", name)
		}
	}
}

func TestRenderedNamesEveryKey(t *testing.T) {
	c := &Config{}
	c.Layout.Driver = opencloud.DecomposedS3
	text := "\n" + string(Render(c))
	table := ""
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "# "))
		if strings.HasPrefix(line, "[") {
			table = strings.Trim(line, "[]") + "."
		}
		if name, _, ok := strings.Cut(line, " = "); ok {
			seen[table+name] = true
		}
	}
	for _, k := range Keys {
		if !seen[k.Name] {
			t.Errorf("%s is not in the rendered file", k.Name)
		}
	}
}

// TestRenderedExamplesAreValid takes the comment signs off everything that is
// commented out: what an admin gets by doing so must be of the right type.
func TestRenderedExamplesAreValid(t *testing.T) {
	var b strings.Builder
	c := &Config{}
	c.Layout.Driver = opencloud.DecomposedS3
	for line := range strings.Lines(string(Render(c))) {
		if s := strings.TrimPrefix(line, "# "); strings.Contains(s, " = ") && !strings.Contains(s, "= cache in") {
			line = s
		} else if s == "[[extra]]\n" {
			line = s
		}
		b.WriteString(line)
	}
	_, err := parse("t.toml", strings.Replace(b.String(), "driver = \"auto\"", "driver = \"command\"", 1))
	// Both passwords, and extra with both path and command, are the only faults.
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "password_command") || !strings.Contains(err.Error(), "extra.path") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestRenderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		text := Render(c)
		got, err := parse("t.toml", string(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !got.Equal(c) {
			t.Fatalf("got  %+v\nwant %+v\n%s", got, c, text)
		}
	})
}

// anyConfig draws a valid configuration, by the schema.
func anyConfig(t *rapid.T) *Config {
	text := rapid.String().Filter(func(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) && s != "" })
	path := rapid.Map(text, func(s string) string { return "/" + s })
	paths := map[string]bool{}
	for _, p := range (&Config{}).paths() {
		paths[p.key] = true
	}
	c := &Config{}
	for _, k := range Keys {
		if table, _ := k.Table(); table == "extra" || !c.has(table) || !k.Required && rapid.Bool().Draw(t, "skip "+k.Name) {
			continue
		}
		one := text
		switch {
		case paths[k.Name] || k.Name == "repository.location":
			one = path
		case len(k.Values) > 0:
			one = rapid.SampledFrom(k.Values)
		case k.Name == "name":
			one = rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,20}`)
		case k.Name == "bucket.endpoint" || k.Name == "bucket.reach":
			one = rapid.SampledFrom([]string{"http://minio:9000", "https://S3.example.com/", "https://[::1]:9000"})
		case k.Name == "backup.accept_lost":
			one = rapid.StringMatching(`[A-Za-z0-9 ]{1,9}:/[a-z/]{0,9}`)
		case k.Name == "bucket.name":
			one = rapid.StringMatching(`[A-Za-z0-9.]{1,20}`)
		case k.Name == "pool.location":
			one = rapid.SampledFrom([]string{"s3:https://pool.example.com/b/p", "sftp:nas:/pool", "sftp://u@nas:2222//pool", "rclone:b2:pool"})
		}
		v := k.value(c)
		switch kindOf(v.Type()) {
		case kindString:
			v.SetString(one.Draw(t, k.Name))
		case kindBool:
			v.SetBool(true)
		case kindInt:
			v.SetInt(int64(rapid.IntRange(1, 1<<30).Draw(t, k.Name)))
		case kindDuration:
			v.SetInt(rapid.Int64Range(1, 1<<50).Draw(t, k.Name))
		case kindStrings:
			l := rapid.SliceOfN(one, 1, 3).Draw(t, k.Name)
			if k.Name == "backup.skip" {
				for _, s := range l {
					c.Backup.Skip = append(c.Backup.Skip, opencloud.Component(s))
				}
				continue
			}
			v.Set(reflect.ValueOf(l))
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "extras") {
		e := Extra{Name: string(rune('a' + i))}
		if rapid.Bool().Draw(t, "path") {
			e.Path = path.Draw(t, "path")
		} else {
			e.Command = rapid.SliceOfN(text, 1, 3).Draw(t, "command")
		}
		c.Extra = append(c.Extra, e)
	}
	// What depends on other keys.
	if c.Bucket.Endpoint == "" || c.Bucket.Name == "" {
		c.Bucket.Endpoint, c.Bucket.Name = "", ""
	}
	c.Repository.PasswordCommand = ""
	c.Snapshot.LVMSize = rapid.SampledFrom([]string{"", "10g", "120%ORIGIN", "5%FREE"}).Draw(t, "lvm_size")
	if c.Snapshot.Driver == snapshot.Command {
		c.Snapshot.Path, c.Snapshot.MountPoint = "/srv", "/mnt/{name}"
		c.Snapshot.Create, c.Snapshot.Destroy = []string{"c"}, []string{"d", "{name}"}
	} else {
		c.Snapshot = snapshot.Config{Driver: c.Snapshot.Driver, Keep: c.Snapshot.Keep, LVMSize: c.Snapshot.LVMSize}
	}
	if c.Ready.PasswordFile == "" || c.Ready.User == "" {
		c.Ready.PasswordFile, c.Ready.User = "", ""
	}
	for _, k := range []string{"systemd", "compose", "docker", "command"} {
		if c.Control.Type == k || c.Control.Type == "podman" {
			c.Control.Unit, c.Control.Container, c.Control.ProjectDir = "u", "c", "/p"
			c.Control.Start, c.Control.Stop, c.Control.Status = []string{"a"}, []string{"b"}, []string{"c"}
		}
	}
	c.SetDefaults()
	return c
}

func TestLoadReadsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocbackup.toml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || c.Path != path {
		t.Error(c, err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Layout.Driver = "x"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "layout.driver") {
		t.Error(err)
	}
}
