package restore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

// checkVersion makes sure that the server fits the data: an older server can't read
// what a newer one wrote, and a newer one changes it at its first start.
func (r *run) checkVersion(ctx context.Context) error {
	m := r.set.Manifest
	if m.OpenCloud == "" || m.OpenCloud == "unknown" || r.before.State == control.Absent {
		return nil // nothing to compare
	}
	for _, it := range r.items {
		if it.Has(opencloud.Binary) {
			return nil // the server is restored with its data
		}
	}
	if !r.has(opencloud.System) && !r.has(opencloud.Metadata) && !r.has(opencloud.Blobs) {
		return nil
	}
	have, err := control.Version(ctx, r.ctl)
	if err != nil {
		r.note("The version of the installed server could not be found out, so it was not compared with the set's (" + m.OpenCloud + "): " + err.Error())
		return nil
	}
	if have == m.OpenCloud {
		return nil
	}
	r.other = true
	order := compareVersions(have, m.OpenCloud)
	if order > 0 && r.AllowVersionMismatch {
		r.note(fmt.Sprintf("The installed server is %s, the set was taken from %s: the server will bring the data up to its version.", have, m.OpenCloud))
		return nil
	}
	server := "install " + m.OpenCloud + " first"
	if m.Image != nil {
		server = fmt.Sprintf("start %s first (image %s)", m.OpenCloud, m.Image.Ref)
	}
	choices := []string{server + ", or", "pick a set of " + have + ": ocbackup list"}
	why := "A server must not be older than its data. Either"
	if order > 0 {
		why = "A newer server changes the data at its first start. Either"
		choices[1] += ", or"
		choices = append(choices, "let the newer server go on with it: --allow-version-mismatch")
	}
	return fail.Usagef(why+"\n  "+strings.Join(choices, "\n  "),
		"the installed server is %s, the set was taken from %s", have, m.OpenCloud)
}

// compareVersions orders two versions as semantic versioning does (build metadata
// does not count): negative when a is older than b.
func compareVersions(a, b string) int {
	a, preA := splitVersion(a)
	b, preB := splitVersion(b)
	if c := compareParts(a, b); c != 0 {
		return c
	}
	switch {
	case preA == preB:
		return 0
	case preA == "":
		return 1
	case preB == "":
		return -1
	}
	return compareParts(preA, preB)
}

func splitVersion(v string) (core, pre string) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
	core, pre, _ = strings.Cut(v, "-")
	return core, pre
}

func compareParts(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		if i >= len(x) {
			return -1
		}
		if i >= len(y) {
			return 1
		}
		m, errM := strconv.ParseUint(x[i], 10, 64)
		n, errN := strconv.ParseUint(y[i], 10, 64)
		c := strings.Compare(x[i], y[i])
		switch {
		case errM == nil && errN == nil:
			c = 0
			if m < n {
				c = -1
			} else if m > n {
				c = 1
			}
		case errM == nil:
			c = -1 // numbers come before words
		case errN == nil:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return 0
}
