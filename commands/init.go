package commands

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/config/initial"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "find OpenCloud on this machine, write the configuration, create the repository",
		Description: `Finds out who runs OpenCloud, with which storage driver, and where it keeps what; writes
a commented configuration file and a password file, both for root only, and creates the
repository. An existing password file is never changed, an existing repository that the
password opens is used. OpenCloud itself is not touched.

With the storage driver decomposeds3 the objects of the bucket are backed up to a pool:
a place of its own, which the first backup creates.

Without a flag that names the instance it is looked for: a compose project in the
working directory, a container, a systemd unit.

EXAMPLES:
   ocbackup init --repository /srv/backup/opencloud --dry-run
   ocbackup init --compose /opt/opencloud --repository sftp:backup@nas:/srv/opencloud
   ocbackup init --systemd opencloud --repository rest:https://backup.example.com/oc --env-file /etc/ocbackup/rest.env
   ocbackup init --container opencloud --podman --repository /srv/backup
   ocbackup init --repository sftp:backup@nas:/srv/opencloud --pool sftp:backup@nas:/srv/opencloud-pool
   ocbackup init --config-dir /etc/opencloud --data-dir /srv/opencloud --repository /srv/backup \
      --start "rc-service opencloud start" --stop "rc-service opencloud stop" --status /usr/local/bin/oc-status
   ocbackup init --force                      look at the instance again, keep all else

` + exitCodes,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "repository", Aliases: []string{"r"}, Usage: "restic repository at `LOCATION`: a path, sftp:, rest:, s3:, ...", EnvVars: []string{"OCBACKUP_REPOSITORY"}},
			&cli.StringFlag{Name: "password-file", Aliases: []string{"p"}, Usage: "`FILE` with the repository's password; made if it is not there (default: password, beside the configuration)"},
			&cli.StringFlag{Name: "env-file", Usage: "`FILE` with the storage's access keys as NAME=value lines"},
			&cli.StringFlag{Name: "pool", Usage: "pool of the driver decomposeds3 at `LOCATION`: a path, s3:, sftp:, rclone: (default: beside a local repository)", EnvVars: []string{"OCBACKUP_POOL"}},
			&cli.StringFlag{Name: "restic", Usage: "restic `PROGRAM` (default: restic from PATH)"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the instance (default: the host name of its address)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "configuration `FILE` to write (default: that of --config)"},
			&cli.BoolFlag{Name: "force", Usage: "replace an existing configuration file, keeping what does not depend on where OpenCloud lies"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show the file and what would be done; change nothing"},

			&cli.StringFlag{Name: "compose", Aliases: []string{"project-dir"}, Category: "INSTANCE", Usage: "compose project in `DIR`"},
			&cli.StringSliceFlag{Name: "file", Aliases: []string{"f"}, Category: "INSTANCE", Usage: "compose `FILE`; may be given several times"},
			&cli.StringFlag{Name: "project", Category: "INSTANCE", Usage: "compose project `NAME`"},
			&cli.StringFlag{Name: "service", Category: "INSTANCE", Usage: "compose `SERVICE` that runs OpenCloud"},
			&cli.StringFlag{Name: "systemd", Category: "INSTANCE", Usage: "systemd `UNIT`"},
			&cli.StringFlag{Name: "container", Category: "INSTANCE", Usage: "container `NAME`"},
			&cli.BoolFlag{Name: "podman", Category: "INSTANCE", Usage: "the container is one of Podman's"},
			&cli.StringFlag{Name: "config-dir", Category: "INSTANCE", Usage: "`DIR` of opencloud.yaml, when none of the above runs OpenCloud"},
			&cli.StringFlag{Name: "data-dir", Category: "INSTANCE", Usage: "data `DIR` of OpenCloud"},
			&cli.StringFlag{Name: "driver", Category: "INSTANCE", Usage: "storage `DRIVER`: posix, decomposed, decomposeds3 (default: what is set, or lies on disk)"},
			&cli.StringFlag{Name: "start", Category: "INSTANCE", Usage: "`COMMAND` that starts OpenCloud; split at blanks, no shell"},
			&cli.StringFlag{Name: "stop", Category: "INSTANCE", Usage: "`COMMAND` that stops it"},
			&cli.StringFlag{Name: "status", Category: "INSTANCE", Usage: "`COMMAND` that exits with 0 when it runs, 3 when it is stopped"},
			&cli.StringFlag{Name: "exec", Category: "INSTANCE", Usage: "`COMMAND` that runs OpenCloud's own command line"},
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			o, err := initOptions(c)
			if err != nil {
				return err
			}
			e, err := newEnv(c, nil)
			if err != nil {
				return err
			}
			step := quiet(e).Step("init")
			step.Update("looking for OpenCloud")
			plan, err := initial.Make(c.Context, o)
			if err != nil {
				step.Fail(err)
				return err
			}
			step.Update("asking it for its version")
			plan.Found.AskVersion(c.Context)
			step.Skip("")
			return runInit(c, e, plan)
		},
	}
}

