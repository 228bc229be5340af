package discover

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud"
)

// complete tells whether a configuration lacks nothing but the repository.
func complete(c *config.Config) error {
	d := *c
	d.Repository.Location = "/srv/backup"
	return d.Validate()
}

func TestResolve(t *testing.T) {
	type env map[string]string
	for _, x := range []struct {
		name  string
		env   env
		yaml  map[string]string // files of the configuration directory
		dirs  []string          // below the data directory
		check func(t *testing.T, base string, s *server, r *result)
	}{
		{"defaults", env{"STORAGE_USERS_DRIVER": "posix"}, nil, nil, func(t *testing.T, base string, _ *server, r *result) {
			equal(t, "users", r.layout.UsersRoot, base+"/data/storage/users")
			equal(t, "search", r.layout.SearchDir, base+"/data/search")
			equal(t, "address", r.ready.Address, "127.0.0.1:9200")
			equal(t, "idm", r.ready.IDM, "127.0.0.1:9235")
			equal(t, "plain", r.ready.Plain, false)
			equalList(t, "not protected", r.notProtected)
		}},
		{
			"roots by environment",
			env{"STORAGE_USERS_DRIVER": "decomposed", "STORAGE_USERS_DECOMPOSED_ROOT": "/u", "STORAGE_USERS_POSIX_ROOT": "/no", "SEARCH_ENGINE_BLEVE_DATA_PATH": "/s"},
			nil, nil,
			func(t *testing.T, _ string, _ *server, r *result) {
				equal(t, "driver", r.layout.Driver, opencloud.Decomposed)
				equal(t, "users", r.layout.UsersRoot, "/u")
				equal(t, "search", r.layout.SearchDir, "/s")
			},
		},
		{
			"opencloud.yaml", nil,
			map[string]string{"opencloud": "opencloud_url: https://y\nstorage_users:\n  driver: decomposed\n  drivers:\n    decomposed:\n      root: /y\nsearch:\n  engine:\n    type: open-search\nproxy:\n  http:\n    addr: :9443\n    tls: false\n"},
			nil,
			func(t *testing.T, _ string, _ *server, r *result) {
				equal(t, "driver", r.layout.Driver, opencloud.Decomposed)
				equal(t, "users", r.layout.UsersRoot, "/y")
				equal(t, "external", r.layout.SearchExternal, true)
				equal(t, "url", r.ready.URL, "https://y")
				equal(t, "address", r.ready.Address, "127.0.0.1:9443")
				equal(t, "plain", r.ready.Plain, true)
			},
		},
		{
			"service.yaml before opencloud.yaml, environment before both",
			env{"STORAGE_USERS_POSIX_ROOT": "/env"},
			map[string]string{"opencloud": "storage_users: {driver: decomposed}\nsearch: {engine: {bleve: {data_path: /main}}}\n", "storage-users": "driver: posix\ndrivers: {posix: {root: /file}}\n", "search": "engine: {bleve: {data_path: /file}}\n"},
			nil,
			func(t *testing.T, _ string, _ *server, r *result) {
				equal(t, "driver", r.layout.Driver, opencloud.Posix)
				equal(t, "users", r.layout.UsersRoot, "/env")
				equal(t, "search", r.layout.SearchDir, "/file")
			},
		},
		{"old driver names", env{"STORAGE_USERS_DRIVER": "s3ng"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "driver", r.layout.Driver, opencloud.DecomposedS3)
		}},
		{"posix tree on disk", nil, nil, []string{"storage/users/projects"}, func(t *testing.T, _ string, s *server, r *result) {
			equal(t, "driver", r.layout.Driver, opencloud.Posix)
			equal(t, "notes", len(s.notes), 1)
		}},
		{"decomposed tree on disk", nil, nil, []string{"storage/users/spaces"}, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "driver", r.layout.Driver, opencloud.Decomposed)
		}},
		{"nothing on disk", nil, nil, nil, func(t *testing.T, _ string, s *server, r *result) {
			equal(t, "driver", r.layout.Driver, opencloud.Posix)
			equal(t, "note", strings.Contains(s.notes[0], "there is no data yet"), true)
		}},
		{
			"state elsewhere",
			env{"NATS_NATS_STORE_DIR": "BASE/else/nats", "IDM_DATABASE_PATH": "BASE/else/idm.boltdb", "PROXY_TRANSPORT_TLS_CERT": "BASE/else/tls.crt", "STORAGE_SYSTEM_OC_ROOT": "BASE/data/meta", "OCM_OCM_CORE_JSON_FILE": "BASE/not/there.json"},
			nil, nil, func(t *testing.T, base string, _ *server, r *result) {
				equalList(t, "system paths", r.layout.SystemPaths, base+"/else/nats", base+"/else/idm.boltdb")
				equalList(t, "deployment", r.layout.Deployment, base+"/else/tls.crt")
			},
		},
		{"thumbnails", env{"THUMBNAILS_FILESYSTEMSTORAGE_ROOT": "BASE/data/th"}, nil, nil, func(t *testing.T, base string, _ *server, r *result) {
			equalList(t, "leave out", r.layout.Leave, base+"/data/th")
		}},
		{"thumbnails outside", env{"THUMBNAILS_FILESYSTEMSTORAGE_ROOT": "/th"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equalList(t, "leave out", r.layout.Leave)
		}},
		{"external LDAP", env{"OC_LDAP_URI": "ldaps://ldap:636"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "idm", r.ready.IDM, "")
			equalList(t, "not protected", r.notProtected, "LDAP server ldaps://ldap:636: users and groups")
		}},
		{"own LDAP", env{"OC_LDAP_URI": "ldaps://localhost:9999", "IDM_LDAPS_ADDR": "0.0.0.0:9999"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "idm", r.ready.IDM, "127.0.0.1:9999")
		}},
		{"idm not run", env{"OC_EXCLUDE_RUN_SERVICES": "idp, idm"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "idm", r.ready.IDM, "")
		}},
		{"idm not among those run", env{"OC_RUN_SERVICES": "proxy,graph"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "idm", r.ready.IDM, "")
		}},
		{
			"bucket by environment",
			env{
				"STORAGE_USERS_DRIVER": "decomposeds3", "STORAGE_USERS_DECOMPOSEDS3_ENDPOINT": "HTTPS://key:s3cret@s3.example.com:8443/path?x=s3cret",
				"STORAGE_USERS_DECOMPOSEDS3_BUCKET": "oc", "STORAGE_USERS_DECOMPOSEDS3_REGION": "eu-1",
				"STORAGE_USERS_DECOMPOSEDS3_ACCESS_KEY": "id", "STORAGE_USERS_DECOMPOSEDS3_SECRET_KEY": "s3cret",
			},
			nil, nil,
			func(t *testing.T, _ string, s *server, r *result) {
				equal(t, "bucket", r.bucket, config.Bucket{Endpoint: "https://s3.example.com:8443", Region: "eu-1", Name: "oc"})
				equalList(t, "notes", s.notes)
				access, secret := s.keys()
				equal(t, "keys", access+" "+secret, "id s3cret")
			},
		},
		{
			"bucket by files, which refer to the environment",
			env{"STORAGE_USERS_DRIVER": "decomposeds3", "S3_SECRET": "s3cret"},
			map[string]string{
				"opencloud":     "storage_users: {drivers: {decomposeds3: {endpoint: 'http://minio:9000', bucket: main, secret_key: '${S3_SECRET}', access_key: '${S3_ID | me}'}}}\n",
				"storage-users": "drivers: {decomposeds3: {bucket: '${S3_BUCKET|?set it}${S3_NAME | file}'}}\n",
			},
			nil,
			func(t *testing.T, _ string, s *server, r *result) {
				equal(t, "bucket", r.bucket, config.Bucket{Endpoint: "http://minio:9000", Region: "default", Name: "file"})
				access, secret := s.keys()
				equal(t, "keys", access+" "+secret, "me s3cret")
			},
		},
		{
			"a bucket's name only",
			env{"STORAGE_USERS_DRIVER": "s3ng", "STORAGE_USERS_DECOMPOSEDS3_BUCKET": "oc", "STORAGE_USERS_DECOMPOSEDS3_ENDPOINT": "minio:9000"},
			nil, nil,
			func(t *testing.T, _ string, s *server, r *result) {
				equal(t, "bucket", r.bucket, config.Bucket{Region: "default"})
				equal(t, "note", len(s.notes) == 1 && strings.Contains(s.notes[0], "set endpoint and name in [bucket]"), true)
			},
		},
		{"no bucket", env{"STORAGE_USERS_DRIVER": "posix", "STORAGE_USERS_DECOMPOSEDS3_BUCKET": "oc"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "bucket", r.bucket, config.Bucket{})
		}},
		{"own identity provider", env{"OC_URL": "https://a", "OC_OIDC_ISSUER": "https://a"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equalList(t, "not protected", r.notProtected)
		}},
		{"the address of one interface", env{"PROXY_HTTP_ADDR": "10.0.0.1:443"}, nil, nil, func(t *testing.T, _ string, _ *server, r *result) {
			equal(t, "address", r.ready.Address, "10.0.0.1:443")
		}},
		{"broken opencloud.yaml", env{"STORAGE_USERS_DRIVER": "posix"}, map[string]string{"opencloud": "a: [s3cret"}, nil, func(t *testing.T, _ string, s *server, _ *result) {
			equal(t, "note", len(s.notes) == 1 && strings.Contains(s.notes[0], "opencloud.yaml is no valid YAML (at line:column 1:4)") && !strings.Contains(s.notes[0], "s3cret"), true)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			base := t.TempDir()
			mkdirs(t, base+"/config", base+"/data", base+"/else/nats")
			write(t, base+"/else/idm.boltdb", "")
			write(t, base+"/else/tls.crt", "")
			for name, text := range x.yaml {
				write(t, filepath.Join(base, "config", name+".yaml"), text)
			}
			for _, d := range x.dirs {
				mkdirs(t, filepath.Join(base, "data", d))
			}
			s := &server{env: map[string]string{}, configDir: base + "/config", dataDir: base + "/data", mounts: onHost}
			for k, v := range x.env {
				s.env[k] = strings.ReplaceAll(v, "BASE", base)
			}
			r, err := s.resolve()
			if err != nil {
				t.Fatal(err)
			}
			x.check(t, base, s, r)
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	s := &server{env: map[string]string{"STORAGE_USERS_DRIVER": "owncloudsql"}, configDir: "/c", dataDir: "/d", mounts: onHost}
	_, err := s.resolve()
	refused(t, err, `"owncloudsql"`)
	s = &server{env: map[string]string{"OC_BASE_DATA_PATH": "data"}, configDir: "/c", mounts: onHost}
	_, err = s.resolve()
	refused(t, err, `relative path "data"`)
}

func TestMounts(t *testing.T) {
	ms := mounts{{host: "/h", target: "/a"}, {host: "/i", target: "/a/b"}, {host: "/f", target: "/a/b.txt"}}
	for in, want := range map[string]string{"/a": "/h", "/a/x": "/h/x", "/a/b": "/i", "/a/b/c": "/i/c", "/a/b.txt": "/f", "/a/bc": "/h/bc", "/ab": "", "/": ""} {
		if got, _, _ := ms.host(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got, _, _ := onHost.host("/x/y"); got != "/x/y" {
		t.Error(got)
	}
}

func TestImages(t *testing.T) {
	for ref, want := range map[string]struct {
		server  bool
		version string
	}{
		"opencloudeu/opencloud:4.0.0":                    {true, "4.0.0"},
		"opencloudeu/opencloud-rolling:v7.3.0@sha256:ab": {true, "7.3.0"},
		"registry:5000/opencloud":                        {true, ""},
		"opencloudeu/opencloud:latest":                   {true, ""},
		"opencloudeu/radicale:1.2":                       {false, "1.2"},
	} {
		equal(t, ref, isServerImage(ref), want.server)
		equal(t, ref, imageVersion(ref), want.version)
	}
}
