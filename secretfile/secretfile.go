// Package secretfile reads files that hold a secret, and makes sure that it is one.
package secretfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
)

// Check reports, as an error of code fail.Usage, when there is no file at path, or
// when anybody on the machine may read or change it. what is the setting that names
// the file.
func Check(what, path string) error {
	f, err := open(what, path)
	if err != nil {
		return err
	}
	return f.Close()
}

// most is how long a secret may be.
const most = 64 << 10

// Read is Check, and returns the one line that the file holds.
func Read(what, path string) (string, error) {
	f, err := open(what, path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fail.Wrap(fail.Usage, err, what, "")
	}
	if len(b) > most {
		return "", fail.Usagef("", "%s: %s is too big to be a secret", what, path)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		return "", fail.Usagef("", "%s: %s must hold one line", what, path)
	}
	return secret, nil
}

func open(what, path string) (*os.File, error) {
	// Stat first: to open a named pipe could take for ever.
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail.Usagef("", "%s: there is no file %s", what, path)
	case err != nil:
		return nil, fail.Wrap(fail.Usage, err, what, "")
	case !st.Mode().IsRegular():
		return nil, fail.Usagef("", "%s: %s is no file", what, path)
	case st.Mode().Perm()&0o006 != 0:
		return nil, fail.Usagef("chmod 600 "+path, "%s: %s holds a secret, and everybody on this machine may read or change it (mode %04o)",
			what, path, st.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail.Wrap(fail.Usage, err, what, "")
	}
	return f, nil
}
