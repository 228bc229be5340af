// Package commands is ocbackup's command line: one file per command, with its
// flags, one call, and the rendering of what comes back.
package commands

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/progress"
	"github.com/ocbackup/ocbackup/repo"
)

// Version is ocbackup's version, set when it is built.
var Version = "dev"

// exitCodes is part of every help text.
const exitCodes = `EXIT CODES:
   0 done    1 failed, nothing committed    2 usage or configuration    3 something could not be read
   4 damage found    5 OPENCLOUD IS NOT BACK, look now    6 another run holds the lock
   7 deadline exceeded    8 repository or bucket unreachable or locked    130 interrupted
`

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = fail.New(fail.Interrupted, "interrupted by a signal", "")

// Main runs the command line and returns the exit code.
func Main(args []string) (code int) {
	defer failOnPanic(os.Stderr, &code)
	// cron and bare shells lack where the tools of file systems are.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	ctx, stop := onSignal(context.Background())
	defer stop()
	app := newApp(os.Stdout, os.Stderr)
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return int(fail.OK)
	}
	var usage *usageError
	if !errors.As(err, &usage) && errors.Is(context.Cause(ctx), errInterrupted) && fail.CodeOf(err) == fail.Failed {
		err = errors.Join(errInterrupted, err)
	}
	var told *reportedError
	printError(os.Stdout, os.Stderr, err, wantsJSON(args) && !errors.As(err, &told))
	return int(fail.CodeOf(err))
}

// failOnPanic ends a panic, which is to be deferred, with fail.Failed: Go's own exit
// code means wrong usage here. A guard process that is at work brings OpenCloud back.
func failOnPanic(w io.Writer, code *int) {
	if p := recover(); p != nil {
		fmt.Fprintf(w, "error: a bug in ocbackup: panic: %v\n\n%s", p, debug.Stack())
		*code = int(fail.Failed)
	}
}

// onSignal returns a context that the first SIGINT, SIGTERM or SIGHUP ends. Later
// ones change nothing: what is under way then is bringing OpenCloud back.
func onSignal(parent context.Context) (context.Context, func()) {
	// Whoever reads our output may go away ("| head"), but OpenCloud has to come back.
	// Caught, not ignored: children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for n := 0; ; n++ {
			if _, ok := <-ch; !ok {
				return
			}
			if n == 0 {
				cancel(errInterrupted)
			} else {
				fmt.Fprintln(os.Stderr, "ocbackup: still putting things back in order; please wait")
			}
		}
	}()
	return ctx, func() { signal.Stop(ch); close(ch); cancel(nil) }
}

func newApp(out, errOut io.Writer) *cli.App {
	return &cli.App{
		Name:                   "ocbackup",
		Usage:                  "back up and restore OpenCloud, all of it, as one",
		Version:                Version,
		Writer:                 out,
		ErrWriter:              errOut,
		UseShortOptionHandling: true,
		EnableBashCompletion:   true,
		HideHelpCommand:        true,
		ExitErrHandler:         func(*cli.Context, error) {}, // Main maps errors to exit codes
		OnUsageError:           onUsageError,
		Action: func(c *cli.Context) error { // reached when no command matched
			if c.Args().First() == "help" && c.NArg() == 2 {
				return cli.ShowCommandHelp(c, c.Args().Get(1))
			}
			if c.NArg() > 0 && c.Args().First() != "help" {
				return fail.Usagef("see \"ocbackup --help\"", "there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Description: `Start with "ocbackup init": it finds OpenCloud on this machine and writes the
configuration. Then "ocbackup doctor", "ocbackup backup", and "ocbackup schedule
install" for every night. "ocbackup restore" brings it all back.

` + exitCodes,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE`", Value: config.DefaultPath, EnvVars: []string{"OCBACKUP_CONFIG"}},
			&cli.StringFlag{Name: "state-dir", Usage: "`DIR` of lock, journal and caches (default: from the configuration)", EnvVars: []string{"OCBACKUP_STATE_DIR"}},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object on standard output (docs/json.md)"},
			&cli.StringFlag{Name: "log-format", Usage: "console or json `FORMAT` of the log lines on standard error (default: console on a terminal, else json)", EnvVars: []string{"OCBACKUP_LOG_FORMAT"}},
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error `LEVEL`", EnvVars: []string{"OCBACKUP_LOG_LEVEL"}},
		},
		Commands: []*cli.Command{
			initCommand(), doctorCommand(), backupCommand(), listCommand(), showCommand(),
			verifyCommand(), restoreCommand(), reindexCommand(), recoverCommand(), scheduleCommand(),
			bucketCommand(),
			spacesCommand(), lsCommand(), findCommand(), historyCommand(), diffCommand(), getCommand(),
			guardCommand(), completeCommand(),
		},
	}
}

// usageError is a wrong call: an unknown flag, a missing value.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "ocbackup"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "ocbackup" {
		name += " " + c.Command.Name
	}
	return fail.Wrap(fail.Usage, &usageError{err}, "", fmt.Sprintf("see %q", name+" --help"))
}

// env is what a command works with.
type env struct {
	ctx  context.Context // of the command
	cfg  *config.Config  // nil when there is no configuration file (bare host)
	rep  progress.Reporter
	log  zerolog.Logger
	out  io.Writer // results
	err  io.Writer // progress and logs
	json bool
	tty  bool // standard error is a terminal
}

