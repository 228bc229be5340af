package repo

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// BackupCommand stores what a command prints in a new snapshot, as one file. No
// snapshot is made when the command fails; the error then carries its own words.
func (r *Repo) BackupCommand(ctx context.Context, s CommandSpec) (Summary, error) {
	if len(s.Command) == 0 || s.Filename == "" || strings.Contains(s.Filename, "/") {
		return Summary{}, fmt.Errorf("back up the output of %q as %q: a command and a plain file name are needed", s.Command, s.Filename)
	}
	if err := validTags(s.Tags); err != nil {
		return Summary{}, err
	}
	script, carried, secrets, err := r.commandEnv(s.Env)
	if err != nil {
		return Summary{}, err
	}
	args := append([]string{"--json", "--force", "--stdin-from-command", "--stdin-filename=" + s.Filename},
		r.backupFlags(s.Tags, s.OnProgress)...)
	args = append(args, "--", "/bin/sh", "-c", script, "sh")
	c := call{command: "backup", args: append(args, s.Command...), env: carried, secrets: secrets}
	sum, err := r.backup(ctx, c, false, s.OnProgress)
	var x *proc.ExitError
	if errors.As(err, &x) {
		return sum, &proc.ExitError{Name: x.Name + " of the output of " + s.Command[0], Code: x.Code, Signal: x.Signal, Stderr: x.Stderr}
	}
	return sum, err
}

// envName is what a shell takes as the name of a variable.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// commandEnv gives a command that restic starts the environment it would have had
// from ocbackup, and extra: restic's own credentials, its temporary folder and so
// on are taken away again by a shell script that then becomes the command. The
// values travel in variables, since everybody can read arguments.
func (r *Repo) commandEnv(extra []string) (script string, carried envMap, secrets []string, err error) {
	want := processEnv()
	for _, e := range extra {
		name, value, ok := strings.Cut(e, "=")
		if !ok || !envName.MatchString(name) {
			return "", nil, nil, fmt.Errorf("%q cannot be the name of an environment variable", name)
		}
		want[name] = value
		secrets = append(secrets, value)
	}
	for name := range want {
		if strings.HasPrefix(name, "RESTIC_") {
			delete(want, name)
		}
	}
	have := r.env()
	var unset, set []string
	for name := range have {
		if _, ok := want[name]; !ok && envName.MatchString(name) {
			unset = append(unset, name)
		}
	}
	unset = append(unset, "RESTIC_PROGRESS_FPS")
	for name, value := range want {
		if had, ok := have[name]; (!ok || had != value) && envName.MatchString(name) {
			set = append(set, name)
		}
	}
	sort.Strings(unset)
	sort.Strings(set)
	carried = envMap{}
	script = "unset " + strings.Join(unset, " ") + "\n"
	for i, name := range set {
		carrier := fmt.Sprintf("OCBACKUP_ENV_%d", i)
		carried[carrier] = want[name]
		script += fmt.Sprintf("export %s=\"$%s\"; unset %s\n", name, carrier, carrier)
	}
	return script + `exec "$@"`, carried, secrets, nil
}
