//go:build integration

package integration

import (
	"errors"
	"os"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// password is that of every repository here.
const password = "correct horse battery staple"

// newRepository makes an empty repository, whose key takes no time to derive.
func newRepository(t testing.TB, dir string) {
	t.Helper()
	restic := env.Restic(t, "0.18")
	template := provide(t, "repository", func(path string) error {
		r := env.Exec(background, []string{"RESTIC_PASSWORD=" + password}, restic, "init", "--no-cache", "-r", path)
		if r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return env.CheapenKey(path, password)
	})
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
}
