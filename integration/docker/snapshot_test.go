//go:build integration

package docker

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// The data are a named volume that lies on a btrfs: it is frozen where it lies.
func TestVolumeOnBtrfs(t *testing.T) {
	t.Parallel()
	h := env.Docker(t)
	fs := env.FileSystem(t, "btrfs", 400)
	data := fs + "/data"
	mustRun(t, "btrfs", "-q", "subvolume", "create", data)
	mustRun(t, "chown", "1000:1000", data)
	// The engine has mounts of its own.
	mustRun(t, "nsenter", h.MountArgs("mount", mustRun(t, "findmnt", "-no", "SOURCE", fs), fs)...)
	t.Cleanup(func() { mustRun(t, "nsenter", h.MountArgs("umount", "-l", fs)...) })

	p := prepareProject(t, "4.0.8", true, "")
	p.write(t, "project/btrfs.yml", "volumes:\n  opencloud-data:\n    driver_opts: {type: none, o: bind, device: "+data+"}\n")
	vars, err := os.ReadFile(p.path("project/.env"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "project/.env", strings.Replace(string(vars), ":idm/postgres.yml", ":idm/postgres.yml:btrfs.yml", 1))
	p.up(t)
	if out := p.init(t); !strings.Contains(out, data) {
		t.Errorf("init does not find %s:\n%s", data, out)
	}
	id := p.backup(t)
	p.running(t)

	var set struct {
		Manifest struct {
			Roots []struct{ Name, Path, Taken string }
		}
	}
	r := p.run(t, "--json", "show", id)
	wants(t, r, 0)
	if err := json.Unmarshal([]byte(r.Stdout), &set); err != nil {
		t.Fatal(err)
	}
	frozen := 0
	for _, x := range set.Manifest.Roots {
		if strings.HasPrefix(x.Path, data) {
			frozen++
			if x.Taken != "btrfs" {
				t.Errorf("root %s was taken by %q", x.Name, x.Taken)
			}
		}
	}
	if frozen < 2 {
		t.Errorf("the roots are %+v", set.Manifest.Roots)
	}
	copied := p.path("copy")
	wants(t, p.run(t, "restore", "--target", copied, id), 0)
	wants(t, env.Exec(ctx, []string{
		"OC_CONFIG_DIR=" + copied + p.configDir(), "OC_BASE_DATA_PATH=" + copied + data, "STORAGE_USERS_DRIVER=posix",
	}, env.Standin(t), "check"), 0)
	if list := mustRun(t, "btrfs", "subvolume", "list", "-a", fs); strings.Contains(list, "ocbackup-") {
		t.Errorf("there is left: %s", list)
	}
}
