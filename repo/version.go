package repo

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// versionText is how restic names its version: "restic 0.18.0 compiled with ...",
// also "0.19.1-dev". Releases before 0.17 know no JSON here.
var versionText = regexp.MustCompile(`(?m)^restic (\d+)\.(\d+)(?:\.(\d+))?`)

// versionBetterCompression is when --compression learned fastest and better.
var versionBetterCompression = Version{0, 19, 0}

// Prepare finds restic and checks that it is new enough. The error is a
// *NotInstalledError or a *TooOldError where it applies.
func (r *Repo) Prepare(ctx context.Context) (Version, error) {
	// A release that knows a feature no longer does not start when it is asked for.
	o, err := r.runOnce(ctx, call{command: "version", env: r.features(deviceFeature)})
	if err == nil {
		r.deviceFree = true
	} else if o, err = r.runOnce(ctx, call{command: "version"}); err != nil {
		return Version{}, err
	}
	m := versionText.FindSubmatch(o.stdout)
	if m == nil {
		first, _, _ := strings.Cut(string(o.stdout), "\n")
		return Version{}, fmt.Errorf("%s is not restic: its version is %q", r.opt.Binary, first)
	}
	var v Version
	for i, n := range []*int{&v.Major, &v.Minor, &v.Patch} {
		*n, _ = strconv.Atoi(string(m[i+1])) // digits, or nothing: 0
	}
	if v.Less(MinVersion) {
		return v, &TooOldError{Binary: r.opt.Binary, Have: v, Need: MinVersion}
	}
	if c := r.opt.Compression; (c == "fastest" || c == "better") && v.Less(versionBetterCompression) {
		return v, &TooOldError{Binary: r.opt.Binary, Have: v, Need: versionBetterCompression, For: "compression " + c}
	}
	return v, nil
}