// initOptions reads the flags.
func initOptions(c *cli.Context) (initial.Options, error) {
	o := initial.Options{
		Output: c.String("output"), Force: c.Bool("force"), Name: c.String("name"), StateDir: c.String("state-dir"),
		Repository: c.String("repository"), PasswordFile: c.String("password-file"), EnvFile: c.String("env-file"), Restic: c.String("restic"),
		Pool: c.String("pool"), Unit: c.String("systemd"),
	}
	if c.NArg() > 0 {
		return o, fail.Usagef("see \"ocbackup init --help\"", "init takes no arguments: %s", strings.Join(c.Args().Slice(), " "))
	}
	if o.Output == "" {
		o.Output = c.String("config")
	}
	set := func(names ...string) bool {
		for _, n := range names {
			if c.IsSet(n) {
				return true
			}
		}
		return false
	}
	if set("compose", "file", "project", "service") {
		dir := c.String("compose")
		if dir == "" {
			dir = "."
		}
		o.Compose = &discover.ComposeOptions{Dir: dir, Files: c.StringSlice("file"), Project: c.String("project"), Service: c.String("service")}
	}
	switch {
	case c.String("container") != "":
		o.Container = &discover.ContainerOptions{Name: c.String("container"), Type: "docker"}
		if c.Bool("podman") {
			o.Container.Type = "podman"
		}
	case c.Bool("podman"):
		return o, fail.Usagef("", "--podman needs --container NAME")
	}
	if set("config-dir", "data-dir", "driver", "start", "stop", "status", "exec") {
		o.Paths = &discover.PathsOptions{
			ConfigDir: c.String("config-dir"), DataDir: c.String("data-dir"), Driver: c.String("driver"),
			Start: strings.Fields(c.String("start")), Stop: strings.Fields(c.String("stop")),
			Status: strings.Fields(c.String("status")), Exec: strings.Fields(c.String("exec")),
		}
	}
	return o, nil
}

// initView is what init tells with --json; docs/json.md describes it.
type initView struct {
	DryRun    bool             `json:"dry_run"`
	Instance  string           `json:"instance"`
	Control   string           `json:"control"`
	OpenCloud string           `json:"opencloud,omitempty"`
	Image     string           `json:"image,omitempty"`
	Digest    string           `json:"digest,omitempty"`
	Layout    opencloud.Layout `json:"layout"`
	// Bucket, in words, and Pool are those of the driver decomposeds3.
	Bucket string `json:"bucket,omitempty"`
	Pool   string `json:"pool,omitempty"`
	// Freeze says which roots snapshots are made of, and why not of the others.
	Freeze       []string `json:"freeze,omitempty"`
	NotProtected []string `json:"not_protected,omitempty"`
	Notes        []string `json:"notes,omitempty"`
	// Text is the configuration file, with dry_run only.
	Text string          `json:"text,omitempty"`
	Done *initial.Result `json:"done,omitempty"`
}

// runInit shows the plan and does it, unless it is only to be shown.
func runInit(c *cli.Context, e *env, plan *initial.Plan) error {
	v := initView{
		DryRun: c.Bool("dry-run"), Instance: plan.Config.Name, Control: controlText(plan.Config), OpenCloud: plan.Found.Version,
		Image: plan.Found.Image, Digest: plan.Found.Digest, Layout: plan.Config.Layout,
		Bucket: bucketText(plan.Config.Bucket), Pool: plan.Config.Pool.Location,
		NotProtected: plan.Config.NotProtected, Notes: plan.Found.Notes,
	}
	if freezing, err := plan.Config.Freezing(c.Context); err != nil {
		v.Notes = append(v.Notes, err.Error())
	} else {
		for _, f := range freezing {
			v.Freeze = append(v.Freeze, f.String())
		}
	}
	if !e.json {
		printFound(e.out, v)
	}
	if v.DryRun {
		v.Text = string(plan.Text)
		if e.json {
			return e.printJSON(v)
		}
		printInitPlan(e.out, plan)
		return nil
	}
	step := quiet(e).Step("init")
	step.Update("creating the repository")
	var err error
	if v.Done, err = plan.Do(c.Context); err != nil {
		step.Fail(err)
		return err
	}
	step.Skip("")
	if e.json {
		return e.printJSON(v)
	}
	printDone(e.out, v.Done, plan.Config.Pool)
	return nil
}

