package control

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is what /proc tells of one (proc_pid_stat(5)).
type process struct {
	pid, parent int
	name        string    // of the program, at most 15 bytes
	started     time.Time // zero when it is not known
}

// userHZ is the unit of times in /proc/PID/stat: 1/100 s on every architecture that
// Go knows.
const userHZ = 100

// readProcess reads what there is about a process; false when it is gone.
func readProcess(pid int) (process, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	// The name stands in parentheses and may have any of its own.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if err != nil || open < 0 || end < open {
		return process{}, false
	}
	p := process{pid: pid, name: string(b[open+1 : end])}
	fields := strings.Fields(string(b[end+1:])) // from the third on
	if len(fields) < 20 {
		return process{}, false
	}
	p.parent, _ = strconv.Atoi(fields[1])
	if ticks, err := strconv.ParseInt(fields[19], 10, 64); err == nil {
		if boot := bootTime(); !boot.IsZero() {
			p.started = boot.Add(time.Duration(ticks) * (time.Second / userHZ))
		}
	}
	return p, true
}

func bootTime() time.Time {
	b, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "btime "); ok {
			if sec, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
				return time.Unix(sec, 0)
			}
		}
	}
	return time.Time{}
}

// ancestry is a process and those that it descends from, the oldest first.
func ancestry(pid int) (line []process) {
	for pid > 0 && len(line) < 32 {
		p, ok := readProcess(pid)
		if !ok {
			break
		}
		line = append(line, p)
		pid = p.parent
	}
	slices.Reverse(line)
	return line
}

// describe tells of the last process of a line: what it is, whose, and who started it.
func describe(line []process) []string {
	if len(line) == 0 {
		return nil
	}
	p := line[len(line)-1]
	what := fmt.Sprintf("process %d (%s)", p.pid, strings.Join(plainWords(p.pid), " "))
	if u := owner(p.pid); u != "" {
		what += " of user " + u
	}
	if !p.started.IsZero() {
		what += ", started at " + p.started.Format(clock)
	}
	names := make([]string, len(line))
	for i, a := range line {
		names[i] = fmt.Sprintf("%s (%d)", a.name, a.pid)
	}
	from := "its parents: " + strings.Join(names, " -> ")
	// A parent that has ended is not among them; where it came from is kept.
	if g := group(p.pid); g != "" {
		from += ", in " + g
	}
	if u := login(p.pid); u != "" {
		from += ", of a login of " + u
	}
	return []string{what, from}
}

// subcommand is an argument that is a word of the program's own language.
var subcommand = regexp.MustCompile(`^[a-z][a-z-]{1,19}$`)

// plainWords is the beginning of a process' command line: the program, and as many of the
// two words after it as are a command or a file. What follows may be a secret.
func plainWords(pid int) []string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	words := []string{strings.Fields(args[0] + " ?")[0]} // some write their whole state there
	for _, a := range args[1:min(3, len(args))] {
		if !subcommand.MatchString(a) && (!path.IsAbs(a) || strings.ContainsAny(a, " =@:")) {
			break
		}
		words = append(words, a)
	}
	return words
}

// owner is the user of a process.
func owner(pid int) string {
	st, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
	if err != nil {
		return ""
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return userName(strconv.FormatUint(uint64(sys.Uid), 10))
	}
	return ""
}

func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// login is the user who had logged in before the process came to be, under whatever
// user it runs now; "" when nobody had (proc_pid_loginuid(5)).
func login(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "loginuid"))
	uid := strings.TrimSpace(string(b))
	if uid == "" || uid == "4294967295" {
		return ""
	}
	return userName(uid)
}

// group is the unit of systemd or the session whose control group a process is in.
func group(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	for line := range strings.Lines(string(b)) {
		name := path.Base(strings.TrimSpace(line))
		if ext := path.Ext(name); ext == ".service" || ext == ".scope" {
			return name
		}
	}
	return ""
}
