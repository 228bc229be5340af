package repo

import (
	"regexp"
	"strings"
)

// outcome is what restic said while it ran.
type outcome struct {
	stdout   []byte
	failed   itemList // items that errors are about
	problems []string // errors that are about no item
	plain    []string // the last lines of standard error that are not JSON
	exit     string   // why it ended, when it ended with a JSON message
}

// maxPlain is how many plain lines are kept.
const maxPlain = 1000

// take reads one line of standard error.
func (o *outcome) take(line string, redact func(string) string) {
	m, ok := parseMessage([]byte(line))
	switch {
	case !ok:
		if line = strings.TrimRight(line, " \t"); line == "" {
			return
		}
		if len(o.plain) == maxPlain {
			o.plain = o.plain[1:]
		}
		o.plain = append(o.plain, redact(line))
	case m.Type == "exit_error":
		o.exit = redact(strings.TrimSpace(withoutStack(m.Message)))
	case m.Type == "error" && m.During == "scan":
		// The scan only counts. What is unreadable is reported again when it is read.
	case m.Type == "error" && m.During != "":
		o.failed.add(m.Item, redact(m.errorText()))
	case m.Type == "error" && len(o.problems) < maxPlain:
		o.problems = append(o.problems, redact(m.errorText()))
	}
}

// words is why restic failed, in its own words and those of a program that it
// started (ssh, rclone, a command whose output is stored).
func (o *outcome) words() string {
	w := o.exit
	if w == "" {
		w = strings.Join(o.plainWords(), "\n")
	}
	w = strings.TrimSpace(strings.ReplaceAll(w, "Fatal: ", ""))
	var sub []string
	for _, line := range o.plain {
		if m := subprocessText.FindStringSubmatch(line); m != nil && o.exit != "" {
			sub = append(sub, m[1])
		}
	}
	if len(sub) > 0 {
		w += ": " + strings.Join(sub[max(0, len(sub)-4):], "\n")
	}
	return w
}

// brokenCache reports whether restic could not use its cache because the file
// "version" in it is empty: another restic creates the cache right now, or was cut
// off by a power loss while it did (internal/backend/cache). Nothing else has been
// done by then.
func (o *outcome) brokenCache() bool {
	return strings.Contains(o.words(), "strconv.ParseUint: parsing \"\": invalid syntax\nreadVersion")
}

// withoutStack leaves out the calls that restic prints with an error of an
// unforeseen kind: a function, and its place on the next line.
func withoutStack(words string) string {
	var l []string
	for _, line := range strings.Split(words, "\n") {
		if strings.HasPrefix(line, "\t") && strings.Contains(line, ":") && len(l) > 0 {
			l = l[:len(l)-1]
			continue
		}
		l = append(l, line)
	}
	return strings.Join(l, "\n")
}

// subprocessText is how restic hands on what a program printed that it started.
var subprocessText = regexp.MustCompile(`^subprocess \S+: (.*)$`)

// plainWords finds why restic failed among the plain lines, where older versions
// and some commands of newer ones say it: from the first "Fatal:" on, else the last.
func (o *outcome) plainWords() []string {
	l := strings.Split(withoutStack(strings.Join(o.plain, "\n")), "\n")
	for i, line := range l {
		switch {
		case strings.HasPrefix(line, "Fatal:"), strings.HasPrefix(line, "unable to create lock"):
			return l[i:]
		case strings.HasPrefix(line, "panic:"):
			return l[i : i+1] // the stack says nothing to an admin
		}
	}
	return l[max(0, len(l)-4):]
}

// lastTry is the last thing that restic said about opening the repository.
func (o *outcome) lastTry() string {
	for i := len(o.plain) - 1; i >= 0; i-- {
		if _, why, ok := strings.Cut(o.plain[i], "returned error, retrying after "); ok {
			if _, why, ok := strings.Cut(why, ": "); ok {
				return why
			}
		}
	}
	return o.words()
}
