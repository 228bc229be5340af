package restore

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

// What a killed run has left of the set's secrets goes with the next run; what another
// run is at work in does not.
func TestSecretsLeftByKilledRuns(t *testing.T) {
	s := newBucketSite(t)
	t.Setenv("TMPDIR", filepath.Join(s.base, "tmp"))
	left := []string{"state/cache/" + keysPrefix + "1", "tmp/" + keysPrefix + "2"}
	for _, dir := range left {
		s.write(dir+"/config/opencloud.yaml", "secret")
	}
	s.write("elsewhere/file", "kept")
	if err := os.Symlink(filepath.Join(s.base, "elsewhere"), filepath.Join(s.base, "tmp", keysPrefix+"link")); err != nil {
		t.Fatal(err)
	}
	other := &run{Options: s.options(), cfg: s.cfg}
	dir, done, err := other.keysDir()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 || filepath.Dir(dir) != filepath.Join(s.cfg.StateDir, "cache") {
		t.Errorf("%s: %v, %v", dir, st, err)
	}
	o := s.options()
	o.Components = []opencloud.Component{opencloud.Blobs}
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	for _, dir := range left {
		if s.has(dir) {
			t.Errorf("%s is there", dir)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	s.want("elsewhere/file", "kept")
	done()
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is there", dir)
	}
}
