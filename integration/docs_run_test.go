//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/integration/env"
)

// help returns the help text of a command, which has to exist.
func help(t *testing.T, command ...string) string {
	t.Helper()
	r := env.Exec(t.Context(), nil, env.Ocbackup(t), append(slices.Clone(command), "--help")...)
	if r.Code != 0 {
		t.Fatalf("ocbackup %s --help: exit code %d\n%s%s", strings.Join(command, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

var helpCommand = regexp.MustCompile(`(?m)^   (\w+)(, \w+)*  +\S`)

// helpCommands lists the commands below one, as its help text shows them.
func helpCommands(text string) (names []string) {
	_, text, ok := strings.Cut(text, "\nCOMMANDS:\n")
	if !ok {
		return nil
	}
	text, _, _ = strings.Cut(text, "\n\n")
	for _, m := range helpCommand.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestHelpTexts asks for examples and exit codes in the help text of each command.
func TestHelpTexts(t *testing.T) {
	commands := helpCommands(help(t))
	if len(commands) < 9 {
		t.Fatalf("only %d commands found: %v", len(commands), commands)
	}
	for _, c := range commands {
		text := help(t, c)
		for _, want := range []string{"EXAMPLES:", "EXIT CODES:"} {
			if !strings.Contains(text, want) {
				t.Errorf("ocbackup %s --help has no %s", c, want)
			}
		}
	}
}

var (
	// A call of ocbackup on a line of a code block, or between back quotes.
	blockCall  = regexp.MustCompile(`(?m)^(?:    )?(?:\$ |[^#\n]*\broot )?(ocbackup .*)$`)
	inlineCall = regexp.MustCompile("`(ocbackup [^`]+)`")
	fenced     = regexp.MustCompile("(?s)```\\w*\n(.*?)```")
)

// TestCallsInDocuments looks every command and flag that the documents name up in
// the help texts.
func TestCallsInDocuments(t *testing.T) {
	top := help(t)
	commands := helpCommands(top)
	calls := 0
	for _, doc := range documents(t) {
		text := readFile(t, doc)
		var found [][]string
		for _, block := range fenced.FindAllStringSubmatch(text, -1) {
			found = append(found, blockCall.FindAllStringSubmatch(block[1], -1)...)
		}
		for _, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "    ") {
				found = append(found, blockCall.FindAllStringSubmatch(line, -1)...)
			}
		}
		found = append(found, inlineCall.FindAllStringSubmatch(text, -1)...)
		for _, m := range found {
			calls++
			checkCall(t, doc, m[1], top, commands)
		}
	}
	if calls < 40 {
		t.Errorf("only %d calls found in the documents", calls)
	}
}

func checkCall(t *testing.T, doc, call, top string, commands []string) {
	t.Helper()
	helpText, level := top, 0
	for _, w := range strings.Fields(call)[1:] {
		w = strings.Trim(w, `"'.,;:()`)
		switch {
		case w == "COMMAND" || w == "--help":
			return
		case strings.HasPrefix(w, "#") || w == "|" || w == "||" || w == ">" || w == "&&":
			return
		case strings.HasPrefix(w, "--"):
			name, _, _ := strings.Cut(w, "=")
			name = strings.TrimRight(name, ".")
			if !regexp.MustCompile(regexp.QuoteMeta(name) + `\b`).MatchString(helpText) {
				t.Errorf("%s: %q: there is no flag %s", doc, call, name)
			}
		case level == 0:
			if !slices.Contains(commands, w) {
				t.Errorf("%s: %q: there is no command %s", doc, call, w)
				return
			}
			helpText, level = help(t, w), 1
			commands = append([]string{w}, helpCommands(helpText)...)
		case level == 1 && len(commands) > 1:
			if !slices.Contains(commands[1:], w) {
				t.Errorf("%s: %q: there is no command %s %s", doc, call, commands[0], w)
				return
			}
			helpText, level = help(t, commands[0], w), 2
		}
	}
}

var marked = regexp.MustCompile("(?s)<!-- test: (\\S+) -->\n```sh\n(.*?)```")

// instance is a server on a recorded tree that the documents' commands work on.
type instance struct {
	t   *testing.T
	dir string
	env []string
}

// ctl controls the server of the instance.
func (i *instance) ctl(args ...string) env.Result {
	return env.Exec(i.t.Context(), nil, filepath.Join(env.Root(), "tools/standin-ctl.sh"), append([]string{i.dir}, args...)...)
}

func (i *instance) must(args ...string) {
	i.t.Helper()
	if r := i.ctl(args...); r.Code != 0 {
		i.t.Fatalf("server %v: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
}

// run runs a shell block; what it prints goes to the test's log.
func (i *instance) run(script string) env.Result {
	return env.Exec(i.t.Context(), i.env, "sh", "-euc", script)
}

// wipe loses the server and everything on its disk, but not the state directory.
func (i *instance) wipe() {
	i.must("kill")
	for _, d := range []string{"config", "data"} {
		if err := os.RemoveAll(filepath.Join(i.dir, d)); err != nil {
			i.t.Fatal(err)
		}
	}
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners are restored")
	}
	dir := t.TempDir()
	env.ExtractFixture(t, "opencloud-4.0-posix", dir)
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"ocbackup": env.Ocbackup(t), "restic": env.Restic(t, "0.18")} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	i := &instance{t: t, dir: dir, env: []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"),
		"OCBACKUP_CONFIG=" + dir + "/ocbackup.toml",
		"OCBACKUP_LOG_FORMAT=console",
		"REPOSITORY=" + dir + "/repository", "PASSWORD_FILE=" + dir + "/password",
		"RESTIC_CACHE_DIR=" + dir + "/cache",
	}}
	var server strings.Builder
	fmt.Fprintf(&server, "STANDIN='%s'\nexport", env.Standin(t))
	for _, e := range env.StandinEnv(t, dir, "posix") {
		fmt.Fprintf(&server, " '%s'", e)
	}
	fmt.Fprintln(&server, " STANDIN_WRITE=0")
	if err := os.WriteFile(filepath.Join(dir, "server.env"), []byte(server.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	i.must("start")
	t.Cleanup(func() {
		env.Exec(context.Background(), nil, filepath.Join(env.Root(), "tools/standin-ctl.sh"), dir, "kill")
	})
	env.Eventually(t, 20*time.Second, "the stand-in is ready", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "events"))
		return err == nil && strings.Contains(string(b), " ready ")
	})
	return i
}

// TestDocumentsRun runs the shell blocks that are marked in the documents, in the
// order of a story: set up, back up, lose everything, bring it back.
func TestDocumentsRun(t *testing.T) {
	i := newInstance(t)
	blocks := map[string]string{}
	for _, doc := range documents(t) {
		for _, m := range marked.FindAllStringSubmatch(readFile(t, doc), -1) {
			if blocks[m[1]] != "" {
				t.Errorf("two blocks have the mark %q", m[1])
			}
			// The only thing that is changed: where the drill goes.
			blocks[m[1]] = strings.ReplaceAll(m[2], "/srv/drill", i.dir+"/drill")
		}
	}
	ctl := filepath.Join(env.Root(), "tools/standin-ctl.sh") + " " + i.dir
	if r := i.run(fmt.Sprintf(`ocbackup init --repository "$REPOSITORY" --password-file "$PASSWORD_FILE" --config-dir %[1]s/config --data-dir %[1]s/data`+
		` --start '%[2]s start' --stop '%[2]s stop' --status '%[2]s status' --exec '%[2]s exec'`, i.dir, ctl)); r.Code != 0 {
		t.Fatalf("init: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, part := range []struct {
		block  string
		before func() // what happened
		after  func() // what must be so
	}{
		{block: "first"},
		{block: "verify"},
		{block: "list"},
		{block: "restore-dry-run"},
		{block: "target", after: func() { i.exists(filepath.Join("drill", i.dir, "config/opencloud.yaml")) }},
		{block: "json"},
		{block: "restore", before: i.wipe, after: i.runs},
		{block: "bare", before: func() {
			i.wipe()
			i.env = append(i.env, "OCBACKUP_CONFIG="+i.dir+"/new/ocbackup.toml")
		}, after: i.runs},
		{block: "restic-alone"},
	} {
		ok := t.Run(part.block, func(t *testing.T) {
			i.t = t
			script, found := blocks[part.block]
			if !found {
				t.Fatalf("no document has a block with the mark %q", part.block)
			}
			delete(blocks, part.block)
			if part.before != nil {
				part.before()
			}
			r := i.run(script)
			t.Logf("%s\n%s%s", script, r.Stdout, r.Stderr)
			if r.Code != 0 {
				t.Fatalf("exit code %d", r.Code)
			}
			if part.after != nil {
				part.after()
			}
		})
		if !ok {
			return
		}
	}
	for name := range blocks {
		t.Errorf("the block with the mark %q is not run", name)
	}
}

// runs makes sure that the server runs, with the data that it had.
func (i *instance) runs() {
	i.t.Helper()
	i.must("status")
	i.exists("config/opencloud.yaml")
	i.exists("data/storage/users/users")
}

func (i *instance) exists(path string) {
	i.t.Helper()
	if _, err := os.Stat(filepath.Join(i.dir, path)); err != nil {
		i.t.Error(err)
	}
}
