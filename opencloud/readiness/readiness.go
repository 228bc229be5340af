// Package readiness finds out whether an OpenCloud instance can be used: whether
// people can log in, not just whether something answers.
package readiness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
)

// Config says where and how to ask. It is the [ready] table of the configuration
// file, and part of the journal.
type Config struct {
	// URL is the public URL of the instance (OC_URL); its host name is sent along.
	URL string `toml:"url,omitempty" json:"url,omitempty"`
	// Address is where the proxy listens: host:port. With InContainer it is reached
	// inside the network namespace of the instance's main process.
	Address string `toml:"address,omitempty" json:"address,omitempty"`
	// IDM is where the identity service listens (host:port), empty for an external LDAP.
	IDM         string `toml:"idm_address,omitempty" json:"idm_address,omitempty"`
	InContainer bool   `toml:"in_container,omitempty" json:"in_container,omitempty"`
	// Plain is set when the proxy speaks HTTP without TLS (PROXY_TLS=false).
	Plain bool `toml:"plain_http,omitempty" json:"plain_http,omitempty"`

	// TokenFile holds a bearer token; User and PasswordFile an app password. With
	// neither, an unauthenticated answer of Graph and a bind to idm are checked.
	TokenFile    string `toml:"token_file,omitempty" json:"token_file,omitempty"`
	User         string `toml:"user,omitempty" json:"user,omitempty"`
	PasswordFile string `toml:"password_file,omitempty" json:"password_file,omitempty"`

	// Off skips all of it: the manager's word is taken (a demo, a stub).
	Off     bool          `toml:"off,omitempty" json:"off,omitempty"`
	Timeout time.Duration `toml:"timeout,omitempty" json:"timeout,omitempty"` // default 3 min
}

// DefaultTimeout is how long an instance may take until it is ready.
const DefaultTimeout = 3 * time.Minute

const (
	// tryTimeout bounds one try.
	tryTimeout = 15 * time.Second
	// pollEvery is the pause between two tries.
	pollEvery = 250 * time.Millisecond
)

// TimeoutError says that an instance did not become ready in time.
type TimeoutError struct {
	After time.Duration
	Last  error // what was not ready at the last try
}

// Error says what was not ready to the end.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("OpenCloud is not ready after %s: %v", e.After, e.Last)
}

// Unwrap returns what was not ready at the last try.
func (e *TimeoutError) Unwrap() error { return e.Last }

// Validate finds what is wrong with the configuration as such. Its errors carry
// fail.Usage and name the key of the [ready] table.
func (c Config) Validate() error {
	if c.Off {
		return nil
	}
	if c.Timeout < 0 {
		return wrong("timeout", "must not be negative")
	}
	if c.URL == "" && c.Address == "" {
		return wrong("url", "is missing: set url, address or both")
	}
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return wrong("url", fmt.Sprintf("%q is no address like https://cloud.example.com", c.URL))
		}
	}
	for _, a := range []struct{ key, addr string }{{"address", c.Address}, {"idm_address", c.IDM}} {
		if _, _, err := net.SplitHostPort(a.addr); a.addr != "" && err != nil {
			return wrong(a.key, fmt.Sprintf("%q is no address like 127.0.0.1:9200", a.addr))
		}
	}
	switch {
	case c.TokenFile != "" && (c.User != "" || c.PasswordFile != ""):
		return wrong("token_file", "can't be used together with user and password_file")
	case c.User != "" && c.PasswordFile == "":
		return wrong("password_file", "is missing: user needs it")
	case c.User == "" && c.PasswordFile != "":
		return wrong("user", "is missing: password_file needs it")
	case c.InContainer && c.Address == "":
		return wrong("address", "is missing: in_container needs it")
	}
	return nil
}

// wrong is an error about one key of the [ready] table.
func wrong(key, what string) error {
	return fail.Usagef("see [ready] in the configuration file", "[ready] %s %s", key, what)
}

// Check tries once whether the instance can be used. nil: it can. Otherwise the
// error says what is not as it should be. pid is the instance's main process on
// this host, 0 where there is none: its environment outranks opencloud.yaml, and
// with InContainer its network is where the instance is asked.
//
// With a token or an app password, Graph has to accept it. Without, Graph has to
// answer a stranger with 401, and idm has to accept the server's own service users:
// when configuration and idm data do not belong together, everything answers and
// nobody can log in.
func Check(ctx context.Context, cfg Config, l opencloud.Layout, pid int) error {
	if cfg.Off {
		return nil
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	who, err := readCredentials(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	dial := dialer(cfg, pid)
	if err := checkGraph(ctx, cfg, who, dial); err != nil {
		return err
	}
	if who != nil || cfg.IDM == "" {
		return nil
	}
	return checkIDM(ctx, cfg, l, pid, dial)
}

// Wait tries again and again until the instance is ready or cfg.Timeout is over;
// then it returns a *TimeoutError. A mistake in the configuration that no waiting
// can mend is returned at once, with fail.Usage. pid tells the instance's main
// process, which may change while it starts; it may be nil. onWait, if not nil, is
// called whenever what is waited for changes.
func Wait(ctx context.Context, cfg Config, l opencloud.Layout, pid func(context.Context) (int, error), onWait func(reason string)) error {
	limit := cfg.Timeout
	if limit <= 0 {
		limit = DefaultTimeout
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if cfg.Off {
		return nil
	}
	var last error
	for {
		err := try(ctx, cfg, l, pid)
		if err == nil {
			return nil
		}
		if fail.CodeOf(err) == fail.Usage {
			return err
		}
		// The end of the time itself says nothing about the instance.
		if ctx.Err() == nil || last == nil {
			if onWait != nil && (last == nil || last.Error() != err.Error()) {
				onWait(err.Error())
			}
			last = err
		}
		select {
		case <-ctx.Done():
			if parent.Err() != nil {
				return errors.Join(context.Cause(parent), last)
			}
			return &TimeoutError{After: limit, Last: last}
		case <-time.After(pollEvery):
		}
	}
}

func try(ctx context.Context, cfg Config, l opencloud.Layout, pid func(context.Context) (int, error)) error {
	main := 0
	if pid != nil {
		var err error
		if main, err = pid(ctx); err != nil {
			return err
		}
	}
	return Check(ctx, cfg, l, main)
}
