//go:build integration

package systemd

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// From init to the restore with the contents of files in a bucket: the backup is made
// by its unit, inside the sandbox, where the only place to write to is the pool.
func TestBucket(t *testing.T) {
	t.Parallel()
	const envFile, password = "/etc/ocbackup/bucket.env", "/etc/ocbackup/pool-password"
	for _, row := range []struct {
		name, pool string
		files      bool // with keys for the bucket, and a password for the pool
	}{
		{"the instance's own keys", "", false},
		{"other keys and an encrypted pool", "/srv/pools/opencloud", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h, s3 := newBucketHost(t)
			init, pool := []string{"ocbackup", "init", "--systemd", unit, "--name", name, "--repository", repository}, repository+"-pool"
			if row.pool != "" {
				init, pool = append(init, "--pool", row.pool), row.pool
			}
			out := h.Must(t, init...)
			for _, want := range []string{"decomposeds3", env.BucketName + " at " + s3.Endpoint, pool} {
				if !strings.Contains(out, want) {
					t.Errorf("init does not say %q:\n%s", want, out)
				}
			}
			tellsNothing(t, s3, out, h.ReadFile(t, configFile))

			hidden := "/etc/ocbackup/password"
			if row.files {
				h.WriteFile(t, envFile, strings.Join(s3.AWSEnv(), "\n")+"\n", 0o600)
				h.WriteFile(t, password, "of the pool\n", 0o600)
				h.Must(t, "sed", "-i", `s|^\[bucket\]|&\nenv_file = "`+envFile+`"|; s|^\[pool\]|&\npassword_file = "`+password+`"|`, configFile)
				hidden += " " + envFile + " " + password
			}
			wants(t, h.Run(t, "ocbackup", "doctor"), 0, env.BucketName, "can be listed")
			h.schedule(t)
			for _, u := range []string{backupUnit, recoverUnit, checkUnit} {
				wants(t, h.Run(t, "systemd-analyze", "verify", "--man=no", "/etc/systemd/system/"+u), 0)
			}
			// What the configuration names is read by systemd alone, which hands it on.
			for _, u := range []string{backupUnit, checkUnit} {
				h.WriteFile(t, "/run/systemd/system/"+u+".d/test.conf",
					"[Service]\nInaccessiblePaths="+hidden+"\nExecStartPre=/bin/sh -c \"! grep -q . "+hidden+" && ! touch /srv/elsewhere\"\n", 0o644)
			}
			h.Must(t, "systemctl", "daemon-reload")

			h.byUnits(t)
			h.running(t)
			h.Must(t, "systemctl", "stop", unit)
			h.byUnits(t)
			then := s3.Objects(t, env.BucketName)
			held := h.filesBelow(t, pool)
			for key := range then {
				if in := held["blobs/"+key]; in == row.files {
					t.Errorf("in the pool the name of %s is in clear: %t", key, in)
				}
			}
			if len(held) <= len(then) {
				t.Errorf("the pool has %d files for %d objects", len(held), len(then))
			}
			if sets := h.sets(t); len(sets) < 2 {
				t.Fatalf("the sets are %v", sets)
			}

			s3.Wipe(t, env.BucketName)
			if h.check(t, "").Code != 1 {
				t.Fatal("the loss does not show")
			}
			h.Must(t, "rm", "-rf", "/etc/opencloud", "/var/lib/opencloud")
			wants(t, h.Run(t, "ocbackup", "restore", "--yes", "--no-start"), 0, "Objects: ")
			if got := s3.Objects(t, env.BucketName); !maps.Equal(got, then) {
				t.Errorf("the bucket has %d objects, had %d", len(got), len(then))
			}
			wants(t, h.check(t, ""), 0)
			ready := h.count(t, "ready")
			h.Must(t, "systemctl", "start", unit)
			h.awaitReady(t, ready)
			h.good(t)

			// The machine dies. What is left are the repository, the pool, and their passwords.
			h.Must(t, "systemctl", "disable", "--now", unit)
			h.Must(t, "mv", "/etc/ocbackup", "/root/kept")
			restore := []string{"ocbackup", "restore", "--repository", repository, "--password-file", "/root/kept/password"}
			if row.files {
				restore = append(restore, "--pool-password-file", "/root/kept/pool-password")
			}
			h.Must(t, "rm", "-rf", "/etc/opencloud", "/var/lib/opencloud", "/etc/opencloud.env", "/etc/systemd/system/opencloud.service",
				"/etc/systemd/system/opencloud.service.d", binary, stateDir, "/run/systemd/system/"+backupUnit+".d", "/run/systemd/system/"+checkUnit+".d")
			h.Must(t, "systemctl", "daemon-reload")
			s3.Wipe(t, env.BucketName)
			wants(t, h.Run(t, restore...), 0, "Objects: ")
			h.running(t)
			h.schedule(t)
			h.byUnits(t)
			h.good(t)
			tellsNothing(t, s3, h.Run(t, "journalctl", "--no-pager").Stdout)
		})
	}
}

// newBucketHost boots a machine with an instance on it whose bucket is on an S3 server
// elsewhere.
func newBucketHost(t *testing.T) (*host, *env.S3) {
	t.Helper()
	const fixture = "opencloud-4.0-decomposeds3"
	s3, vars := env.ServerBucket(t, env.Fixture(t, fixture))
	h := &host{Machine: env.Nspawn(t), bucket: vars}
	h.Expose(t, s3.Endpoint)
	h.install(t, fixture)
	return h, s3
}

// byUnits runs the units of the backup and of the check, which have to succeed.
func (h *host) byUnits(t *testing.T) {
	t.Helper()
	for _, u := range []string{backupUnit, checkUnit} {
		r := h.Run(t, "systemctl", "start", u)
		if result := h.property(t, u, "Result"); r.Code != 0 || result != "success" {
			t.Fatalf("%s ended with %s\n%s", u, result, h.journal(t, u))
		}
	}
}

// filesBelow lists the files below a directory.
func (h *host) filesBelow(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files := map[string]bool{}
	err := filepath.WalkDir(h.Path(dir), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[strings.TrimPrefix(path, h.Path(dir)+"/")] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// tellsNothing asserts that the keys of the bucket are in none of these texts.
func tellsNothing(t *testing.T, s3 *env.S3, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, secret := range []string{s3.AccessKey, s3.SecretKey} {
			if strings.Contains(text, secret) {
				t.Errorf("the secret %s is told:\n%s", secret, text)
			}
		}
	}
}
