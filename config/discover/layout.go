package discover

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/readiness"
	"github.com/ocbackup/ocbackup/paths"
)

// server is an instance as it sees itself: its environment, its configuration
// files, and paths that may be those inside a container.
type server struct {
	env map[string]string
	// configDir and dataDir hold where OC_CONFIG_DIR and OC_BASE_DATA_PATH are not set.
	configDir, dataDir string
	mounts             mounts

	files map[string]map[string]any // configuration files by service, "" for opencloud.yaml
	notes []string
}

// settings holds where the server takes its settings from, by OpenCloud's
// documented order: the environment, then <service>.yaml, then the service's part of
// opencloud.yaml (pkg/config/helpers.go and the services' pkg/config).
type setting struct {
	env     string // of several the most specific comes last, and wins
	service string // storage-users: the name of its file, and with _ of its part of opencloud.yaml
	key     string // dotted
	def     string // default, relative to the data directory when it is a relative path
}

// The settings that say where data lies. Names and defaults are those of OpenCloud
// 4.0 (services/*/pkg/config/config.go and defaults/defaultconfig.go).
var (
	usersRoots = map[opencloud.Driver]setting{
		opencloud.Posix:        {"STORAGE_USERS_POSIX_ROOT", "storage-users", "drivers.posix.root", "storage/users"},
		opencloud.Decomposed:   {"STORAGE_USERS_DECOMPOSED_ROOT", "storage-users", "drivers.decomposed.root", "storage/users"},
		opencloud.DecomposedS3: {"STORAGE_USERS_DECOMPOSEDS3_ROOT", "storage-users", "drivers.decomposeds3.root", "storage/users"},
	}
	driverSetting = setting{"STORAGE_USERS_DRIVER", "storage-users", "driver", ""}
	searchType    = setting{"SEARCH_ENGINE_TYPE", "search", "engine.type", "bleve"}
	searchDir     = setting{"SEARCH_ENGINE_BLEVE_DATA_PATH", "search", "engine.bleve.data_path", "search"}
	thumbnails    = setting{"THUMBNAILS_FILESYSTEMSTORAGE_ROOT", "thumbnails", "thumbnail.filesystem_storage.root_directory", "thumbnails"}

	// state is what the server writes: it belongs to the system component.
	state = []setting{
		{"STORAGE_SYSTEM_OC_ROOT", "storage-system", "drivers.decomposed.root", "storage/metadata"},
		{"NATS_NATS_STORE_DIR", "nats", "nats.store_dir", "nats"},
		{"IDM_DATABASE_PATH", "idm", "idm.database", "idm/idm.boltdb"},
		{"IDP_ENCRYPTION_SECRET_FILE", "idp", "idp.encrypt_secret_file", "idp/encryption.key"},
		{"IDP_SIGNING_PRIVATE_KEY_FILES", "idp", "idp.signing_private_key_files", "idp/private-key.pem"},
		{"OCM_OCM_INVITE_MANAGER_JSON_FILE", "ocm", "ocm_invite_manager.drivers.json.file", "storage/ocm/ocminvites.json"},
		{"OCM_OCM_SHAREPROVIDER_JSON_FILE", "ocm", "ocm_share_provider.drivers.json.file", "storage/ocm/ocmshares.json"},
		{"OCM_OCM_CORE_JSON_FILE", "ocm", "ocm_core.drivers.json.file", "storage/ocm/ocmshares.json"},
		{"OCM_OCM_STORAGE_PROVIDER_STORAGE_ROOT", "ocm", "ocm_storage_provider.storage_root", "storage/ocm"},
	}
	// given is what the admin has put there: it belongs to the deployment.
	given = []setting{
		{"IDM_LDAPS_CERT", "idm", "idm.cert", "idm/ldap.crt"},
		{"IDM_LDAPS_KEY", "idm", "idm.key", "idm/ldap.key"},
		{"PROXY_TRANSPORT_TLS_CERT", "proxy", "http.tls_cert", "proxy/server.crt"},
		{"PROXY_TRANSPORT_TLS_KEY", "proxy", "http.tls_key", "proxy/server.key"},
		{"NATS_TLS_CERT", "nats", "nats.tls_cert", ""},
		{"NATS_TLS_KEY", "nats", "nats.tls_key", ""},
		{"OC_LDAP_CACERT;GRAPH_LDAP_CACERT", "graph", "identity.ldap.cacert", ""},
		{"OCM_OCM_PROVIDER_AUTHORIZER_PROVIDERS_FILE", "ocm", "ocm_provider_authorizer_drivers.json.providers", ""},
		{"PROXY_CSP_CONFIG_FILE_LOCATION", "proxy", "csp_config_file_location", ""},
		{"PROXY_CSP_CONFIG_FILE_OVERRIDE_LOCATION", "proxy", "csp_config_file_override_location", ""},
		{"OC_PASSWORD_POLICY_BANNED_PASSWORDS_LIST;FRONTEND_PASSWORD_POLICY_BANNED_PASSWORDS_LIST", "frontend", "password_policy.banned_passwords_list", ""},
		{"WEB_UI_CONFIG_FILE", "web", "file", ""},
		{"WEB_ASSET_CORE_PATH", "web", "asset.core_path", "web/assets/core"},
		{"OC_ASSET_THEMES_PATH;WEB_ASSET_THEMES_PATH", "web", "asset.themes_path", "web/assets/themes"},
		{"WEB_ASSET_APPS_PATH", "web", "asset.apps_path", "web/assets/apps"},
	}
)

