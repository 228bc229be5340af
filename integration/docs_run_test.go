//go:build integration

package integration

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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
		case level == 0 && strings.ToUpper(w) == w: // the value of a global flag
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

var marked = regexp.MustCompile("(?s)<!-- test: (\\S+) -->\n *```sh\n(.*?)```")

// markedBlocks returns the marked shell blocks of all documents by their marks: those
// that are about the bucket, or the others.
func markedBlocks(t *testing.T, c *cloud, bucket bool) map[string]string {
	t.Helper()
	blocks := map[string]string{}
	for _, doc := range documents(t) {
		for _, m := range marked.FindAllStringSubmatch(readFile(t, doc), -1) {
			if strings.HasPrefix(m[1], "bucket") != bucket {
				continue
			}
			if blocks[m[1]] != "" {
				t.Errorf("two blocks have the mark %q", m[1])
			}
			// The only thing that is changed: where drills go.
			blocks[m[1]] = strings.ReplaceAll(m[2], "/srv/", c.dir+"/srv/")
		}
	}
	return blocks
}

// shell is the environment in which blocks of the documents run: with ocbackup and
// restic in the PATH.
func (c *cloud) shell() []string {
	c.t.Helper()
	bin := c.path("bin")
	for name, target := range map[string]string{"ocbackup": ocbackupProgram(c.t), "restic": env.Restic(c.t, "0.18")} {
		if err := errors.Join(os.MkdirAll(bin, 0o755), os.Symlink(target, filepath.Join(bin, name))); err != nil {
			c.t.Fatal(err)
		}
	}
	return []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "OCBACKUP_CONFIG=" + c.path("ocbackup.toml"),
		"REPOSITORY=" + c.path("repository"), "PASSWORD_FILE=" + c.path("password"), "RESTIC_CACHE_DIR=" + c.path("cache"),
	}
}

// TestBucketDocumentsRun runs the marked blocks that are about the bucket.
func TestBucketDocumentsRun(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "decomposeds3")
	c.backup()
	shell := c.shell()
	for name, script := range markedBlocks(t, c, true) {
		r := env.Exec(t.Context(), shell, "sh", "-euc", script)
		t.Logf("%s: %s\n%s%s", name, script, r.Stdout, r.Stderr)
		wants(t, r, 0)
		c.running()
	}
}

// TestDocumentsRun runs the shell blocks that are marked in the documents, in the
// order of a story: set up, back up, lose everything, bring it back.
func TestDocumentsRun(t *testing.T) {
	c := newRecordedCloud(t, "opencloud-4.0-posix")
	c.configure("ready", "timeout", `"30s"`)
	blocks, shell := markedBlocks(t, c, false), c.shell()
	back := func(c *cloud) {
		c.running()
		c.stop() // while it runs it writes
		wants(c.t, c.check(""), 0)
		c.start()
	}
	run := []string{"sh", "-euc"}
	said := "" // by the last block
	for _, part := range []struct {
		block  string
		before func()         // what happened
		after  func(c *cloud) // what must be so
	}{
		{block: "first", after: (*cloud).running},
		{block: "drill"},
		{block: "verify"},
		{block: "verify-proof"},
		{block: "browse"},
		{block: "get", after: func(c *cloud) {
			if c.read("srv/look/docs-fx/empty-fx.bin") != "" || len(hashes(t, c.path("srv/look/docs-fx"))) < 10 {
				t.Errorf("the folder came back as %v", hashes(t, c.path("srv/look")))
			}
		}},
		{block: "json"},
		{block: "list"},
		{block: "restore-dry-run", after: (*cloud).running},
		{block: "target", after: func(c *cloud) { wants(c.t, c.check(c.path("srv/drill")), 0) }},
		{block: "restore", after: back},
		{block: "undo", after: back},
		{block: "bare", before: func() {
			c.ctl("kill")
			c.remove("config", "data", "ocbackup.toml", "state")
			// The configuration is written to /etc, but not to this machine's.
			etc := c.path("etc")
			if err := errors.Join(os.MkdirAll(etc+"/up", 0o755), os.Mkdir(etc+"/work", 0o755)); err != nil {
				t.Fatal(err)
			}
			run = []string{"unshare", "-m", "sh", "-euc", `mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/up,workdir=$0/work" /etc
				unset OCBACKUP_CONFIG; eval "$1"`, etc}
		}, after: back},
		{block: "restic-alone", after: func(c *cloud) { c.recoverByHand(said) }},
	} {
		ok := t.Run(part.block, func(t *testing.T) {
			script, found := blocks[part.block]
			if !found {
				t.Fatalf("no document has a block with the mark %q", part.block)
			}
			delete(blocks, part.block)
			if part.before != nil {
				part.before()
			}
			r := env.Exec(t.Context(), shell, run[0], append(slices.Clone(run[1:]), script)...)
			t.Logf("%s\n%s%s", script, r.Stdout, r.Stderr)
			wants(t, r, 0)
			said = r.Stdout
			if part.after != nil {
				part.after(c.with(t))
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

var byHand = regexp.MustCompile(`(?m)^    (restic restore .*)$`)

// recoverByHand loses everything and does what RECOVERY.txt says, with restic alone.
func (c *cloud) recoverByHand(text string) {
	c.t.Helper()
	c.ctl("kill")
	c.remove("config", "data")
	lines := byHand.FindAllStringSubmatch(text, -1)
	if len(lines) != 4 {
		c.t.Fatalf("%d commands found", len(lines))
	}
	for _, m := range lines {
		r := env.Exec(background, append(c.resticEnv(), "PATH="+c.path("bin")+":"+os.Getenv("PATH")), "sh", "-euc", m[1])
		wants(c.t, r, 0)
	}
	c.start()
	c.running()
	c.stop()
	wants(c.t, c.check(""), 0)
}
