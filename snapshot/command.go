package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// command runs the admin's commands: for storage arrays, Ceph, hypervisors.
type command struct{}

func (command) find(_ context.Context, _ mount, path string, c Config) (v *Volume, rel, why string) {
	rel, ok := below(c.Path, path)
	if !ok {
		return nil, "", "it does not lie below " + c.Path
	}
	return &Volume{Driver: Command, Source: c.Path, Live: c.Path, Command: &c}, rel, ""
}

func (command) check(_ context.Context, v *Volume) error {
	c := v.Command
	if len(c.Create) == 0 || len(c.Destroy) == 0 || c.MountPoint == "" {
		return errors.New(`driver = "command" needs path, mount_point, create and destroy in [snapshot]`)
	}
	return errors.Join(proc.Find(c.Create[0]), proc.Find(c.Destroy[0]))
}

func (command) create(ctx context.Context, v *Volume) error {
	if err := v.run(ctx, v.Command.Create); err != nil {
		return err
	}
	return v.look()
}

func (command) open(_ context.Context, v *Volume, _ string) (string, error) {
	return v.mountPoint(), v.look()
}

func (command) close(context.Context, *Volume, string) error { return nil }

func (command) destroy(ctx context.Context, v *Volume) error { return v.run(ctx, v.Command.Destroy) }

func (command) lost(_ context.Context, v *Volume) string {
	if err := v.look(); err != nil {
		return err.Error()
	}
	return ""
}

// list finds nothing: only records tell what the commands have made.
func (command) list(context.Context, *Volume) ([]Volume, error) { return nil, nil }

// run runs one of the commands for the snapshot.
func (v *Volume) run(ctx context.Context, words []string) error {
	_, set, _ := parseName(v.Name)
	args := make([]string, len(words))
	for i, w := range words {
		args[i] = v.named(w)
	}
	_, err := proc.Run(ctx, proc.Cmd{
		Name: args[0], Args: args[1:],
		Env: []string{"OCBACKUP_SNAPSHOT=" + v.Name, "OCBACKUP_SET=" + set},
	})
	return err
}

// named puts in the snapshot's name.
func (v *Volume) named(s string) string { return strings.ReplaceAll(s, "{name}", v.Name) }

func (v *Volume) mountPoint() string { return v.named(v.Command.MountPoint) }

// look tells whether the mount point shows a snapshot, as far as that can be seen.
func (v *Volume) look() error {
	at := v.mountPoint()
	i, err := os.Stat(at)
	if err != nil {
		return fmt.Errorf("mount_point: %w", err)
	}
	if !i.IsDir() {
		return fmt.Errorf("mount_point: %s is no directory", at)
	}
	if live, err := os.Stat(v.Source); err == nil && os.SameFile(i, live) {
		return fmt.Errorf("mount_point: %s shows the live files of %s, not a snapshot", at, v.Source)
	}
	d, err := os.Open(at)
	if err != nil {
		return fmt.Errorf("mount_point: %w", err)
	}
	defer shut(d)
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("mount_point: %s is empty", at)
	}
	return err
}
