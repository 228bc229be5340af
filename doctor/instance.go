package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
)

// askTimeout is how long OpenCloud or its manager may take to answer a question.
const askTimeout = 30 * time.Second

// controller looks whether the instance's manager can be asked.
type controller struct{}

func (controller) Name() string { return "control" }

func (controller) Run(ctx context.Context, s *Subject) []Finding {
	ctl, err := control.New(s.Config.Control)
	if err != nil {
		f := failed(err, "correct [control] in the configuration")
		f.code = fail.Usage
		return []Finding{f}
	}
	s.control = ctl
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	st, err := ctl.Status(ctx)
	if err != nil {
		return []Finding{failed(err, "check [control] in the configuration, and that you may ask for the state (root?)")}
	}
	s.status = &st
	if s.Config.Control.Type == "none" {
		if err := opencloud.LocksFree(s.Config.Layout.LockFiles()); err != nil {
			return []Finding{warning("stop OpenCloud before a backup, or say in [control] how it is stopped", "nobody is named who can stop OpenCloud, and it runs: %v", err)}
		}
		return []Finding{info("say in [control] how it is stopped, if it ever runs here", "nobody is named who can stop OpenCloud; it does not run")}
	}
	if j, err := guard.Read(s.Config.StateDir); err == nil && j != nil && st.State != control.Running {
		return []Finding{info("", "%s is %s (%s) in the course of a %s, see journal", ctl, st.State, st.Detail, j.Kind)}
	}
	switch st.State {
	case control.Running:
		return okay("%s: %s", ctl, st.Detail)
	case control.Absent:
		return []Finding{failure(fail.Usage, "correct [control], or find it again with \"ocbackup init --force\"", "%s: there is no such thing", ctl)}
	case control.Changing:
		return []Finding{warning("wait until it has settled, or see why it does not", "%s is starting or stopping (%s)", ctl, st.Detail)}
	}
	return []Finding{warning("start it, if it is meant to run; a backup leaves it as it is", "%s is stopped (%s)", ctl, st.Detail)}
}

// deployment compares the configuration with the instance as it is deployed.
type deployment struct{}

func (deployment) Name() string { return "deployment" }

func (deployment) Run(ctx context.Context, s *Subject) []Finding {
	found, err := discover.Again(ctx, s.Config)
	switch {
	case err != nil:
		return []Finding{warning("a backup goes by the configuration then", "the deployment can't be compared with the configuration: %v", err)}
	case found == nil:
		return nil
	}
	s.found = found
	const again = "\"ocbackup init --force\" writes the configuration anew and keeps your settings"
	var out []Finding
	for _, d := range discover.Drift(s.Config, found.Config) {
		out = append(out, failure(fail.Usage, again, "%s", d))
	}
	if l := discover.Unlisted(s.Config, found.Config); len(l) > 0 {
		out = append(out, warning("add them to deployment in [layout]; or: "+again, "files of the deployment that are not backed up: %s", strings.Join(l, ", ")))
	}
	if len(out) == 0 {
		return okay("driver %s and directories are those of the configuration", s.Config.Layout.Driver)
	}
	return out
}

// restartPolicy looks whether the engine may start the container by itself.
type restartPolicy struct{}

func (restartPolicy) Name() string { return "restart policy" }

func (restartPolicy) Run(_ context.Context, s *Subject) []Finding {
	if s.found == nil || s.found.Restart == "" {
		return nil
	}
	if s.found.Restart == "always" {
		return []Finding{info("use restart: unless-stopped", "\"always\": when the container engine is restarted during a backup, it starts the stopped OpenCloud; the backup notices and fails")}
	}
	return okay("%s", s.found.Restart)
}

// serverCommands looks whether commands of the server can be run, as reindexing needs.
type serverCommands struct{}

func (serverCommands) Name() string { return "server" }

func (serverCommands) Run(ctx context.Context, s *Subject) []Finding {
	if s.control == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := control.Version(ctx, s.control)
	switch {
	case err == nil:
		return okay("OpenCloud %s", v)
	case errors.Is(err, control.ErrNoExec):
		return []Finding{warning("set exec in [control]", "commands of the server can't be run: its version is not recorded, and the search index can't be built again after a restore")}
	case s.status == nil || s.status.State != control.Running:
		return []Finding{info("start OpenCloud and run ocbackup doctor again", "the server's version can't be asked while it does not run")}
	}
	return []Finding{failed(fmt.Errorf("run a command of the server: %w", err), "see [control] in docs/configuration.md")}
}

// ready asks the instance whether it can be used.
type ready struct{}

func (ready) Name() string { return "readiness" }

func (ready) Run(ctx context.Context, s *Subject) []Finding {
	cfg := s.Config.Ready
	if cfg.Off {
		return []Finding{info("remove off from [ready]", "not checked: after a backup or a restore, the manager's word is taken")}
	}
	if s.status == nil || s.status.State != control.Running {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := readiness.Check(ctx, cfg, s.Config.Layout, s.status.PID); err != nil {
		return []Finding{failed(err, "OpenCloud runs and can't be used: see its log; or correct [ready]. A backup would end with exit code 5")}
	}
	return okay("%s can be used", or(cfg.URL, cfg.Address))
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
