package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	// Restic hands on the command's standard error only by chance: it may close it
	// before it has read it.
	stderr, err := os.CreateTemp(r.opt.TempDir, "ocbackup-stderr-*")
	if err != nil {
		return Summary{}, fmt.Errorf("back up the output of %s: %w", s.Command[0], err)
	}
	defer func() {
		_ = stderr.Close()
		_ = os.Remove(stderr.Name())
	}()
	carried[stderrCarrier] = stderr.Name()
	args := append([]string{"--json", "--force", "--stdin-from-command", "--stdin-filename=" + s.Filename},
		r.backupFlags(s.Tags)...)
	if s.OnProgress == nil {
		args = append(args, "--no-scan")
	}
	args = append(args, "--", "/bin/sh", "-c", script, "sh")
	c := call{command: "backup", args: append(args, s.Command...), env: carried, secrets: secrets}
	sum, err := r.backup(ctx, c, false, s.OnProgress)
	var x *proc.ExitError
	if errors.As(err, &x) {
		words := strings.TrimSpace(x.Stderr + "\n" + proc.Redactor(append(secrets, r.secrets()...))(lastWords(stderr)))
		return sum, &proc.ExitError{Name: x.Name + " of the output of " + s.Command[0], Code: x.Code, Signal: x.Signal, Stderr: words}
	}
	return sum, err
}

// stderrCarrier is the variable by which the shell script learns where the
// command's standard error goes.
const stderrCarrier = "OCBACKUP_STDERR"

// lastWords are the last lines of what a command wrote to its standard error.
func lastWords(f *os.File) string {
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(st.Size(), 4<<10))
	n, _ := f.ReadAt(b, st.Size()-int64(len(b))) // what can't be read is left out
	lines := strings.Split(strings.TrimSpace(string(b[:n])), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
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
	script += fmt.Sprintf("exec 2>>\"$%s\"; unset %s\n", stderrCarrier, stderrCarrier)
	return script + `exec "$@"`, carried, secrets, nil
}