// bucketText says which bucket it is; empty without one.
func bucketText(b config.Bucket) string {
	switch {
	case b.Name == "":
		return ""
	case b.Reach != "":
		return fmt.Sprintf("%s at %s, from here %s", b.Name, b.Endpoint, b.Reach)
	}
	return b.Name + " at " + b.Endpoint
}

// controlText says who runs the instance.
func controlText(c *config.Config) string {
	switch ctl := c.Control; ctl.Type {
	case "systemd":
		return "systemd unit " + ctl.Unit
	case "compose":
		return fmt.Sprintf("compose project %s in %s, service %s", ctl.Project, ctl.ProjectDir, ctl.Service)
	case "docker", "podman":
		return ctl.Type + " container " + ctl.Container
	case "command":
		return "commands: " + strings.Join(ctl.Stop, " ")
	}
	return "nobody that can be asked"
}

func printFound(w io.Writer, v initView) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.SuppressTrailingSpaces()
	row := func(name, value string) {
		if value != "" {
			t.AppendRow(table.Row{name, value})
		}
	}
	row("instance", v.Instance)
	row("OpenCloud", v.OpenCloud)
	row("run by", v.Control)
	row("image", v.Image)
	row("digest", v.Digest)
	row("driver", string(v.Layout.Driver))
	for _, r := range v.Layout.Roots() {
		where := r.Path
		if len(r.Include) > 0 && r.Name == "deployment" {
			where = strings.Join(v.Layout.Deployment, "\n")
		}
		row(r.Name, where)
	}
	row("bucket", v.Bucket)
	row("pool", v.Pool)
	row("freeze", strings.Join(v.Freeze, "\n"))
	row("left out", strings.Join(v.Layout.Leave, "\n"))
	row("NOT PROTECTED", strings.Join(v.NotProtected, "\n"))
	t.Render()
	for _, n := range v.Notes {
		fmt.Fprintln(w, "  note: "+n)
	}
	fmt.Fprintln(w)
}

func printInitPlan(w io.Writer, p *initial.Plan) {
	c := p.Config
	verb := "written"
	if p.Replaces {
		verb = "replaced, the old one kept as " + c.Path + ".old"
	}
	fmt.Fprintf(w, "Would be %s: %s\n", verb, c.Path)
	if p.NewPassword {
		fmt.Fprintf(w, "Would be made, with a new password: %s\n", c.Repository.PasswordFile)
	}
	if c.Repository.Location != "" {
		fmt.Fprintf(w, "Would be created, unless it is there: repository %s\n", repo.WithoutPassword(c.Repository.Location))
	} else {
		fmt.Fprintln(w, "Missing: --repository LOCATION")
	}
	switch {
	case c.Pool.Location != "":
		fmt.Fprintf(w, "Would be left to the first backup to create: pool %s\n", c.Pool.Location)
	case c.Layout.Driver == opencloud.DecomposedS3:
		fmt.Fprintln(w, "Missing: --pool LOCATION")
	}
	fmt.Fprintf(w, "\n%s", p.Text)
}

func printDone(w io.Writer, r *initial.Result, pool config.Pool) {
	if r.Replaced != "" {
		fmt.Fprintf(w, "Kept the old configuration as %s.\n", r.Replaced)
	}
	fmt.Fprintf(w, "Wrote %s.\n", r.Config)
	if r.RepositoryCreated {
		fmt.Fprintf(w, "Created the repository %s.\n", r.Repository)
	} else {
		fmt.Fprintf(w, "The repository %s exists; the password opens it.\n", r.Repository)
	}
	if pool.Location != "" {
		fmt.Fprintf(w, "The first backup creates the pool %s.\n", pool.Location)
		if pool.PasswordFile == "" {
			fmt.Fprintln(w, "It holds the objects as the bucket does, not encrypted; to have them encrypted, set password_file in [pool] before that.")
		}
	}
	if r.PasswordCreated {
		fmt.Fprintf(w, "\nMade a password: %s\nKEEP A COPY OF THIS FILE SOMEWHERE ELSE, off this machine. Without it no backup can be read.\n", r.PasswordFile)
	}
	at := ""
	if r.Config != config.DefaultPath {
		at = " --config " + r.Config
	}
	fmt.Fprintf(w, "\nNext:\n  ocbackup%[1]s doctor\n  ocbackup%[1]s backup\n  ocbackup%[1]s schedule install\n", at)
}
