package opencloud

import "strings"

// ParseVersion finds the server's version ("4.0.0-rc.3+dev") in what
// "opencloud version" prints: the line "Version: ...", which comes first.
func ParseVersion(output string) (version string, ok bool) {
	for line := range strings.Lines(output) {
		if v, ok := strings.CutPrefix(line, "Version:"); ok {
			v = strings.TrimSpace(v)
			return v, v != "" && !strings.ContainsAny(v, " \t")
		}
	}
	return "", false
}
