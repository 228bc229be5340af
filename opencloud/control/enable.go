package control

import (
	"context"
	"fmt"
	"strings"
)

// UnitEnabled tells whether the instance is a systemd unit that starts at boot. The
// link that makes it so is systemd's, and not among the files of a deployment. It is
// false when that can't be told.
func UnitEnabled(ctx context.Context, cfg Config) bool {
	if cfg.Type != "systemd" {
		return false
	}
	out, err := systemctl(ctx, "is-enabled", "--", cfg.Unit)
	return err == nil && strings.TrimSpace(out) == "enabled"
}

// EnableUnit has the instance's unit start at boot. It does nothing where the
// instance is no unit.
func EnableUnit(ctx context.Context, cfg Config) error {
	if cfg.Type != "systemd" {
		return nil
	}
	if _, err := systemctl(ctx, "enable", "--", cfg.Unit); err != nil {
		return fmt.Errorf("enable systemd unit %s: %w", cfg.Unit, err)
	}
	return nil
}

// ReloadUnits makes systemd read its unit files again.
func ReloadUnits(ctx context.Context) error {
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("have systemd read its units again: %w", err)
	}
	return nil
}
