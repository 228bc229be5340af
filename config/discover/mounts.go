package discover

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/paths"
)

// mount is a directory or file of this host that a container has at another path.
type mount struct {
	host, target string
	volume       string // name of the volume, empty for a bind mount
	readOnly     bool
	// problem says why what is mounted can't be backed up; empty: it can.
	problem string
	// guessed is set when host was not learnt from the engine.
	guessed bool
}

// mounts maps a container's paths to those of this host. Without any, the server
// runs on this host and its paths are the host's.
type mounts []mount

// onHost is for a server outside containers.
var onHost = mounts{{host: "/", target: "/"}}

// host returns what p is on this host, and the mount that it lies in; false when it
// lies in the container's own file system.
func (ms mounts) host(p string) (string, mount, bool) {
	p = path.Clean(p)
	best := -1
	for i, m := range ms {
		if paths.Within(m.target, p) && (best < 0 || len(m.target) > len(ms[best].target)) {
			best = i
		}
	}
	if best < 0 {
		return "", mount{}, false
	}
	m := ms[best]
	return filepath.Join(m.host, strings.TrimPrefix(p, strings.TrimSuffix(m.target, "/"))), m, true
}

// guessed lists the volumes whose place on this host is a guess.
func (ms mounts) guessed() []string {
	var out []string
	for _, m := range ms {
		if m.guessed && !slices.Contains(out, m.volume) {
			out = append(out, m.volume)
		}
	}
	return out
}
