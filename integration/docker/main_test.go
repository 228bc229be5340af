//go:build integration

// Package docker holds the scenarios with a real container engine: the instance is
// a service of a compose project, or a container.
package docker

import (
	"os"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }
