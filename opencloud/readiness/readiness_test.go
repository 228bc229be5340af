package readiness

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
)

func TestCheck(t *testing.T) {
	const libregraph, reva = "uid=libregraph,ou=sysusers,o=libregraph-idm", "uid=reva,ou=sysusers,o=libregraph-idm"
	for _, tt := range []struct {
		name  string
		setup func(t *testing.T, f *fake, c *Config, l *opencloud.Layout)
		want  string // part of the error; empty: ready
	}{
		{"ready", func(*testing.T, *fake, *Config, *opencloud.Layout) {}, ""},
		{"off", func(_ *testing.T, _ *fake, c *Config, _ *opencloud.Layout) { *c = Config{Off: true} }, ""},
		{"external LDAP", func(_ *testing.T, _ *fake, c *Config, l *opencloud.Layout) { c.IDM, l.ConfigDir = "", "" }, ""},
		{"any address", func(_ *testing.T, _ *fake, c *Config, _ *opencloud.Layout) {
			c.Address = strings.Replace(c.Address, "127.0.0.1", "0.0.0.0", 1)
		}, ""},
		{"no host", func(_ *testing.T, _ *fake, c *Config, _ *opencloud.Layout) {
			c.Address = strings.TrimPrefix(c.Address, "127.0.0.1")
		}, ""},
		{"graph away", func(t *testing.T, _ *fake, c *Config, _ *opencloud.Layout) { c.Address = closedAddr(t) }, "connection refused"},
		{"graph 503", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.answer(503, "") }, "graph answers 503"},
		{"graph 404", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.answer(404, "") }, "graph answers 404"},
		{"no files yet", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) {
			f.graph = func(w http.ResponseWriter, r *http.Request) {
				code := http.StatusUnauthorized
				if strings.HasPrefix(r.URL.Path, "/ocs/") {
					code = http.StatusBadGateway
				}
				w.WriteHeader(code)
			}
		}, "the frontend answers 502"},
		{"redirect", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.answer(302, "") }, "graph answers 302"},
		{"start page for everything", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.answer(200, "<html>") }, "answers 200 to a stranger"},
		{"TLS expected", func(_ *testing.T, _ *fake, c *Config, _ *opencloud.Layout) { c.Plain = true }, "graph answers 400"},
		{"idm away", func(t *testing.T, _ *fake, c *Config, _ *opencloud.Layout) { c.IDM = closedAddr(t) }, "idm does not answer at"},
		{"idm hangs up", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.close = true }, "idm does not answer at"},
		{"other idm data", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.setUser(libregraph, "x") }, "idm refuses the service user libregraph: configuration and idm data do not belong together"},
		{"reva's password alone", func(_ *testing.T, f *fake, _ *Config, _ *opencloud.Layout) { f.setUser(reva, "x") }, "idm refuses the service user reva: configuration and idm data"},
		{"idm's own password differs, but all can log in", func(t *testing.T, _ *fake, _ *Config, l *opencloud.Layout) {
			write(t, filepath.Join(l.ConfigDir, "opencloud.yaml"), strings.Replace(serverYAML, "idm_password: iO", "idm_password: other", 1))
		}, ""},
		{"passwords disagree", func(t *testing.T, f *fake, _ *Config, l *opencloud.Layout) {
			f.setUser(libregraph, "x")
			write(t, filepath.Join(l.ConfigDir, "opencloud.yaml"), strings.Replace(serverYAML, "idm_password: iO", "idm_password: other", 1))
		}, "it is not the password that idm is set up with"},
		{"service file outranks", func(t *testing.T, f *fake, _ *Config, l *opencloud.Layout) {
			f.setUser(libregraph, "0123456")
			write(t, filepath.Join(l.ConfigDir, "graph.yaml"), "identity: {ldap: {bind_password: '0123456'}}\n")
		}, ""},
		{"LDAP elsewhere", func(t *testing.T, f *fake, _ *Config, l *opencloud.Layout) {
			f.setUser(libregraph, "x")
			write(t, filepath.Join(l.ConfigDir, "graph.yaml"), "identity: {ldap: {uri: 'ldaps://ldap.example.com:636'}}\n")
		}, ""},
		{"no opencloud.yaml", func(t *testing.T, _ *fake, _ *Config, l *opencloud.Layout) { l.ConfigDir = t.TempDir() }, "opencloud.yaml: no such file"},
		{"broken opencloud.yaml", func(t *testing.T, _ *fake, _ *Config, l *opencloud.Layout) {
			write(t, filepath.Join(l.ConfigDir, "opencloud.yaml"), "graph: [secret\n b: c: d")
		}, "opencloud.yaml is no valid YAML"},
		{"no password", func(t *testing.T, _ *fake, _ *Config, l *opencloud.Layout) {
			write(t, filepath.Join(l.ConfigDir, "opencloud.yaml"), "idm: {}\n")
		}, "names no password for idm's service user libregraph"},
		{"in container without process", func(_ *testing.T, _ *fake, c *Config, _ *opencloud.Layout) { c.InContainer = true }, "no main process"},
		{"token", func(t *testing.T, _ *fake, c *Config, _ *opencloud.Layout) {
			c.TokenFile = write(t, filepath.Join(t.TempDir(), "token"), adminToken+"\n")
			c.IDM = closedAddr(t) // not asked
		}, ""},
		{"app password", func(t *testing.T, _ *fake, c *Config, _ *opencloud.Layout) {
			c.User, c.PasswordFile = "admin", write(t, filepath.Join(t.TempDir(), "password"), adminPassword)
		}, ""},
		{"wrong app password", func(t *testing.T, _ *fake, c *Config, _ *opencloud.Layout) {
			c.User, c.PasswordFile = "admin", write(t, filepath.Join(t.TempDir(), "password"), "wrong")
		}, "graph refuses user admin with the password in"},
		{"token, graph 500", func(t *testing.T, f *fake, c *Config, _ *opencloud.Layout) {
			c.TokenFile = write(t, filepath.Join(t.TempDir(), "token"), adminToken)
			f.answer(500, "")
		}, "graph answers 500"},
		{"token, start page for everything", func(t *testing.T, f *fake, c *Config, _ *opencloud.Layout) {
			c.TokenFile = write(t, filepath.Join(t.TempDir(), "token"), adminToken)
			f.answer(200, "<html>")
		}, "this is not OpenCloud"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, c, l := newFake(t, nil, nil)
			tt.setup(t, f, &c, &l)
			err := Check(t.Context(), c, l, 0)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "VHMm")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestServiceUsersAreEachTriedOnce(t *testing.T) {
	f, c, l := newFake(t, nil, nil)
	if err := Check(t.Context(), c, l, 0); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"uid=libregraph,ou=sysusers,o=libregraph-idm",
		"uid=reva,ou=sysusers,o=libregraph-idm",
		"uid=idp,ou=sysusers,o=libregraph-idm",
	}
	if !slices.Equal(f.binds, want) {
		t.Fatalf("binds %q, want %q", f.binds, want)
	}
}

