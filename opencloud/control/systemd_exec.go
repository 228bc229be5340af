package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/ocbackup/ocbackup/proc"
)

// Exec runs the unit's program with the unit's environment and as its user: as
// the running server has them, else as systemd would give them.
func (s *systemd) Exec(ctx context.Context, args ...string) (string, error) {
	units, err := s.show(ctx, s.cfg.Unit)
	if err != nil {
		return "", err
	}
	var c *proc.Cmd
	if pid, _ := strconv.Atoi(units[0]["MainPID"]); pid > 0 {
		// An error here means that it has ended meanwhile.
		c, _ = asProcess(pid)
	}
	if c == nil {
		c = &proc.Cmd{Dir: "/"}
	}
	if c.Name == "" {
		if c.Name, err = s.program(ctx); err != nil {
			return "", err
		}
	}
	if c.Env == nil {
		if err := s.asUnit(ctx, c); err != nil {
			return "", fmt.Errorf("environment of systemd unit %s: %w", s.cfg.Unit, err)
		}
	}
	c.CleanEnv = true
	c.Args = args
	return output(proc.Run(ctx, *c))
}

// wrappers are programs that units start servers with. They are not the server.
var wrappers = []string{"sh", "bash", "dash", "ash", "busybox", "env", "nice", "ionice", "setpriv", "runuser", "su", "sudo"}

// asProcess makes a command that is run as a running process is: its user, its
// environment, its working directory, and its program unless that is a wrapper.
func asProcess(pid int) (*proc.Cmd, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return nil, err
	}
	c := &proc.Cmd{Env: strings.FieldsFunc(string(environ), func(r rune) bool { return r == 0 })}
	if c.Credential, err = processCredential(dir); err != nil {
		return nil, err
	}
	if c.Dir, err = os.Readlink(filepath.Join(dir, "cwd")); err != nil || !filepath.IsAbs(c.Dir) {
		c.Dir = "/"
	}
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil {
		return nil, err
	}
	// An update has put another file there.
	exe = strings.TrimSuffix(exe, " (deleted)")
	if !slices.Contains(wrappers, filepath.Base(exe)) {
		c.Name = exe
	}
	return c, nil
}

// processCredential reads the effective user and the groups of a process
// (proc_pid_status(5)). It is nil when they are ocbackup's own.
func processCredential(dir string) (*syscall.Credential, error) {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil, err
	}
	var c syscall.Credential
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		var ids []uint32
		for f := range strings.FieldsSeq(value) {
			if n, err := strconv.ParseUint(f, 10, 32); err == nil {
				ids = append(ids, uint32(n))
			}
		}
		switch {
		case key == "Uid" && len(ids) == 4:
			c.Uid = ids[1]
		case key == "Gid" && len(ids) == 4:
			c.Gid = ids[1]
		case key == "Groups":
			c.Groups = ids
		}
	}
	return unlessOwn(&c), nil
}

// unlessOwn returns nil when c is who we are: only root may set credentials.
func unlessOwn(c *syscall.Credential) *syscall.Credential {
	if int(c.Uid) == os.Geteuid() && int(c.Gid) == os.Getegid() {
		return nil
	}
	return c
}

// property asks for one property of the unit, which may have several lines.
func (s *systemd) property(ctx context.Context, name string) (string, error) {
	out, err := systemctl(ctx, "show", "--no-pager", "--value", "--property="+name, "--", s.cfg.Unit)
	return strings.TrimSuffix(out, "\n"), err
}

var (
	// As systemctl prints ExecStart and EnvironmentFiles.
	execPath        = regexp.MustCompile(`path=(\S.*?) ; argv\[\]=(.*?) ; ignore_errors=`)
	environmentFile = regexp.MustCompile(`(?m)^(.*) \(ignore_errors=(yes|no)\)$`)
)

// program is the server's binary by ExecStart.
func (s *systemd) program(ctx context.Context) (string, error) {
	text, err := s.property(ctx, "ExecStart")
	if err != nil {
		return "", err
	}
	m := execPath.FindStringSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("systemd unit %s has no ExecStart=", s.cfg.Unit)
	}
	if slices.Contains(wrappers, filepath.Base(m[1])) {
		return "", fmt.Errorf("systemd unit %s starts the server by %s: its program is known only while it runs", s.cfg.Unit, m[1])
	}
	return m[1], nil
}

// asUnit gives c the environment and the user that systemd would give the unit
// (systemd.exec(5)): the user's own variables, Environment=, EnvironmentFile=.
func (s *systemd) asUnit(ctx context.Context, c *proc.Cmd) error {
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	name, err := s.property(ctx, "User")
	if err != nil {
		return err
	}
	group, err := s.property(ctx, "Group")
	if err != nil {
		return err
	}
	if name != "" || group != "" {
		if err := setUser(c, name, group); err != nil {
			return err
		}
	}
	text, err := s.property(ctx, "Environment")
	if err != nil {
		return err
	}
	c.Env = append(c.Env, SplitQuoted(text)...)
	files, err := s.property(ctx, "EnvironmentFiles")
	if err != nil {
		return err
	}
	for _, m := range environmentFile.FindAllStringSubmatch(files, -1) {
		vars, err := ReadEnvironmentFiles(m[1])
		if err != nil && m[2] == "no" {
			return err
		}
		c.Env = append(c.Env, vars...)
	}
	return nil
}

// setUser has c run as the user and group, names or numbers, that a unit gives;
// root where it gives no user.
func setUser(c *proc.Cmd, name, group string) error {
	if name == "" {
		name = "root"
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
	}
	c.Env = append(c.Env, "HOME="+u.HomeDir, "LOGNAME="+u.Username, "USER="+u.Username)
	gid := u.Gid
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return fmt.Errorf("group %s: %w", group, err)
			}
		}
		gid = g.Gid
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("groups of user %s: %w", name, err)
	}
	var cred syscall.Credential
	var bad error
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		bad = errors.Join(bad, err)
		return uint32(n)
	}
	cred.Uid, cred.Gid = number(u.Uid), number(gid)
	for _, id := range ids {
		cred.Groups = append(cred.Groups, number(id))
	}
	c.Credential = unlessOwn(&cred)
	return bad
}
