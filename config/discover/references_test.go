package discover

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What compose files refer to, in all the ways that the compose specification has.
func TestReferences(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	write(t, file, `
x-env: &env
  env_file: [anchored.env]
x-more: &more {restart: always}
include:
  - short.yml
  - path: [long.yml, longer.yml]
    env_file: long.env
  - path: alone.yml
services:
  a:
    <<: [*env, *more]
    image: x:${TAG:-1}
  b: {extends: {file: extended.yml, service: a}, env_file: b.env}
  c:
    extends: b
    env_file: [{path: optional.env, required: false}, c.env]
    ports: !reset []
  d:
`)
	compose, env, err := references(file)
	slices.Sort(env)
	equal(t, "error", err, nil)
	equalList(t, "compose files", compose, "short.yml", "long.yml", "longer.yml", "alone.yml", "extended.yml")
	equalList(t, "env files", env, "anchored.env", "b.env", "c.env", "long.env", "optional.env")

	write(t, file, "services: [\n password: s3cret")
	if _, _, err := references(file); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}
