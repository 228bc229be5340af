package config

import (
	"os"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud/control"
)

// ReadEnvFile reads a file of NAME=value lines in the syntax of systemd's
// EnvironmentFile=. The last of several values of a name counts.
func ReadEnvFile(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ByName(control.ParseEnvironment(string(b))), nil
}

// ByName makes a map of NAME=value texts. What is no assignment is left out.
func ByName(env []string) map[string]string {
	m := map[string]string{}
	for _, v := range env {
		if name, value, ok := strings.Cut(v, "="); ok {
			m[name] = value
		}
	}
	return m
}