// setup reads the configuration and prepares reporting. A command that can do
// without a configuration file uses setupBare.
func setup(c *cli.Context) (*env, error) {
	cfg, err := config.Load(c.String("config"))
	if err != nil {
		return nil, err
	}
	if dir := c.String("state-dir"); dir != "" {
		cfg.StateDir = dir
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return newEnv(c, cfg)
}

// setupBare is setup for commands that work without a configuration file.
func setupBare(c *cli.Context) (*env, error) {
	if _, err := os.Stat(c.String("config")); err == nil || c.IsSet("config") {
		return setup(c)
	}
	return newEnv(c, nil)
}

func newEnv(c *cli.Context, cfg *config.Config) (*env, error) {
	e := &env{ctx: c.Context, cfg: cfg, out: c.App.Writer, err: c.App.ErrWriter, json: c.Bool("json")}
	f, isFile := e.err.(*os.File)
	e.tty = isFile && term.IsTerminal(int(f.Fd()))
	format, level := c.String("log-format"), c.String("log-level")
	if cfg != nil {
		if format == "" {
			format = cfg.Log.Format
		}
		if level == "" {
			level = cfg.Log.Level
		}
	}
	log, err := newLogger(e.err, format, level, e.tty)
	if err != nil {
		return nil, err
	}
	e.log = log
	if e.tty && format != "json" {
		e.rep = progress.Terminal(e.err, int(f.Fd()))
	} else {
		e.rep = progress.Log(log)
	}
	return e, nil
}

func newLogger(w io.Writer, format, level string, tty bool) (zerolog.Logger, error) {
	lvl := zerolog.InfoLevel
	if level != "" {
		l, err := zerolog.ParseLevel(level)
		if err != nil || l == zerolog.NoLevel {
			return zerolog.Logger{}, fail.Usagef("use debug, info, warn or error", "unknown log level %q", level)
		}
		lvl = l
	}
	switch {
	case format == "json", format == "" && !tty:
	case format == "console", format == "":
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.DateTime, NoColor: !tty}
	default:
		return zerolog.Logger{}, fail.Usagef("use console or json", "unknown log format %q", format)
	}
	return zerolog.New(w).Level(lvl).With().Timestamp().Logger(), nil
}

// repo opens the configured repository; nothing is run yet.
func (e *env) repo() (*repo.Repo, error) {
	opt, err := e.cfg.RepoOptions()
	if err != nil {
		return nil, err
	}
	return repo.New(opt), nil
}

// confirm asks a person at the terminal to type a word. Without a terminal it
// gives false: nobody can have agreed.
func (e *env) confirm(question, word string) (bool, error) {
	if !e.tty || !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, nil
	}
	e.rep.Note(question)
	fmt.Fprintf(e.err, "Type %q to go on: ", word)
	answer := make(chan string, 1)
	go func() { // reading a terminal can't be interrupted: on a signal it is left behind
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-e.ctx.Done():
		fmt.Fprintln(e.err)
		return false, context.Cause(e.ctx)
	case a := <-answer:
		return a == word, nil
	}
}

// terminalWidth is how many columns there are to print on; 120 when it is no terminal.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 120
}

// printJSON prints a result as one JSON object.
func (e *env) printJSON(v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// jsonError is how a failure looks with --json; docs/json.md describes it.
type jsonError struct {
	Error struct {
		Code  fail.Code `json:"code"`
		Step  string    `json:"step,omitempty"`
		Text  string    `json:"message"`
		State string    `json:"state,omitempty"`
		Hint  string    `json:"hint,omitempty"`
	} `json:"error"`
}

// printError tells what failed, why, what state things are in, and what to do next.
func printError(out, errOut io.Writer, err error, asJSON bool) {
	step, state, hint := fail.Details(err)
	if asJSON {
		var j jsonError
		j.Error.Code, j.Error.Step, j.Error.Text, j.Error.State, j.Error.Hint = fail.CodeOf(err), step, err.Error(), state, hint
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		_ = enc.Encode(j)
	}
	head := "error: "
	if step != "" {
		head = "error in step " + step + ": "
	}
	fmt.Fprintln(errOut, head+indent(err.Error(), "  "))
	if state != "" {
		fmt.Fprintln(errOut, "  State: "+indent(state, "         "))
	}
	if hint != "" {
		fmt.Fprintln(errOut, "  Next:  "+indent(hint, "         "))
	}
}

// reportedError is a failure whose result is on standard output already: with
// --json there is one object, never two.
type reportedError struct{ error }

func (e *reportedError) Unwrap() error { return e.error }

// reported is err, which may be nil, as that of a result that is on standard output.
func reported(err error) error {
	if err == nil {
		return nil
	}
	return &reportedError{err}
}

// wantsJSON reports whether --json was given, for errors that come before the
// flags could be parsed.
func wantsJSON(args []string) bool {
	for _, a := range args {
		if a == "--json" || a == "-json" || a == "--json=true" {
			return true
		}
	}
	return false
}

func indent(s, by string) string { return strings.ReplaceAll(s, "\n", "\n"+by) }
