package readiness

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ocbackup/ocbackup/fail"
)

// credentials are what the admin gave for an authenticated call.
type credentials struct {
	token          string
	user, password string
	file           string // for messages
}

// readCredentials reads the token or password file; nil without one.
func readCredentials(cfg Config) (*credentials, error) {
	switch {
	case cfg.TokenFile != "":
		token, err := readSecret("token_file", cfg.TokenFile)
		return &credentials{token: token, file: cfg.TokenFile}, err
	case cfg.PasswordFile != "":
		password, err := readSecret("password_file", cfg.PasswordFile)
		return &credentials{user: cfg.User, password: password, file: cfg.PasswordFile}, err
	}
	return nil, nil
}

// readSecret reads a file whose one line is a secret. Everybody being able to read
// it is an error: then it is none.
func readSecret(key, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fail.Wrap(fail.Usage, err, "[ready] "+key, "")
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return "", fail.Wrap(fail.Usage, err, "[ready] "+key, "")
	}
	if !st.Mode().IsRegular() {
		return "", fail.Usagef("", "[ready] %s: %s is no file", key, path)
	}
	if st.Mode().Perm()&0o007 != 0 {
		return "", fail.Usagef("chmod 600 "+path, "[ready] %s: everybody can get at %s (mode %04o)", key, path, st.Mode().Perm())
	}
	const most = 64 << 10
	if st.Size() > most {
		return "", fail.Usagef("", "[ready] %s: %s is too big to be a secret", key, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return "", fail.Wrap(fail.Usage, err, "[ready] "+key, "")
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		return "", fail.Usagef("", "[ready] %s: %s must hold one line", key, path)
	}
	return secret, nil
}

// String names the credentials without telling them.
func (c *credentials) String() string {
	if c.token != "" {
		return "the token in " + c.file
	}
	return fmt.Sprintf("user %s with the password in %s", c.user, c.file)
}
