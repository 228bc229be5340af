//go:build integration

package main

import (
	"slices"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

// A real server of the driver decomposeds3 runs here, fresh and on its recorded tree:
// it serves what was put in, and the check judges the tree together with the bucket.
func TestBucket(t *testing.T) {
	if env.RealServer(t) == "" {
		t.Skip("needs a real server: set OPENCLOUD_BIN")
	}
	for name, fixture := range map[string]string{"fresh": "", "recorded": "opencloud-4.0-decomposeds3"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var tree env.Tree
			if fixture != "" {
				tree = env.ExtractFixture(t, fixture, dir)
			}
			s, bucket := env.ServerBucket(t, tree)
			vars := slices.Concat(env.ServerEnv(t, dir, "decomposeds3", fixture), bucket)
			run := func(want int, args ...string) {
				t.Helper()
				if r := env.Exec(t.Context(), vars, env.ServerProgram(t), args...); r.Code != want {
					t.Errorf("%v: exit code %d, want %d\n%s%s", args, r.Code, want, r.Stdout, r.Stderr)
				}
			}
			if fixture == "" {
				run(0, "init")
			}
			server := env.StartServer(t, vars)
			run(0, "verify")
			server.Stop(t)

			run(0, "check")
			objects := s.Objects(t, env.BucketName)
			for key := range objects {
				content := s.Get(t, env.BucketName, key)
				s.Delete(t, env.BucketName, key)
				run(1, "check")
				s.Put(t, env.BucketName, key, content)
				break
			}
			run(0, "check")
			server = env.StartServer(t, vars)
			run(0, "verify")
			server.Stop(t)
		})
	}
}
