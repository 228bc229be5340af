// Package control stops and starts an OpenCloud instance, whoever runs it:
// systemd, Docker Compose, Docker or Podman, or commands of the admin's.
package control

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Config says who runs the instance, and how to reach it there. It is the
// [control] table of the configuration file, and part of the journal, so that a
// crashed run can be mended without the configuration file.
type Config struct {
	// Type is one of systemd, compose, docker, podman, command, none.
	Type string `toml:"type" json:"type"`

	// Unit is the systemd unit.
	Unit string `toml:"unit,omitempty" json:"unit,omitempty"`

	// Compose is the compose command; empty: "docker compose", else "docker-compose".
	Compose    []string `toml:"compose,omitempty" json:"compose,omitempty"`
	ProjectDir string   `toml:"project_dir,omitempty" json:"project_dir,omitempty"`
	Files      []string `toml:"files,omitempty" json:"files,omitempty"` // compose files; empty: as compose finds them
	Project    string   `toml:"project,omitempty" json:"project,omitempty"`
	Service    string   `toml:"service,omitempty" json:"service,omitempty"`

	// Container is the name of the container (docker, podman).
	Container string `toml:"container,omitempty" json:"container,omitempty"`
	// Engine is the docker or podman program; empty: the type's own name.
	Engine string `toml:"engine,omitempty" json:"engine,omitempty"`
	// EngineHost is passed on as DOCKER_HOST (for podman also CONTAINER_HOST); empty:
	// the engine's default.
	EngineHost string `toml:"engine_host,omitempty" json:"engine_host,omitempty"`

	// Start, Stop, Status and Exec are commands (type command), each a program and
	// its arguments, run without a shell. Status exits 0 when the instance runs, 3
	// when it is stopped, anything else when that is not known; what it prints is
	// the start stamp. Exec gets the arguments of a server command appended. A server
	// that Start leaves in the background must have its output redirected: what it
	// inherits is closed when Start has ended.
	Start  []string `toml:"start,omitempty" json:"start,omitempty"`
	Stop   []string `toml:"stop,omitempty" json:"stop,omitempty"`
	Status []string `toml:"status,omitempty" json:"status,omitempty"`
	Exec   []string `toml:"exec,omitempty" json:"exec,omitempty"`

	// AlsoStop names further units or compose services that are stopped before and
	// started after OpenCloud (those among them that were running). Units that systemd
	// stops along with OpenCloud's need not be named.
	AlsoStop []string `toml:"also_stop,omitempty" json:"also_stop,omitempty"`

	StopTimeout  time.Duration `toml:"stop_timeout,omitempty" json:"stop_timeout,omitempty"`   // default 60 s
	StartTimeout time.Duration `toml:"start_timeout,omitempty" json:"start_timeout,omitempty"` // default 60 s
}

// State is what the manager of an instance says about it.
type State string

// The states of an instance.
const (
	Running State = "running"
	Stopped State = "stopped"
	// Absent: there is nothing to start yet: no such unit, container or project.
	Absent State = "absent"
	// Changing: starting, stopping or restarting right now.
	Changing State = "changing"
)

// Status is what the manager says about an instance at one moment.
type Status struct {
	State State
	// Stamp changes whenever the instance is started. It is opaque. It is empty when
	// the manager knows none, and may become so while the instance is stopped:
	// systemd forgets a unit that nothing refers to. StartedSince compares.
	Stamp string
	// PID is the main process on this host, 0 when there is none or it is not known.
	PID int
	// Also lists what else Stop stops and Start has to be given to start: those of
	// AlsoStop that are running, and active units that systemd stops along with them
	// (Requires=, BindsTo=, PartOf= and their like).
	Also []string
	// Detail is the manager's own word for the state ("active (running)", "exited (0)").
	Detail string
}

// StartedSince tells whether the instance was started after before was seen. A stamp
// where there was none is a start, too; one that is gone is none.
func (s Status) StartedSince(before Status) bool {
	return s.Stamp != "" && s.Stamp != before.Stamp
}

// Controller stops and starts one instance.
type Controller interface {
	// String names the instance for people: "compose project opencloud, service opencloud".
	String() string
	// Status asks the manager. An absent instance is a state, not an error.
	Status(ctx context.Context) (Status, error)
	// Stop stops the instance (what Status.Also lists first) and returns once the manager says
	// that it is stopped and none of its processes is left. A stopped instance is
	// no error. A *TimeoutError says that it is still there after StopTimeout, a
	// *KilledError that it is stopped, but was killed. What has begun to stop is seen
	// through when ctx is cancelled: it would stop anyway, perhaps after the start
	// that is to undo it.
	Stop(ctx context.Context) error
	// Start starts the instance, then what also lists (of a Status before the stop). A
	// running instance is no error; one whose stop is still under way is waited for,
	// as far as the manager tells. It returns once the manager says that it runs;
	// readiness is another matter (package readiness). A *TimeoutError says that it
	// is not running after StartTimeout.
	Start(ctx context.Context, also []string) error
	// Exec runs a command of the server (its arguments without the program: "search",
	// "index", ...) in the server's own environment, and returns its standard output.
	// Whether the server must be running depends on the command. Its error is a
	// *proc.ExitError when the command failed.
	Exec(ctx context.Context, args ...string) (string, error)
	// Image returns the container image reference and its digest or id, and a
	// command that writes the image to standard output as a tar archive; all are
	// empty where there is no container.
	Image(ctx context.Context) (Image, error)
}

// Image is the container image of an instance.
type Image struct {
	Ref    string // as the deployment names it: opencloudeu/opencloud:4.0.0
	Digest string // repository digest where there is one, else the image's id
	// Save writes the image to standard output as a tar archive; Load reads one
	// from standard input. Env is what both need in their environment.
	Save []string
	Load []string
	Env  []string
}

// TimeoutError says that an instance did not stop or start in time.
type TimeoutError struct {
	Op     string // stop or start
	What   string // the instance
	After  time.Duration
	Detail string // the manager's last word
}

// Error says how long it was waited for and what the manager last said.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s did not %s within %s (last state: %s)", e.What, e.Op, e.After, e.Detail)
}

// ErrNoExec says that server commands can't be run: type command without an
// exec command, or type none.
var ErrNoExec = errors.New(`server commands can't be run: set "exec" in [control]`)

// Default time-outs. OpenCloud 4.0 gives its services 25 s to end.
const (
	DefaultStopTimeout  = 60 * time.Second
	DefaultStartTimeout = 60 * time.Second
)
