package readiness

import (
	"fmt"

	"github.com/ocbackup/ocbackup/secretfile"
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
		token, err := secretfile.Read("[ready] token_file", cfg.TokenFile)
		return &credentials{token: token, file: cfg.TokenFile}, err
	case cfg.PasswordFile != "":
		password, err := secretfile.Read("[ready] password_file", cfg.PasswordFile)
		return &credentials{user: cfg.User, password: password, file: cfg.PasswordFile}, err
	}
	return nil, nil
}

// String names the credentials without telling them.
func (c *credentials) String() string {
	if c.token != "" {
		return "the token in " + c.file
	}
	return fmt.Sprintf("user %s with the password in %s", c.user, c.file)
}
