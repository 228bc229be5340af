package proc

import "os/exec"

// Find returns nil when there is a program of this name, a path or to be looked up
// in PATH, that can be run; else a *NotFoundError.
func Find(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return &NotFoundError{Name: name}
	}
	return nil
}
