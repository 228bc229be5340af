package readiness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud"
)

// ldapClient is a service of OpenCloud that logs in to idm: where its settings are
// in opencloud.yaml, in the service's own file beside it, and in the environment
// (services/*/pkg/config in OpenCloud's source).
type ldapClient struct {
	service string   // <service>.yaml
	section string   // in opencloud.yaml
	keys    []string // to the LDAP settings in the section, or in <service>.yaml
	env     string   // prefix of its own variables; OC_LDAP_... are for all, and weaker
	dn      string   // default
	// idmKey is the password that idm gives the user when it makes its database.
	idmKey   string
	idmEnv   string
	required bool
}

var ldapClients = []ldapClient{
	{"graph", "graph", []string{"identity", "ldap"}, "GRAPH_LDAP_", "uid=libregraph,ou=sysusers,o=libregraph-idm", "idm_password", "IDM_SVC_PASSWORD", true},
	{"users", "users", []string{"drivers", "ldap"}, "USERS_LDAP_", "uid=reva,ou=sysusers,o=libregraph-idm", "reva_password", "IDM_REVASVC_PASSWORD", false},
	{"groups", "groups", []string{"drivers", "ldap"}, "GROUPS_LDAP_", "uid=reva,ou=sysusers,o=libregraph-idm", "reva_password", "IDM_REVASVC_PASSWORD", false},
	{"auth-basic", "auth_basic", []string{"auth_providers", "ldap"}, "AUTH_BASIC_LDAP_", "uid=reva,ou=sysusers,o=libregraph-idm", "reva_password", "IDM_REVASVC_PASSWORD", false},
	{"idp", "idp", []string{"ldap"}, "IDP_LDAP_", "uid=idp,ou=sysusers,o=libregraph-idm", "idp_password", "IDM_IDPSVC_PASSWORD", false},
}

// serverConfig is the server's configuration: environment over service files over
// opencloud.yaml, as the server reads it.
type serverConfig struct {
	file     string // opencloud.yaml
	main     map[string]any
	services map[string]map[string]any
	env      map[string]string
}

func readServerConfig(dir string, pid int) (*serverConfig, error) {
	if dir == "" {
		return nil, errors.New("the service users of idm can't be checked: config_dir is not set in [layout]")
	}
	c := &serverConfig{file: filepath.Join(dir, "opencloud.yaml"), services: map[string]map[string]any{}, env: environ(pid)}
	var err error
	if c.main, err = readYAML(c.file); err != nil {
		return nil, err
	}
	for _, name := range []string{"graph", "users", "groups", "auth-basic", "idp", "idm"} {
		m, err := readYAML(filepath.Join(dir, name+".yaml"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		c.services[name] = m
	}
	return c, nil
}

func readYAML(path string) (map[string]any, error) {
	var m map[string]any
	if err := opencloud.ReadYAML(path, &m); err != nil {
		return nil, fmt.Errorf("server configuration: %w", err)
	}
	return m, nil
}

// environ is the environment of process pid, as far as it can be read.
func environ(pid int) map[string]string {
	env := map[string]string{}
	if pid <= 0 {
		return env
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return env
	}
	for v := range strings.SplitSeq(string(b), "\x00") {
		if name, value, ok := strings.Cut(v, "="); ok {
			env[name] = value
		}
	}
	return env
}

// account is the user that a service logs in to idm as, and uri where it does.
func (c *serverConfig) account(client ldapClient) (a account, uri string) {
	a.dn = c.setting(client, "bind_dn", "BIND_DN")
	if a.dn == "" {
		a.dn = client.dn
	}
	a.password = c.setting(client, "bind_password", "BIND_PASSWORD")
	uri = c.setting(client, "uri", "URI")
	return a, uri
}

// setting finds an LDAP setting of a service. As in the server, a variable counts
// when it is set, be it empty, and the service's own outranks the common one.
func (c *serverConfig) setting(client ldapClient, key, variable string) string {
	for _, name := range []string{client.env + variable, "OC_LDAP_" + variable} {
		if v, ok := c.env[name]; ok {
			return v
		}
	}
	keys := append(append([]string{}, client.keys...), key)
	v, ok := lookup(c.services[client.service], keys...)
	if !ok {
		v, _ = lookup(c.main, append([]string{client.section}, keys...)...)
	}
	return v
}

// disagree tells whether the password that a service logs in with is another than
// the one idm is given. Such a server can work all the same: idm reads its own only
// when it makes its database. It may also be a hash, which says nothing.
func (c *serverConfig) disagree(client ldapClient, a account) bool {
	idm, ok := c.env[client.idmEnv]
	if !ok {
		idm, ok = lookup(c.services["idm"], "service_user_passwords", client.idmKey)
	}
	if !ok {
		idm, ok = lookup(c.main, "idm", "service_user_passwords", client.idmKey)
	}
	return ok && idm != a.password && !strings.HasPrefix(idm, "$argon2id$")
}

// lookup follows keys through nested maps to a scalar.
func lookup(m map[string]any, keys ...string) (string, bool) {
	for _, key := range keys[:len(keys)-1] {
		next, ok := m[key].(map[string]any)
		if !ok {
			return "", false
		}
		m = next
	}
	switch v := m[keys[len(keys)-1]].(type) {
	case string:
		return v, true
	case int, int64, uint64: // a password of digits
		return fmt.Sprint(v), true
	case float64: // written out, as the server has it
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}
