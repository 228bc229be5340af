package opencloud

import (
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
)

// ReadYAML reads a YAML file of a deployment into a value. Its errors hold nothing
// of the file, which may be secrets, but where it is wrong; that there is none is
// fs.ErrNotExist.
func ReadYAML(path string, to any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(b, to); err != nil {
		// "[line:column] why", and then those lines
		at, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "["), "]")
		if strings.Trim(at, "0123456789:") != "" {
			at = "?"
		}
		return fmt.Errorf("%s is no valid YAML (at line:column %s)", path, at)
	}
	return nil
}
