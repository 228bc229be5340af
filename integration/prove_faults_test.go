//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// resticInProof makes ocbackup use a restic that behaves well until a set is being proven,
// and then, when it gets one of these commands, does what the shell text says ($RESTIC is the
// real one). The fault tells it when; before that, other commands are run.
func (c *cloud) resticInProof(commands, text, before string) (fault []string) {
	c.t.Helper()
	c.remove("proving")
	c.restic(c.script("restic", fmt.Sprintf(`RESTIC=%s
if [ -e %s ]; then case "$1" in %s) %s;; esac; fi
exec "$RESTIC" "$@"`, env.Restic(c.t, "0.18"), c.path("proving"), commands, text)))
	return faults("prove.begin=exec:touch " + c.path("proving") + "; " + before)
}

// What goes wrong while a set is proven is said, commits nothing, and is of no consequence
// for OpenCloud, which is at work again, nor for the next backup.
func TestProveFails(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "posix")
	first := c.backup()
	small := env.FileSystem(t, "ext4", 32)

	misbehaves := func(commands, text string) func(*cloud) []string {
		return func(c *cloud) []string {
			// Something has changed since it was stored, so that it can't be read from the disk.
			return c.resticInProof(commands, text, "chmod 0640 "+c.path("data/storage/users/users/*/standin/slot-1.dat"))
		}
	}
	for _, row := range []struct {
		name string
		set  func(c *cloud) (env []string)
		code int
		says []string
	}{
		{"the list is killed", misbehaves("ls", `"$RESTIC" "$@" | head -n 3; kill -KILL $$`), 8, []string{"killed", "list what was stored of root users"}},
		{"the list fails", misbehaves("ls", `echo "Fatal: no such luck" >&2; exit 1`), 8, []string{"no such luck", "list what was stored of root users"}},
		{"the list is empty", misbehaves("ls", `exit 0`), 8, []string{"restic lists 0 files"}},
		{"the list is cut short", misbehaves("ls", `"$RESTIC" "$@" | head -n 12; exit 0`), 8, []string{"restic lists ", "and has stored "}},
		{"what changed can't be fetched", misbehaves("restore|dump|cat", `echo "Fatal: no such luck" >&2; exit 1`), 8, []string{"no such luck"}},
		{"the state directory is full", func(c *cloud) []string {
			c.configure("", "state_dir", quote(filepath.Join(small, "state")))
			return fault("prove.begin", "exec:cat /dev/zero >"+small+"/ballast || true")
		}, 1, []string{"no space left", small}},
	} {
		t.Run(row.name, func(t *testing.T) {
			changed := c.with(t)
			extra := row.set(changed)
			tmp := t.TempDir()
			c.failed(func() {
				r := changed.runWith(append(extra, "TMPDIR="+tmp), "backup")
				c.with(t).saveConfig()
				wants(t, r, row.code, append(row.says, "prove", "running again", "nothing was committed")...)
			}, true)
			c.with(t).nothingTemporary(tmp, false)
			if left, _ := filepath.Glob(small + "/state/prove*"); len(left) > 0 {
				t.Errorf("there is left: %v", left)
			}
		})
	}
	c.good()
	if list := c.sets(); len(list) != 2 || list[0].Set != first {
		t.Errorf("the sets are %v", list)
	}
}

// A set that holds a part of the instance is proven as far as that goes, and says so.
func TestProofOfParts(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposed")
	onlyStandin(t, "its spaces are those of the stand-in")

	// With the metadata alone there is a catalog to look into, and no certificate.
	r := c.run("--json", "backup", "--component", "metadata")
	wants(t, r, 0)
	var res struct {
		Set                  string
		Catalog, Certificate map[string]any
		Warnings             []string
	}
	if err := json.Unmarshal([]byte(r.Stdout), &res); err != nil || res.Catalog == nil || res.Certificate != nil || len(res.Warnings) > 0 {
		t.Errorf("%v: %s", err, r.Stdout)
	}
	wants(t, r, 0, "not proven, since the set does not hold their contents")
	metadata := res.Set
	wants(t, c.run("show", metadata), 0, "no: the set has no certificate", "files")
	space := "personal" // it writes there
	files := c.browse("ls", metadata, space+":/standin").Nodes
	if len(files) == 0 {
		t.Error("nothing is in the catalog")
	}
	wants(t, c.run("get", metadata, space+":/standin", "--to", c.path("got")), 2, metadata, "does not hold the contents of files")
	wants(t, c.run("verify", metadata), 0, "does not hold both metadata and contents")

	// Without it there is neither.
	blobs := c.backup("--component", "blobs")
	config := c.backup("--component", "config")
	for _, args := range [][]string{
		{"spaces", config},
		{"ls", blobs, space + ":/"},
		{"find", config, "slot"},
		{"diff", metadata, blobs},
		{"get", blobs, space + ":/standin", "--to", c.path("got")},
	} {
		wants(t, c.run(args...), 2, "has no catalog", "without the metadata")
	}
	wants(t, c.run("show", blobs), 0, "no: the set has no certificate")
	wants(t, c.run("show", "--findings", config), 2, "has no certificate", "does not hold both metadata and contents")
	// What has none is passed over where others have one, and is no damage.
	wants(t, c.run("history", space+":/standin/slot-1.dat"), 0, metadata, blobs, config, "has no catalog")
	wants(t, c.run("verify", "--all"), 0, "without a catalog")
	c.running()
	if left, _ := filepath.Glob(c.path("got*")); len(left) > 0 {
		t.Errorf("there is %v", left)
	}

	// Sets of parts are no latest, and in nobody's way.
	wants(t, c.run("spaces"), 2)
	whole := c.next()
	c.proven()
	if n := len(c.browse("ls", space+":/standin").Nodes); n != len(files) {
		t.Errorf("the whole set %s has %d files, that of the metadata %d", whole, n, len(files))
	}
}

// Where there is nothing yet there is nothing to prove, and no harm; nor where the server
// was stopped all the time.
func TestProofOfNothing(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"posix", "decomposeds3"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, driver)
			onlyStandin(t, "it makes spaces at once")
			c.stop()
			shell := func(command string, args ...any) {
				t.Helper()
				wants(t, env.Exec(background, nil, "sh", "-c", fmt.Sprintf(command, args...)), 0)
			}
			users, later := c.path(usersRoot), c.path("later")
			shell("mkdir %s && mv %s %s/users && mkdir %s", later, users, later, users)
			if c.s3 != nil {
				shell("cp -a %s/%s %s/bucket", c.s3.Dir, env.BucketName, later)
			}
			c.wipeBucket()
			empty := c.backup()
			c.stopped()
			if p := c.proof(empty); p == nil || p.Nodes != 0 || len(p.Findings) > 0 {
				t.Errorf("the certificate is %+v", p)
			}
			if l := c.browse("spaces"); len(l.Spaces) > 0 {
				t.Errorf("there are spaces: %+v", l.Spaces)
			}
			wants(t, c.run("find", "x"), 0)
			wants(t, c.run("ls", "Admin:/"), 2, "Admin")
			wants(t, c.run("verify", "--read-data", "1/1"), 0, "0 nodes in 0 spaces")

			// The first files come.
			shell("rm -r %s && mv %s/users %s", users, later, users)
			if c.s3 != nil {
				shell("cp -a %s/bucket/. %s/%s", later, c.s3.Dir, env.BucketName)
			}
			c.start()
			full := c.next()
			c.proven()
			wants(t, c.run("diff", empty, full), 0, "slot-1.dat")
		})
	}
}