// The environment of the server's process outranks its files, and a service's own
// variable the common one.
func TestServerEnvironment(t *testing.T) {
	f, c, l := newFake(t, nil, nil)
	f.setUser("uid=libregraph,ou=sysusers,o=libregraph-idm", "from GRAPH")
	f.setUser("uid=reva,ou=sysusers,o=libregraph-idm", "from OC")
	f.setUser("uid=idp,ou=sysusers,o=libregraph-idm", "from OC")
	server := exec.Command("sleep", "60")
	server.Env = append(os.Environ(), "OC_LDAP_BIND_PASSWORD=from OC", "GRAPH_LDAP_BIND_PASSWORD=from GRAPH")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	if err := Check(t.Context(), c, l, server.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), c, l, 0); err == nil {
		t.Fatal("the passwords of opencloud.yaml are accepted, too")
	}
}

func TestPlainHTTP(t *testing.T) {
	f, c, _ := newFake(t, nil, nil)
	srv := &http.Server{Handler: http.HandlerFunc(f.serve)}
	l := listenAt(t, "127.0.0.1:0")
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	c.Address, c.Plain, c.IDM = l.Addr().String(), true, ""
	if err := Check(t.Context(), c, opencloud.Layout{}, 0); err != nil {
		t.Fatal(err)
	}
}