// result is what the server's settings come to, in paths of this host.
type result struct {
	layout       opencloud.Layout
	ready        readiness.Config
	bucket       config.Bucket
	notProtected []string
}

// resolve finds out where the server keeps what.
func (s *server) resolve() (*result, error) {
	if v := s.env["OC_CONFIG_DIR"]; v != "" {
		s.configDir = v
	}
	if v := s.env["OC_BASE_DATA_PATH"]; v != "" {
		s.dataDir = v
	}
	r := &result{}
	var err error
	l := &r.layout
	if l.ConfigDir, err = s.host("configuration directory", s.configDir); err != nil {
		return nil, err
	}
	if l.DataDir, err = s.host("data directory", s.dataDir); err != nil {
		return nil, err
	}
	if l.Driver, err = s.driver(); err != nil {
		return nil, err
	}
	if l.UsersRoot, err = s.host("storage root", s.path(usersRoots[l.Driver])); err != nil {
		return nil, err
	}
	if t := s.get(searchType); t != "" && t != "bleve" {
		l.SearchExternal = true
		r.notProtected = append(r.notProtected, "search index ("+t+"): built again after a restore")
	} else if l.SearchDir, err = s.host("search index", s.path(searchDir)); err != nil {
		return nil, err
	}
	s.leave(l)
	s.outside(l)
	s.externals(r)
	if l.Driver == opencloud.DecomposedS3 {
		r.bucket = s.bucket()
	}
	s.readiness(r)
	return r, nil
}

// host maps a path of the server's to this host. Data that lies in the container
// itself is an error: it goes away with the container, and can't be backed up.
func (s *server) host(what, p string) (string, error) {
	if !path.IsAbs(p) {
		return "", fail.Usagef("give an absolute path in OpenCloud's environment", "OpenCloud's %s is the relative path %q", what, p)
	}
	host, m, ok := s.mounts.host(p)
	if !ok {
		return "", fail.Usagef("mount a volume or a directory of this host there, and move the data to it before the container is made anew",
			"OpenCloud's %s %s lies inside the container, not in a volume: it is lost when the container is made anew, and can't be backed up", what, p)
	}
	if m.problem != "" {
		return "", fail.Usagef("mount it on this host (in /etc/fstab) and use it as a bind mount",
			"OpenCloud's %s %s: %s", what, p, m.problem)
	}
	return host, nil
}

// get returns a setting's value; empty when it has neither value nor default.
func (s *server) get(x setting) string {
	value := ""
	for name := range strings.SplitSeq(x.env, ";") {
		if v := s.env[name]; v != "" {
			value = v
		}
	}
	if value != "" {
		return value
	}
	if v := s.expand(lookup(s.file(x.service), x.key)); v != "" {
		return v
	}
	section, _ := s.file("opencloud")[strings.ReplaceAll(x.service, "-", "_")].(map[string]any)
	if v := s.expand(lookup(section, x.key)); v != "" {
		return v
	}
	return x.def
}

// reference is how OpenCloud's configuration files refer to its environment:
// ${NAME}, ${NAME | default} or ${NAME | ?what to say when it is not set}.
var reference = regexp.MustCompile(`\$\{.+?\}`)

func (s *server) expand(v string) string {
	return reference.ReplaceAllStringFunc(v, func(ref string) string {
		name, def, _ := strings.Cut(ref[2:len(ref)-1], "|")
		if def = strings.TrimSpace(def); strings.HasPrefix(def, "?") {
			def = ""
		}
		return or(s.env[strings.TrimSpace(name)], def)
	})
}

