package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/proc"
)

// Version asks the server's program for its version ("4.0.0-rc.3+dev"). It works
// whether the server runs or not. It is ErrNoExec where commands can't be run.
func Version(ctx context.Context, c Controller) (string, error) {
	// Without the flag the running services are listed, too, which fails when there
	// are none; early builds do not know the flag.
	var failed error
	for _, args := range [][]string{{"version", "--skip-services"}, {"version"}} {
		out, err := c.Exec(ctx, args...)
		if v, ok := opencloud.ParseVersion(out); ok {
			return v, nil
		}
		var exit *proc.ExitError
		if err != nil && !errors.As(err, &exit) {
			return "", fmt.Errorf("version of %s: %w", c, err)
		}
		failed = err
	}
	if failed == nil {
		failed = errors.New("the server's program does not tell")
	}
	return "", fmt.Errorf("version of %s: %w", c, failed)
}