// Only what is reached directly may show any certificate.
func TestCertificateIsVerifiedOnTheNetwork(t *testing.T) {
	_, c, l := newFake(t, listenAt(t, ownAddr(t)+":0"), nil)
	if err := Check(t.Context(), c, l, 0); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("error %v, want one about the certificate", err)
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		key string
		c   Config
	}{
		{"url", Config{}},
		{"url", Config{URL: "cloud.example.com"}},
		{"address", Config{URL: "https://c", Address: "9200"}},
		{"idm_address", Config{URL: "https://c", IDM: "localhost"}},
		{"token_file", Config{URL: "https://c", TokenFile: "t", User: "u", PasswordFile: "p"}},
		{"password_file", Config{URL: "https://c", User: "u"}},
		{"user", Config{URL: "https://c", PasswordFile: "p"}},
		{"address", Config{URL: "https://c", InContainer: true}},
		{"timeout", Config{URL: "https://c", Timeout: -1}},
	} {
		err := tt.c.Validate()
		if err == nil || !strings.Contains(err.Error(), "[ready] "+tt.key+" ") || fail.CodeOf(err) != fail.Usage {
			t.Errorf("%+v: error %v, want one about %s", tt.c, err, tt.key)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"public", "secret", 0o644, "everybody on this machine"},
		{"empty", "\n", 0o600, "must hold one line"},
		{"two lines", "a\nb\n", 0o600, "must hold one line"},
		{"missing", "", 0, "there is no file"},
	} {
		path := filepath.Join(dir, tt.name)
		if tt.mode != 0 {
			write(t, path, tt.text)
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
		}
		c := Config{URL: "https://127.0.0.1:1", TokenFile: path, Timeout: time.Second}
		err := Wait(t.Context(), c, opencloud.Layout{}, nil, nil)
		var timeout *TimeoutError
		if err == nil || !strings.Contains(err.Error(), tt.want) || fail.CodeOf(err) != fail.Usage || errors.As(err, &timeout) {
			t.Errorf("%s: error %v, want %q at once", tt.name, err, tt.want)
		}
	}
}

func TestWaitTellsEachReasonOnce(t *testing.T) {
	f, c, l := newFake(t, nil, nil)
	f.answer(503, "")
	c.Timeout = time.Minute
	var reasons []string
	tries := 0
	pid := func(context.Context) (int, error) {
		// Three tries in each state: 503, idm with other data, ready.
		switch tries++; tries {
		case 4:
			f.answer(401, "")
			f.setUser("uid=libregraph,ou=sysusers,o=libregraph-idm", "other")
		case 7:
			f.setUser("uid=libregraph,ou=sysusers,o=libregraph-idm", "iO!VHMm=uduE8W#B=!xA")
		}
		return 0, nil
	}
	if err := Wait(t.Context(), c, l, pid, func(r string) { reasons = append(reasons, r) }); err != nil {
		t.Fatal(err)
	}
	if len(reasons) != 2 || !strings.Contains(reasons[0], "503") || !strings.Contains(reasons[1], "libregraph") || tries != 7 {
		t.Fatalf("%d tries, reasons %q", tries, reasons)
	}
}

func TestWaitGivesUp(t *testing.T) {
	f, c, l := newFake(t, nil, nil)
	f.answer(503, "")
	c.Timeout = 300 * time.Millisecond
	err := Wait(t.Context(), c, l, nil, nil)
	var timeout *TimeoutError
	if !errors.As(err, &timeout) || timeout.After != c.Timeout || !strings.Contains(timeout.Error(), "graph answers 503") {
		t.Fatalf("error %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	f, c, l := newFake(t, nil, nil)
	f.answer(503, "")
	ctx, cancel := context.WithCancel(t.Context())
	err := Wait(ctx, c, l, nil, func(string) { cancel() })
	var timeout *TimeoutError
	if !errors.Is(err, context.Canceled) || errors.As(err, &timeout) {
		t.Fatalf("error %v", err)
	}
}