// path is get for a path: relative ones are below the data directory.
func (s *server) path(x setting) string {
	p := s.get(x)
	if p == "" || path.IsAbs(p) {
		return p
	}
	return path.Join(s.dataDir, p)
}

// lookup finds a dotted key in decoded YAML.
func lookup(m map[string]any, key string) string {
	parts := strings.Split(key, ".")
	for _, p := range parts[:len(parts)-1] {
		m, _ = m[p].(map[string]any)
	}
	switch v := m[parts[len(parts)-1]].(type) {
	case nil, map[string]any:
		return ""
	case []any:
		var list []string
		for _, e := range v {
			list = append(list, fmt.Sprint(e))
		}
		return strings.Join(list, ",")
	default:
		return fmt.Sprint(v)
	}
}

// file reads one of the configuration files, once.
func (s *server) file(name string) map[string]any {
	if m, ok := s.files[name]; ok {
		return m
	}
	if s.files == nil {
		s.files = map[string]map[string]any{}
	}
	var m map[string]any
	if host, _, ok := s.mounts.host(path.Join(s.configDir, name+".yaml")); ok {
		if err := opencloud.ReadYAML(host, &m); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.note("the settings of %s are not known: %v", host, err)
		}
	}
	s.files[name] = m
	return m
}

func (s *server) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(s.notes, n) {
		s.notes = append(s.notes, n)
	}
}

// driver finds the storage driver. Its default changed with OpenCloud 2.0, so when
// nothing sets it, what lies on disk decides.
func (s *server) driver() (opencloud.Driver, error) {
	switch d := s.get(driverSetting); d {
	case "posix":
		return opencloud.Posix, nil
	case "decomposed", "ocis":
		return opencloud.Decomposed, nil
	case "decomposeds3", "decomposed_s3", "s3ng":
		return opencloud.DecomposedS3, nil
	case "":
	default:
		return "", fail.Usagef("ocbackup knows posix, decomposed and decomposeds3", "OpenCloud's storage driver is %q (STORAGE_USERS_DRIVER)", d)
	}
	for _, d := range []opencloud.Driver{opencloud.Posix, opencloud.Decomposed} {
		host, _, ok := s.mounts.host(s.path(usersRoots[d]))
		if ok && looksLike(d, host) {
			if d == opencloud.Decomposed && opencloud.BlobsElsewhere(host) {
				s.note("STORAGE_USERS_DRIVER is not set; %s names contents of files and holds none: the driver decomposeds3 is taken. Set endpoint, name and env_file in [bucket] by hand", host)
				return opencloud.DecomposedS3, nil
			}
			s.note("STORAGE_USERS_DRIVER is not set; %s holds a tree of the driver %s", host, d)
			return d, nil
		}
	}
	s.note("STORAGE_USERS_DRIVER is not set and there is no data yet: posix is taken, OpenCloud's default since 2.0")
	return opencloud.Posix, nil
}

// looksLike tells whether a storage root was made by a driver: posix has users/ and
// projects/ (or .oc-nodes in spaces), decomposed has spaces/.
func looksLike(d opencloud.Driver, root string) bool {
	names := []string{"users", "projects"}
	if d == opencloud.Decomposed {
		names = []string{"spaces"}
	}
	return slices.ContainsFunc(names, func(n string) bool {
		st, err := os.Stat(filepath.Join(root, n))
		return err == nil && st.IsDir()
	})
}

// leave lists what OpenCloud makes again by itself.
func (s *server) leave(l *opencloud.Layout) {
	host, _, ok := s.mounts.host(s.path(thumbnails))
	if ok && (below(l.DataDir, host) || below(l.UsersRoot, host)) {
		l.Leave = append(l.Leave, host)
	}
}

