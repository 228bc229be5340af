package opencloud

import "testing"

func TestParseVersion(t *testing.T) {
	for _, tt := range []struct {
		name, output, want string
	}{
		{"4.0 with --skip-services", "Version: 4.0.0-rc.3+dev\nCompiled: 2025-12-06 00:00:00 +0000 UTC\n", "4.0.0-rc.3+dev"},
		{"release", "Version: 7.3.0\nCompiled: 2026-07-19 00:00:00 +0000 UTC\n\n+---+\n| Version |\n", "7.3.0"},
		{"server down", "Version: 0.1.0+dev\nCompiled: x\n\ncould not list services: Failed to connect to NATS Server\n", "0.1.0+dev"},
		{"log line first", "2026/11/23 warning\nVersion: 4.0.0\n", "4.0.0"},
		{"usage of an unknown flag", "Incorrect Usage: flag provided but not defined: -skip-services\n\nNAME:\n   opencloud version - print the version\n", ""},
		{"other text", "Version: of what\n", ""},
		{"empty", "Version:\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := ParseVersion(tt.output); ok != (tt.want != "") || ok && got != tt.want {
				t.Errorf("%q, %v, want %q", got, ok, tt.want)
			}
		})
	}
}
