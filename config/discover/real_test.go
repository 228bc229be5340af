//go:build integration

package discover_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/config/discover"
	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

func TestMain(m *testing.M) { os.Exit(env.Main(m)) }

// TestReachDocker asks a real engine for an S3 server that only containers know.
func TestReachDocker(t *testing.T) {
	h := env.Docker(t)
	project := filepath.Join(t.TempDir(), "s3cloud")
	if err := os.Mkdir(project, 0o755); err != nil {
		t.Fatal(err)
	}
	// Any program that does not end will do.
	waits := "{image: " + h.Image(t, "4.0.0") + ", user: '0', entrypoint: [/bin/sh, -c, 'opencloud init || true; opencloud server']"
	text := "services:\n  opencloud: " + waits + ", extra_hosts: ['host.internal:host-gateway', 'nas:10.9.8.7']}\n" +
		"  minio: " + waits + "}\n  gate: " + waits + ", ports: ['127.0.0.1:19000:9000']}\n"
	if err := os.WriteFile(filepath.Join(project, "compose.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Compose(t, project, "up", "-d")
	defer h.Compose(t, project, "down", "-v", "-t", "0")
	address := "http://" + h.Docker(t, "inspect", "-f", "{{.NetworkSettings.Networks.s3cloud_default.IPAddress}}", "s3cloud-minio-1") + ":9000"

	reach := func(ctl control.Config, endpoint, want string) {
		t.Helper()
		ctl.EngineHost = h.Host
		c := &config.Config{Control: ctl, Bucket: config.Bucket{Endpoint: endpoint}}
		got, err := discover.Reach(context.Background(), c)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s is reached at %q, %v, want %q", endpoint, got, err, want)
		}
	}
	compose := control.Config{Type: "compose", Project: "s3cloud", Service: "opencloud"}
	docker := control.Config{Type: "docker", Container: "s3cloud-opencloud-1"}
	for range 2 {
		reach(compose, "http://minio:9000", address)
		reach(compose, "http://s3cloud-minio-1:9000", address)
		reach(docker, "http://minio:9000", address)
		reach(compose, "http://gate:9000", "http://127.0.0.1:19000")
		reach(compose, "http://host.internal:9000", "http://127.0.0.1:9000")
		reach(compose, "http://nas:9000", "http://10.9.8.7:9000")
		reach(compose, "http://localhost:9000", "")
		h.Compose(t, project, "stop", "-t", "0", "opencloud")
	}
	h.Compose(t, project, "rm", "-f", "opencloud")
	reach(compose, "http://minio:9000", address)
	h.Compose(t, project, "stop", "-t", "0", "minio")
	reach(compose, "http://minio:9000", "")
}