// outside finds what lies outside the directories that are backed up anyway: state
// goes to SystemPaths, what the admin provides to Deployment.
func (s *server) outside(l *opencloud.Layout) {
	covered := func(p string) bool {
		for _, dir := range append([]string{l.ConfigDir, l.DataDir, l.UsersRoot, l.SearchDir}, append(l.SystemPaths, l.Deployment...)...) {
			if paths.Within(dir, p) {
				return true
			}
		}
		return false
	}
	for _, group := range []struct {
		settings []setting
		list     *[]string
	}{{state, &l.SystemPaths}, {given, &l.Deployment}} {
		for _, x := range group.settings {
			for p := range strings.SplitSeq(s.path(x), ",") {
				if p == "" {
					continue
				}
				if !path.IsAbs(p) {
					p = path.Join(s.dataDir, p)
				}
				host, m, ok := s.mounts.host(p)
				switch {
				case !ok:
					s.note("%s=%s lies inside the container, not in a volume: it is not backed up", x.name(), p)
				case m.problem != "":
					s.note("%s=%s: %s; it is not backed up", x.name(), p, m.problem)
				case !covered(host) && paths.Exists(host) && !contains(host, l):
					*group.list = append(*group.list, host)
				}
			}
		}
	}
	// Volumes inside the data directory that are none of the above.
	for _, m := range s.mounts {
		ours := below(s.dataDir, m.target) || below(s.configDir, m.target)
		if m.host == "" || !ours {
			continue
		}
		switch {
		case m.problem != "":
			s.note("%s: %s; it is not backed up", m.target, m.problem)
		case covered(m.host) || slices.Contains(l.Leave, m.host) || contains(m.host, l) || !paths.Exists(m.host):
		case m.readOnly || below(s.configDir, m.target):
			l.Deployment = append(l.Deployment, m.host)
		default:
			l.SystemPaths = append(l.SystemPaths, m.host)
		}
	}
	slices.Sort(l.Deployment)
	l.Deployment = slices.Compact(l.Deployment)
}

func (x setting) name() string {
	name, _, _ := strings.Cut(x.env, ";")
	return name
}

// contains reports whether one of the layout's main directories is p or lies in it.
func contains(p string, l *opencloud.Layout) bool {
	for _, dir := range []string{l.ConfigDir, l.DataDir, l.UsersRoot, l.SearchDir} {
		if paths.Within(p, dir) {
			return true
		}
	}
	return false
}

// externals names what OpenCloud relies on and a set does not hold.
func (s *server) externals(r *result) {
	if uri := s.ldap(); uri != "" {
		r.notProtected = append(r.notProtected, "LDAP server "+uri+": users and groups")
	}
	if issuer := s.env["OC_OIDC_ISSUER"]; issuer != "" && !sameHost(issuer, s.env["OC_URL"]) {
		r.notProtected = append(r.notProtected, "identity provider "+issuer)
	}
}

// ldap returns the address of an external LDAP server; empty when OpenCloud's own
// identity service holds the users.
func (s *server) ldap() string {
	uri := s.get(setting{"OC_LDAP_URI;GRAPH_LDAP_URI", "graph", "identity.ldap.uri", ""})
	if u, err := url.Parse(uri); err == nil && u.Hostname() != "" && !isLocal(u.Hostname()) {
		return uri
	}
	if s.excluded("idm") {
		if uri == "" {
			uri = "(address not known)"
		}
		return uri
	}
	return ""
}

// excluded tells whether a service is not run.
func (s *server) excluded(service string) bool {
	list := func(x setting) []string {
		return strings.FieldsFunc(s.get(x), func(r rune) bool { return r == ',' || r == ' ' })
	}
	if run := list(setting{"OC_RUN_EXTENSIONS;OC_RUN_SERVICES", "runtime", "services", ""}); len(run) > 0 {
		return !slices.Contains(run, service)
	}
	return slices.Contains(list(setting{"OC_EXCLUDE_RUN_SERVICES", "runtime", "disabled_services", ""}), service)
}

// readiness finds where the instance can be asked.
func (s *server) readiness(r *result) {
	r.ready.URL = s.env["OC_URL"]
	if r.ready.URL == "" {
		r.ready.URL = lookup(s.file("opencloud"), "opencloud_url")
	}
	r.ready.Address = localAddress(s.get(setting{"PROXY_HTTP_ADDR", "proxy", "http.addr", "0.0.0.0:9200"}), "9200")
	r.ready.Plain = strings.EqualFold(s.get(setting{"PROXY_TLS", "proxy", "http.tls", "true"}), "false")
	if s.ldap() == "" {
		r.ready.IDM = localAddress(s.get(setting{"IDM_LDAPS_ADDR", "idm", "idm.ldaps_addr", "127.0.0.1:9235"}), "9235")
	}
}

// localAddress turns an address to listen on into one to connect to.
func localAddress(addr, port string) string {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return net.JoinHostPort(addr, port)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, p)
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func sameHost(a, b string) bool {
	u, err := url.Parse(a)
	v, err2 := url.Parse(b)
	return err == nil && err2 == nil && u.Hostname() == v.Hostname()
}

// below reports whether p lies strictly inside dir.
func below(dir, p string) bool {
	_, ok := paths.Below(dir, p)
	return ok
}
