package control

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// labelUnit is how podman marks a container that a unit of systemd runs.
const labelUnit = "PODMAN_SYSTEMD_UNIT"

// told are the events of a container that are told.
var told = []string{"create", "start", "restart", "unpause", "die", "stop", "kill"}

func (d *docker) starter(ctx context.Context, since time.Time) []string {
	list, _ := d.inspect(ctx, append([]string{d.cfg.Container}, d.cfg.AlsoStop...)...)
	return d.started(ctx, list, since)
}

func (c *compose) starter(ctx context.Context, since time.Time) []string {
	services, _ := c.containers(ctx)
	var list []container
	for _, name := range append([]string{c.cfg.Service}, c.cfg.AlsoStop...) {
		list = append(list, services[name]...)
	}
	return c.started(ctx, list, since)
}

// started tells of those containers that were started since then, what the engine
// remembers of it, and what there is that starts containers by itself.
func (e engine) started(ctx context.Context, list []container, since time.Time) (lines []string) {
	for _, c := range list {
		at, err := time.Parse(time.RFC3339Nano, c.State.StartedAt)
		if state, _ := c.state(); state != Changing && (err != nil || at.Before(since)) {
			continue
		}
		policy := c.HostConfig.RestartPolicy.Name
		line := fmt.Sprintf("%s was told to start container %s", path.Base(e.program), c.Name)
		if c.RestartCount > 0 {
			line = fmt.Sprintf("%s started container %s again by itself (restart policy %s, %d times so far)", path.Base(e.program), c.Name, policy, c.RestartCount)
		}
		if err == nil {
			line += " at " + at.Local().Format(clock)
		}
		if made, err := time.Parse(time.RFC3339Nano, c.Created); err == nil && made.After(since) {
			line += "; the container was made anew at " + made.Local().Format(clock)
		}
		lines = append(lines, line)
		if events := e.events(ctx, c, since); len(events) > 0 {
			lines = append(lines, "events: "+strings.Join(events, ", "))
		}
		if daemon := e.daemonSince(since); !daemon.IsZero() && (policy == "always" || policy == "unless-stopped") {
			lines = append(lines, fmt.Sprintf("dockerd was started at %s, which starts containers by their restart policy (%s)", daemon.Format(clock), policy))
		}
		if unit := c.Config.Labels[labelUnit]; unit != "" {
			lines = append(lines, "systemd unit "+unit+" runs this container: set type = \"systemd\" in [control]")
		}
	}
	if len(lines) > 0 {
		if names := e.suspects(ctx, list); len(names) > 0 {
			lines = append(lines, "these containers have the engine's socket and may start others: "+strings.Join(names, ", "))
		}
	}
	return lines
}

// events are what happened to a container, as far as the engine remembers.
func (e engine) events(ctx context.Context, c container, since time.Time) (events []string) {
	stamp := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	args := []string{"events", "--since", stamp(since), "--until", stamp(time.Now()), "--filter", "container=" + c.ID, "--format"}
	if e.podman {
		args = append(args, "0 {{.Status}}", "--stream=false")
	} else {
		args = append(args, "{{.TimeNano}} {{.Action}}")
	}
	out, err := e.run(ctx, args...)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(out) {
		nano, action, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !slices.Contains(told, action) {
			continue
		}
		if n, _ := strconv.ParseInt(nano, 10, 64); n > 0 {
			action += " at " + time.Unix(0, n).Format(clock)
		}
		events = append(events, action)
	}
	return events
}

// daemonSince is when Docker's daemon on this host was started, if it was since then.
func (e engine) daemonSince(since time.Time) time.Time {
	if e.podman || !e.local() {
		return time.Time{}
	}
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		if b, _ := os.ReadFile(name); strings.TrimSpace(string(b)) != "dockerd" {
			continue
		}
		pid, _ := strconv.Atoi(path.Base(path.Dir(name)))
		// The clock of processes counts in hundredths, from a second.
		if p, ok := readProcess(pid); ok && p.started.Add(time.Second).After(since) {
			return p.started
		}
	}
	return time.Time{}
}

// starters are programs, by a part of their images' names, that start containers,
// perhaps by way of a proxy to the engine's socket.
var starters = []string{"watchtower", "autoheal", "portainer"}

// suspects are the running containers that can start others, without the given ones.
func (e engine) suspects(ctx context.Context, not []container) (names []string) {
	out, err := e.run(ctx, "ps", "--quiet", "--no-trunc")
	if err != nil {
		return nil
	}
	list, _ := e.inspect(ctx, strings.Fields(out)...)
	for _, c := range list {
		able := slices.ContainsFunc(c.Mounts, func(m mount) bool {
			return strings.HasSuffix(m.Source, "docker.sock") || strings.HasSuffix(m.Source, "podman.sock")
		}) || slices.ContainsFunc(starters, func(s string) bool { return strings.Contains(c.Config.Image, s) })
		if able && !slices.ContainsFunc(not, func(n container) bool { return n.ID == c.ID }) {
			names = append(names, c.Name+" ("+c.Config.Image+")")
		}
	}
	return names
}
