package readiness

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/ocbackup/ocbackup/opencloud"
)

// checkIDM logs in to idm as each of the server's service users.
func checkIDM(ctx context.Context, cfg Config, l opencloud.Layout, pid int, dial dialFunc) error {
	conf, err := readServerConfig(l.ConfigDir, pid)
	if err != nil {
		return err
	}
	addr, err := reachable(cfg.IDM)
	if err != nil {
		return err
	}
	tried := map[account]bool{}
	for _, client := range ldapClients {
		a, uri := conf.account(client)
		if a.password == "" && !client.required || tried[a] || !sameServer(uri, addr) {
			continue
		}
		if a.password == "" {
			if pid <= 0 {
				return fmt.Errorf("%s names no password for idm's service user %s, and the server's environment can't be seen: "+
					"give a token or an app password in [ready]", conf.file, a.name())
			}
			return fmt.Errorf("%s and the server's environment name no password for idm's service user %s", conf.file, a.name())
		}
		tried[a] = true
		if err := bind(ctx, dial, addr, a); err != nil {
			if conf.disagree(client, a) {
				err = fmt.Errorf("%w (in %s, it is not the password that idm is set up with)", err, conf.file)
			}
			return err
		}
	}
	return nil
}

// bind logs in to idm.
func bind(ctx context.Context, dial dialFunc, addr string, a account) error {
	raw, err := dial(ctx, addr)
	if err != nil {
		return fmt.Errorf("idm does not answer at %s: %w", addr, cause(err))
	}
	// idm's certificate is its own, made at its first start; it listens inside the
	// machine or the container.
	secure := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // see above
	defer func() { _ = secure.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("idm does not answer at %s: %w", addr, cause(err))
	}
	conn := ldap.NewConn(secure, true)
	conn.Start()
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetTimeout(time.Until(deadline))
	}
	err = conn.Bind(a.dn, a.password)
	var answer *ldap.Error
	switch {
	case err == nil:
		return nil
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials), ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return fmt.Errorf("idm refuses the service user %s: configuration and idm data do not belong together", a.name())
	case errors.As(err, &answer):
		return fmt.Errorf("idm does not let in the service user %s: %w", a.name(), answer)
	}
	return fmt.Errorf("idm does not answer at %s: %w", addr, cause(err))
}

// account is a service user of idm.
type account struct{ dn, password string }

// name is the user's name in its DN: "uid=reva,ou=sysusers,o=libregraph-idm".
func (a account) name() string {
	first, _, _ := strings.Cut(a.dn, ",")
	_, name, _ := strings.Cut(first, "=")
	return name
}

// sameServer tells whether uri, as a service is configured, is the idm at addr and
// not some LDAP server elsewhere. An empty uri is the default: idm.
func sameServer(uri, addr string) bool {
	if uri == "" {
		return true
	}
	u, err := url.Parse(uri)
	if err != nil {
		return true
	}
	host, _, _ := net.SplitHostPort(addr)
	return u.Hostname() == "localhost" || isLoopback(net.JoinHostPort(u.Hostname(), "0")) || u.Hostname() == host
}
