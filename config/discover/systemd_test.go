package discover

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
)

// shown is what systemctl of systemd 252 prints for a service, with some of it to
// be filled in.
const shown = `MainPID=%PID%
ExecStart={ path=%BIN% ; argv[]=%BIN% server ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Environment=OC_URL=https://cloud.example.com "OC_LOG_LEVEL=two words" "X=quote\"d" "Y=back\\slash" "Z=\$x"
EnvironmentFiles=%DIR%/opencloud.env (ignore_errors=no)
EnvironmentFiles=%DIR%/none (ignore_errors=yes)
User=nobody
Group=
LoadState=loaded
ActiveState=active
FragmentPath=%DIR%/opencloud.service
DropInPaths=%DIR%/a.conf %DIR%/b.conf`

// unitDir makes a unit's files, and a systemctl that shows the unit.
func unitDir(t *testing.T, binary, pid string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/opencloud.service", "")
	write(t, dir+"/a.conf", "")
	write(t, dir+"/b.conf", "")
	write(t, dir+"/opencloud.env", "OC_CONFIG_DIR="+dir+"/etc\nOC_BASE_DATA_PATH=\""+dir+"/data\"\nSTORAGE_USERS_DRIVER=decomposed\n")
	out := strings.NewReplacer("%DIR%", dir, "%BIN%", binary, "%PID%", pid).Replace(shown)
	write(t, dir+"/show", out)
	fakes(t, map[string]string{"systemctl": `case "$1" in
show) for u; do :; done; case $u in opencloud.service) cat ` + dir + `/show;; *) echo LoadState=not-found;; esac;;
list-unit-files) echo "opencloud.service enabled enabled"; echo "ocbackup-opencloud.service static -";;
list-units) echo "opencloud.service loaded active running OpenCloud";;
esac`})
	return dir
}

func TestSystemdStopped(t *testing.T) {
	dir := unitDir(t, os.Args[0], "0")
	f, err := Systemd(context.Background(), "opencloud")
	if err != nil {
		t.Fatal(err)
	}
	c := f.Config
	equal(t, "type", c.Control.Type, "systemd")
	equal(t, "unit", c.Control.Unit, "opencloud.service")
	equal(t, "driver", c.Layout.Driver, opencloud.Decomposed)
	equal(t, "config dir", c.Layout.ConfigDir, dir+"/etc")
	equal(t, "data dir", c.Layout.DataDir, dir+"/data")
	equal(t, "binary", c.Layout.Binary, os.Args[0])
	equal(t, "url", c.Ready.URL, "https://cloud.example.com")
	equal(t, "name", c.Name, "cloud.example.com")
	equal(t, "in container", c.Ready.InContainer, false)
	equalList(t, "deployment", c.Layout.Deployment, dir+"/a.conf", dir+"/b.conf", dir+"/opencloud.env", dir+"/opencloud.service")
	if err := complete(c); err != nil {
		t.Error(err)
	}
	again, err := Again(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	equalList(t, "drift", Drift(c, again.Config))
}

// TestSystemdBucket: a stopped unit's bucket and keys are those of its environment file.
func TestSystemdBucket(t *testing.T) {
	dir := unitDir(t, os.Args[0], "0")
	write(t, dir+"/opencloud.env", "OC_CONFIG_DIR="+dir+"/etc\nOC_BASE_DATA_PATH="+dir+"/data\nSTORAGE_USERS_DRIVER=decomposeds3\n"+
		"STORAGE_USERS_DECOMPOSEDS3_ENDPOINT=https://s3.example.com/\nSTORAGE_USERS_DECOMPOSEDS3_BUCKET=oc\n"+
		"STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY=id\nSTORAGE_USERS_DECOMPOSEDS3_SECRET_KEY='s3 cret'\n")
	f, err := Systemd(context.Background(), "opencloud")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "bucket", f.Config.Bucket, config.Bucket{Endpoint: "https://s3.example.com", Region: "default", Name: "oc"})
	keys(t, f.Config, "id", "s3 cret")
	if got, err := Reach(context.Background(), f.Config); err != nil || got != "https://s3.example.com" {
		t.Error(got, err)
	}
}

// TestSystemdRunning: what the process has in its environment counts, not what the
// unit would give to the next one.
func TestSystemdRunning(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal("sleep is missing")
	}
	data := t.TempDir()
	child := exec.Command(sleep, "1000")
	child.Env = []string{"OC_BASE_DATA_PATH=" + data, "OC_CONFIG_DIR=/etc/oc"}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	unitDir(t, "/usr/local/bin/wrapper.sh", fmt.Sprint(child.Process.Pid))
	f, err := Systemd(context.Background(), "opencloud.service")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "data dir", f.Config.Layout.DataDir, data)
	equal(t, "config dir", f.Config.Layout.ConfigDir, "/etc/oc")
	equal(t, "driver", f.Config.Layout.Driver, opencloud.Posix)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "binary", f.Config.Layout.Binary, exe)
}

func TestSystemdRefuses(t *testing.T) {
	dir := unitDir(t, "/usr/bin/docker", "0")
	_, err := Systemd(context.Background(), "nope")
	refused(t, err, "there is no systemd unit nope.service")
	_, err = Systemd(context.Background(), "opencloud")
	refused(t, err, "runs OpenCloud in a container", "--compose")
	if err := os.Remove(dir + "/opencloud.env"); err != nil {
		t.Fatal(err)
	}
	unit := unit{name: "x.service", props: map[string][]string{"EnvironmentFiles": {dir + "/opencloud.env (ignore_errors=no)"}}}
	_, err = unit.environment(&Found{})
	refused(t, err, dir+"/opencloud.env")
}

// TestDefaultDirs: a self-built binary keeps all below $HOME, a packaged one in /etc
// and /var/lib; what exists decides.
func TestDefaultDirs(t *testing.T) {
	home := t.TempDir()
	s := &server{env: map[string]string{"HOME": home}}
	c, d := unit{}.defaults(s)
	if !paths.Exists("/var/lib/opencloud/storage") && !paths.Exists("/etc/opencloud/opencloud.yaml") {
		equal(t, "config", c, home+"/.opencloud/config")
		equal(t, "data", d, home+"/.opencloud")
	}
	write(t, home+"/.opencloud/config/opencloud.yaml", "")
	mkdirs(t, home+"/.opencloud/storage")
	c, d = unit{}.defaults(s)
	equal(t, "config", c, home+"/.opencloud/config")
	equal(t, "data", d, home+"/.opencloud")
	equal(t, "notes", len(s.notes), 2)
	s.env = map[string]string{"OC_CONFIG_DIR": "/c"}
	c, d = unit{}.defaults(s)
	equal(t, "config", c, "/c")
	equal(t, "data", d, "/var/lib/opencloud")
}
