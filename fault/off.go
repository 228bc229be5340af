//go:build !faultpoint

// Package fault lets tests kill, stop or fail ocbackup at a named point of a
// run, so that a fault matrix needs no sleeping. In a normal build its one
// function is empty.
package fault

// Point marks a point where a test can inject a fault. It does nothing in a
// normal build; with the build tag faultpoint it acts on OCBACKUP_FAULT.
func Point(string) error { return nil }
