//go:build integration

// Package systemd holds the scenarios on a machine that systemd runs: the
// instance is a unit, and backups are made by the units of "ocbackup schedule".
package systemd

import (
	"os"
	"testing"

	"github.com/ocbackup/ocbackup/integration/env"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }
