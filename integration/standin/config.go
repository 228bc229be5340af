package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// ocConfig is the part of opencloud.yaml that matters here.
type ocConfig struct {
	TokenManager struct {
		JWTSecret string `yaml:"jwt_secret"`
	} `yaml:"token_manager"`
	AdminUserID string `yaml:"admin_user_id"`
	IDM         struct {
		Passwords struct {
			Admin string `yaml:"admin_password"`
			IDM   string `yaml:"idm_password"`
			Reva  string `yaml:"reva_password"`
			IDP   string `yaml:"idp_password"`
		} `yaml:"service_user_passwords"`
	} `yaml:"idm"`
	StorageUsers struct {
		MountID string `yaml:"mount_id"`
	} `yaml:"storage_users"`
}

func configFile(l layout) string { return filepath.Join(l.config, "opencloud.yaml") }

// initConfig writes opencloud.yaml with new secrets. Like "opencloud init" it
// refuses to touch an existing one.
func initConfig(l layout) error {
	password := rand.Text()
	idm, reva, idp := rand.Text(), rand.Text(), rand.Text()
	text := fmt.Sprintf(`token_manager:
  jwt_secret: %s
machine_auth_api_key: %s
system_user_api_key: %s
transfer_secret: %s
url_signing_secret: %s
system_user_id: %s
admin_user_id: %s
graph:
  identity:
    ldap:
      bind_password: %[8]s
idp:
  ldap:
    bind_password: %[10]s
idm:
  service_user_passwords:
    admin_password: %[11]s
    idm_password: %[8]s
    reva_password: %[9]s
    idp_password: %[10]s
auth_basic:
  auth_providers:
    ldap:
      bind_password: %[9]s
storage_users:
  mount_id: %[12]s
gateway:
  storage_registry:
    storage_users_mount_id: %[12]s
`, rand.Text(), rand.Text(), rand.Text(), rand.Text(), rand.Text(), uuid.New(), uuid.New(),
		idm, reva, idp, env("IDM_ADMIN_PASSWORD", password), uuid.New())

	if err := os.MkdirAll(l.config, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(configFile(l), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("could not create config: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Close()
}

func loadConfig(l layout) (*ocConfig, error) {
	b, err := os.ReadFile(configFile(l))
	if err != nil {
		return nil, err
	}
	var c ocConfig
	if err := yaml.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", configFile(l), err)
	}
	if c.TokenManager.JWTSecret == "" || c.IDM.Passwords.IDM == "" {
		return nil, fmt.Errorf("%s: the jwt secret has not been set properly", configFile(l))
	}
	return &c, nil
}

// quirk tells whether the stand-in is to misbehave in the named way, and how:
// by $STANDIN_<NAME> or by the file standin.<name> in the config directory,
// read each time, so that a test can switch it while the server runs.
//
//	ignore-term      SIGTERM does nothing
//	fail-start       the server exits 1 right away
//	slow-start=DUR   the ports open later
//	slow-stop=DUR    SIGTERM takes longer
//	never-ready      every answer is 503
func quirk(l layout, name string) (value string, on bool) {
	if v, ok := os.LookupEnv("STANDIN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); ok && v != "" && v != "0" {
		return v, true
	}
	b, err := os.ReadFile(filepath.Join(l.config, "standin."+name))
	return strings.TrimSpace(string(b)), err == nil
}

// quirkDelay waits as long as the named quirk says.
func quirkDelay(l layout, name string, cancel <-chan os.Signal) (cancelled bool) {
	v, on := quirk(l, name)
	if !on {
		return false
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		fmt.Fprintf(os.Stderr, "standin: %s: %v\n", name, err)
		return false
	}
	select {
	case <-time.After(d):
		return false
	case <-cancel:
		return true
	}
}
