package readiness

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/ocbackup/ocbackup/opencloud"
)

// fake is a server with what readiness looks at: Graph, and idm.
type fake struct {
	graph http.HandlerFunc // replaced by tests; default: 401, or 200 for the admin
	mu    sync.Mutex
	users map[string]string // DN -> password
	binds []string          // what was asked, in order
	close bool              // hang up instead of answering
}

const (
	adminToken    = "token-of-the-admin"
	adminPassword = "app password of the admin"
)

// newFake starts a server. The listeners may be given; nil: on loopback.
func newFake(t *testing.T, web, idm net.Listener) (*fake, Config, opencloud.Layout) {
	t.Helper()
	f := &fake{users: map[string]string{
		"uid=libregraph,ou=sysusers,o=libregraph-idm": "iO!VHMm=uduE8W#B=!xA",
		"uid=reva,ou=sysusers,o=libregraph-idm":       "r&uY%.9UogFYFpNxkqUw",
		"uid=idp,ou=sysusers,o=libregraph-idm":        "s35Qy$-M*BNBgQUSWYYH",
	}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	if web != nil {
		_ = srv.Listener.Close()
		srv.Listener = web
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	if idm == nil {
		var err error
		if idm, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	go f.serveLDAP(tls.NewListener(idm, &tls.Config{Certificates: srv.TLS.Certificates}))
	t.Cleanup(func() { _ = idm.Close() })

	dir := t.TempDir()
	write(t, filepath.Join(dir, "opencloud.yaml"), serverYAML)
	return f, Config{
		URL: "https://cloud.example.com", Address: srv.Listener.Addr().String(), IDM: idm.Addr().String(),
	}, opencloud.Layout{ConfigDir: dir}
}

// As "opencloud init" writes it.
const serverYAML = `graph:
  identity:
    ldap:
      bind_password: iO!VHMm=uduE8W#B=!xA
idp:
  ldap:
    bind_password: s35Qy$-M*BNBgQUSWYYH
idm:
  service_user_passwords:
    admin_password: admin
    idm_password: iO!VHMm=uduE8W#B=!xA
    reva_password: r&uY%.9UogFYFpNxkqUw
    idp_password: s35Qy$-M*BNBgQUSWYYH
auth_basic:
  auth_providers:
    ldap:
      bind_password: r&uY%.9UogFYFpNxkqUw
users:
  drivers:
    ldap:
      bind_password: r&uY%.9UogFYFpNxkqUw
groups:
  drivers:
    ldap:
      bind_password: r&uY%.9UogFYFpNxkqUw
`

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	handler := f.graph
	f.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	if r.URL.Path != graphMe || r.Host != "cloud.example.com" || r.TLS != nil && r.TLS.ServerName != "cloud.example.com" {
		http.NotFound(w, r)
		return
	}
	user, password, _ := r.BasicAuth()
	if r.Header.Get("Authorization") != "Bearer "+adminToken && (user != "admin" || password != adminPassword) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = w.Write([]byte(`{"id":"some-uuid"}`))
}

func (f *fake) answer(status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.graph = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func (f *fake) setUser(dn, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[dn] = password
}

func (f *fake) serveLDAP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			for {
				p, err := ber.ReadPacket(conn)
				if err != nil || len(p.Children) < 2 || p.Children[1].Tag != ldap.ApplicationBindRequest {
					return
				}
				if !f.bind(conn, p) {
					return
				}
			}
		}()
	}
}

// bind answers a simple bind (RFC 4511, 4.2).
func (f *fake) bind(conn net.Conn, p *ber.Packet) bool {
	dn, _ := p.Children[1].Children[1].Value.(string)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.binds = append(f.binds, dn)
	if f.close {
		return false
	}
	result := int64(ldap.LDAPResultSuccess)
	if want, ok := f.users[dn]; !ok || p.Children[1].Children[2].Data.String() != want {
		result = ldap.LDAPResultInvalidCredentials
	}
	m := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, p.Children[0].Value, ""))
	r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationBindResponse, nil, "")
	r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, result, ""))
	r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
	r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
	m.AppendChild(r)
	_, err := conn.Write(m.Bytes())
	return err == nil
}

// closedAddr is an address at which nobody listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
