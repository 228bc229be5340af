package repo

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// Check checks the repository. What it finds is in the result; the error says that
// the check could not be made. It locks the repository for all others.
func (r *Repo) Check(ctx context.Context, s CheckSpec) (CheckResult, error) {
	c := call{command: "check", progress: s.OnProgress != nil}
	if s.ReadData != "" {
		c.args = append(c.args, "--read-data-subset="+s.ReadData)
	}
	if s.OnProgress == nil {
		c.args = append(c.args, "--json")
	} else {
		// There is no progress in check's JSON.
		c.onLine = func(line []byte) error {
			if p, ok := checkProgress(string(line)); ok {
				s.OnProgress(p)
			}
			return nil
		}
	}
	o, err := r.run(ctx, c)
	var x *proc.ExitError
	if errors.As(err, &x) && x.Code == 1 && strings.Contains(x.Stderr, "repository contains errors") {
		if len(o.problems) > 0 {
			return findings(o.problems), nil
		}
		return findings(o.plain), nil
	}
	return CheckResult{}, err
}

// checkText is check's progress: "[1:05] 12.50%  1 / 8 packs".
var checkText = regexp.MustCompile(`^\[[0-9:]+\] +[0-9.]+% +(\d+) / (\d+) (\w+)`)

func checkProgress(line string) (Progress, bool) {
	m := checkText.FindStringSubmatch(line)
	if m == nil {
		return Progress{}, false
	}
	done, _ := strconv.ParseUint(m[1], 10, 64) // digits
	total, _ := strconv.ParseUint(m[2], 10, 64)
	return Progress{FilesDone: done, FilesTotal: total, Current: m[3]}, true
}

// findings sorts what check printed into damage and advice. The message may hold
// several lines; a line that is set in goes with the one before.
func findings(printed []string) CheckResult {
	var res CheckResult
	for _, line := range strings.Split(strings.Join(printed, "\n"), "\n") {
		text := strings.TrimSpace(line)
		switch {
		case text == "", isNoise(text):
		case isAdvice(text):
			res.Advice = append(res.Advice, text)
		case len(res.Errors) > 0 && strings.HasSuffix(res.Errors[len(res.Errors)-1], ":"):
			res.Errors[len(res.Errors)-1] += " " + text
		default:
			res.Errors = append(res.Errors, strings.TrimPrefix(text, "error: "))
		}
	}
	if len(res.Errors) == 0 {
		res.Errors = []string{"repository contains errors"}
	}
	return res
}

// retryText is what restic says while it tries again: "Load(<data/8e98da20a9>, 0, 0)
// returned error, retrying after 1s: ...", "... failed", "... operation successful after 1 retries".
var retryText = regexp.MustCompile(`^(List|Load|Save|Stat|Remove)\(.*(returned error, retrying|failed: |operation successful)`)

// isNoise reports whether a line is neither damage nor advice.
func isNoise(line string) bool {
	return strings.HasPrefix(line, "Fatal: repository contains errors") || retryText.MatchString(line)
}

// isAdvice reports whether a line says what to do about the damage.
func isAdvice(line string) bool {
	return strings.HasPrefix(line, "restic repair") ||
		strings.HasPrefix(line, "The repository ") ||
		strings.HasPrefix(line, "Damaged ")
}
