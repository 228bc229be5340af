package commands

import (
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// repositoryFlags are what a command takes that also works on a bare host, with
// nothing but the repository and its password.
func repositoryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "repository", Aliases: []string{"r"}, Usage: "restic repository at `LOCATION`, without a configuration file"},
		&cli.StringFlag{Name: "password-file", Aliases: []string{"p"}, Usage: "`FILE` with the repository's password"},
		&cli.StringFlag{Name: "restic", Usage: "restic `PROGRAM`"},
		&cli.StringFlag{Name: "instance", Usage: "`NAME` of the instance, when the repository holds several"},
	}
}

// openRepository opens the repository that the flags name, else the configured one.
func openRepository(c *cli.Context) (*env, *repo.Repo, error) {
	loc := c.String("repository")
	if loc == "" {
		e, err := setup(c)
		if err != nil && !paths.Exists(c.String("config")) {
			err = fail.New(fail.Usage, err.Error(), "on a machine without a configuration: --repository LOCATION --password-file FILE; else \"ocbackup init\" writes one")
		}
		if err != nil {
			return nil, nil, err
		}
		r, err := e.repo()
		return e, r, err
	}
	e, err := setupBare(c)
	if err != nil {
		return nil, nil, err
	}
	bare := &config.Config{Name: c.String("instance"), Repository: config.Repository{
		Location: loc, PasswordFile: c.String("password-file"), Restic: c.String("restic"),
	}}
	opt, err := bare.RepoOptions()
	if err != nil {
		return nil, nil, fail.Wrap(fail.CodeOf(err), err, "open "+repo.WithoutPassword(loc), "name the file with the password: --password-file FILE")
	}
	opt.Host = c.String("instance")
	if e.cfg != nil && e.cfg.Repository.Location != loc {
		e.cfg = nil // another repository than the configured one: nothing else of the configuration applies
	}
	return e, repo.New(opt), nil
}

// cacheDir is where manifests are kept; "" without a configuration.
func (e *env) cacheDir() string {
	if e.cfg == nil {
		return ""
	}
	return filepath.Join(e.cfg.StateDir, "cache")
}

// quiet returns a reporter for commands whose result is all that matters: on a
// terminal it shows that something is going on, in a log it says nothing.
func quiet(e *env) progress.Reporter {
	if e.tty {
		return e.rep
	}
	return progress.Discard
}
