package repo

import (
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

// What the place can't take is no damage of the repository.
func TestFailureOfRestore(t *testing.T) {
	full := Item{"/srv/a", "write /srv/a: no space left on device"}
	r := New(Options{Location: "/repo"})
	for name, c := range map[string]struct {
		items []Item
		code  fail.Code
	}{
		"full":             {[]Item{full, {"/srv/b", "chown /srv/b: operation not permitted"}}, fail.Failed},
		"damaged":          {[]Item{{"/srv/a", "ciphertext verification failed"}}, fail.Inconsistent},
		"both":             {[]Item{full, {"/srv/a", "ciphertext verification failed"}}, fail.Inconsistent},
		"unreadable pack":  {[]Item{{"/srv/a", "Load(<data/0123456789>, 0, 0): open /repo/data/01/0123456789: permission denied"}}, fail.Inconsistent},
		"something unseen": {[]Item{{"/srv/a", "sadness"}}, fail.Inconsistent},
	} {
		err := r.Failure(&RestoreError{Items: c.items}, "restore")
		_, _, hint := fail.Details(err)
		if fail.CodeOf(err) != c.code || (hint == TargetHint) != (c.code == fail.Failed) {
			t.Errorf("%s: code %d, hint %q", name, fail.CodeOf(err), hint)
		}
	}
}
