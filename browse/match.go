package browse

import (
	"path"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/text/unicode/norm"

	"github.com/ocbackup/ocbackup/fail"
)

// Matcher makes what find looks for into a function that tells which paths match. A
// pattern without wildcard characters (* ? [ {) is a part of the name; with them it is
// all of the name. With a "/" it is about the whole path instead: beginning with "/"
// from the space's root, else from any folder; "**" stands for any number of folders.
// Upper and lower case are the same unless caseMatters; the composed and decomposed
// forms of letters always are.
func Matcher(pattern string, caseMatters bool) (func(path string) bool, error) {
	if pattern == "" {
		return nil, fail.Usagef("for example: ocbackup find offer, or ocbackup find '*.odt'", "there is nothing to look for")
	}
	fold := composed
	if !caseMatters {
		fold = func(s string) string { return strings.ToLower(composed(s)) }
	}
	pattern = fold(pattern)
	whole := strings.Contains(pattern, "/")
	if !strings.ContainsAny(pattern, `*?[{\`) {
		if whole {
			return func(p string) bool { return strings.Contains(fold(p), pattern) }, nil
		}
		return func(p string) bool { return strings.Contains(fold(path.Base(p)), pattern) }, nil
	}
	if whole && !strings.HasPrefix(pattern, "/") {
		pattern = "/**/" + pattern
	}
	if !doublestar.ValidatePattern(pattern) {
		return nil, fail.Usagef(`write \[ for a bracket that is part of a name; see "ocbackup find --help"`, "%q is no pattern", pattern)
	}
	if whole {
		return func(p string) bool { return doublestar.MatchUnvalidated(pattern, fold(p)) }, nil
	}
	return func(p string) bool { return doublestar.MatchUnvalidated(pattern, fold(path.Base(p))) }, nil
}

// composed makes names of macOS, which takes letters apart from their marks, look like
// those of others. Names in ASCII are left alone quickly.
func composed(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return norm.NFC.String(s)
		}
	}
	return s
}
