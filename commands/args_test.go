package commands

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestFlagsFirst(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for _, tc := range []struct{ in, want string }{
		{"ocbackup restore latest --yes", "ocbackup restore --yes latest"},
		{"ocbackup restore latest --component config --map /a=/b", "ocbackup restore --component config --map /a=/b latest"},
		{"ocbackup --json show 2026 --repository /r", "ocbackup --json show --repository /r 2026"},
		{"ocbackup list --json --log-level debug", "ocbackup --json --log-level debug list"},
		{"ocbackup -c x.toml show -r /r 2026", "ocbackup -c x.toml show -r /r 2026"},
		{"ocbackup verify --read-data=1/2 2026 --all", "ocbackup verify --read-data=1/2 --all 2026"},
		{"ocbackup schedule install --backup daily", "ocbackup schedule install --backup daily"},
		{"ocbackup restore -- --yes", "ocbackup restore -- --yes"},
		{"ocbackup show list", "ocbackup show list"},
		{"ocbackup", "ocbackup"},
	} {
		got := flagsFirst(app, strings.Fields(tc.in))
		if !slices.Equal(got, strings.Fields(tc.want)) {
			t.Errorf("%s\n got %s\nwant %s", tc.in, strings.Join(got, " "), tc.want)
		}
	}
}
