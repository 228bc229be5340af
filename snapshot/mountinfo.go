package snapshot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	ID      int
	Device  string // major:minor
	Root    string // what of the file system is mounted: "/", or below that for bind mounts and subvolumes
	Point   string
	Options string // of this mount
	FS      string
	Source  string // device, dataset, or whatever the file system calls itself
	Super   string // options of the file system
}

// readOnly tells whether the file system itself can't be written to: a mount of one that
// can, may still be read-only.
func (m mount) readOnly() bool { return hasOption(m.Super, "ro") }

// shows tells whether what is mounted with other is what is seen there anyhow: systemd mounts
// directories onto themselves to make them writable, or not, for a unit.
func (m mount) shows(other mount) bool {
	rel, in := below(m.Point, other.Point)
	return in && other.Device == m.Device && other.Root == filepath.Join(m.Root, rel)
}

func hasOption(options, o string) bool {
	return strings.Contains(","+options+",", ","+o+",")
}

// mounts returns all mounts, later ones last.
func mounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(bytes.NewReader(data))
}

func parseMounts(r io.Reader) ([]mount, error) {
	var all []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		before, after, ok := strings.Cut(lines.Text(), " - ")
		f, g := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(f) < 6 || len(g) < 3 {
			return nil, fmt.Errorf("mountinfo: can't read the line %q", lines.Text())
		}
		id, err := strconv.Atoi(f[0])
		if err != nil {
			return nil, fmt.Errorf("mountinfo: can't read the line %q", lines.Text())
		}
		all = append(all, mount{
			ID: id, Device: f[2], Root: unescape(f[3]), Point: unescape(f[4]), Options: f[5],
			FS: g[0], Source: unescape(g[1]), Super: g[2],
		})
	}
	return all, lines.Err()
}

// unescape replaces the octal escapes of mountinfo: space, tab, newline, backslash, "#".
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountOf returns the mount that holds path. The kernel is asked which it is: mounts may
// hide each other.
func mountOf(all []mount, path string) (mount, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return mount{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return mount{}, err
	}
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, _ := strconv.Atoi(strings.TrimSpace(v))
			for _, m := range all {
				if m.ID == id {
					return m, nil
				}
			}
		}
	}
	return mount{}, fmt.Errorf("no mount is known that holds %s", path)
}

// below returns path relative to dir; false: it does not lie in it. Dir itself is ".".
func below(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return rel, true
}
