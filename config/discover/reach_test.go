package discover

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

// Containers as engines describe them, as far as it matters here.
const (
	cloud   = `{"Name":"/cloud-opencloud-1","Config":{"Labels":{"com.docker.compose.project":"cloud","com.docker.compose.service":"opencloud"}},"State":{"Running":false},"NetworkSettings":{"Networks":{"cloud_net":{"IPAddress":""}}}}`
	onHosts = `{"Name":"/cloud-opencloud-1","Config":{"Labels":{"com.docker.compose.project":"cloud","com.docker.compose.service":"opencloud"}},"HostConfig":{"NetworkMode":"host"},"NetworkSettings":{"Networks":{"host":{}}}}`
	minio   = `{"Name":"/cloud-minio-1","Config":{"Labels":{"com.docker.compose.project":"cloud","com.docker.compose.service":"minio"}},"State":{"Running":true},` +
		`"NetworkSettings":{"Ports":{"9000/tcp":null,"9001/tcp":[{"HostIp":"0.0.0.0","HostPort":"9001"}]},"Networks":{"back":{"IPAddress":"172.30.0.9"},"cloud_net":{"IPAddress":"172.18.0.3","Aliases":["minio","s3"]}}}}`
	// of another project, on a network of its own
	other = `{"Name":"/a-minio-1","Config":{"Labels":{"com.docker.compose.project":"a","com.docker.compose.service":"minio"}},"State":{"Running":true},` +
		`"NetworkSettings":{"Networks":{"a_net":{"IPAddress":"172.19.0.2","Aliases":["minio"]}}}}`
	plain = `{"Name":"minio","State":{"Running":true},"NetworkSettings":{"Networks":{"cloud_net":{"GlobalIPv6Address":"fd00::3"}}}}`
)

func TestReach(t *testing.T) {
	published := func(ip string) string {
		return strings.Replace(minio, `"9000/tcp":null`, `"9000/tcp":[{"HostIp":"`+ip+`","HostPort":"19000"}]`, 1)
	}
	extra := strings.Replace(cloud, `"State"`, `"HostConfig":{"ExtraHosts":["host.internal:host-gateway","minio:10.9.8.7"]},"State"`, 1)
	stopped := strings.Replace(minio, `"Running":true`, `"Running":false`, 1)
	for _, x := range []struct {
		name       string
		control    string // default compose
		endpoint   string // default http://minio:9000
		reach      string
		containers []string // nil: no engine
		resolves   bool     // the host's own resolver knows the name
		want       string
		published  bool
		refused    []string
	}{
		{name: "configured", reach: "http://127.0.0.1:1", want: "http://127.0.0.1:1"},
		{name: "no container", control: "systemd", want: "http://minio:9000"},
		{name: "commands", control: "command", endpoint: "http://localhost:9000", want: "http://localhost:9000"},
		{name: "an address", endpoint: "http://10.0.0.5:9000", want: "http://10.0.0.5:9000"},
		{name: "a name of the DNS", endpoint: "https://s3.example.com", resolves: true, want: "https://s3.example.com"},

		{name: "a service", containers: []string{cloud, other, minio}, want: "http://172.18.0.3:9000"},
		{name: "before a name of the DNS", containers: []string{cloud, minio}, resolves: true, want: "http://172.18.0.3:9000"},
		{name: "an alias", endpoint: "http://s3", containers: []string{cloud, minio}, want: "http://172.18.0.3:80"},
		{name: "a container", endpoint: "http://cloud-minio-1:9000/", containers: []string{cloud, minio}, want: "http://172.18.0.3:9000"},
		{name: "an alias with dots", endpoint: "http://s3.example.com:9000", containers: []string{cloud, strings.Replace(minio, `"s3"`, `"s3.example.com"`, 1)}, want: "http://172.18.0.3:9000"},
		{name: "IPv6", containers: []string{cloud, plain}, want: "http://[fd00::3]:9000"},
		{name: "docker", control: "docker", containers: []string{cloud, plain, other}, want: "http://[fd00::3]:9000"},
		{name: "while OpenCloud has no container", containers: []string{other, minio}, want: "http://172.30.0.9:9000"},
		{name: "a published port", containers: []string{cloud, published("0.0.0.0")}, want: "http://127.0.0.1:19000", published: true},
		{name: "a port published on one address", containers: []string{cloud, published("10.0.0.1")}, want: "http://10.0.0.1:19000", published: true},
		{name: "a port published on IPv6", containers: []string{cloud, published("::")}, want: "http://[::1]:19000", published: true},
		{name: "the host's network", containers: []string{onHosts, minio}, want: "http://minio:9000"},
		{name: "localhost on the host's network", endpoint: "http://localhost:9000", containers: []string{onHosts}, want: "http://localhost:9000"},
		{name: "this host", endpoint: "http://host.internal", containers: []string{extra}, want: "http://127.0.0.1:80"},
		{name: "a name of OpenCloud's own", containers: []string{extra, minio}, want: "http://10.9.8.7:9000"},
		{name: "no engine, but a name of the DNS", resolves: true, want: "http://minio:9000"},

		{name: "localhost", endpoint: "http://localhost:9000", containers: []string{cloud, minio}, refused: []string{"http://localhost:9000 is inside OpenCloud's container"}},
		{name: "loopback", endpoint: "http://127.0.0.1:9000", resolves: true, refused: []string{"http://127.0.0.1:9000 is inside OpenCloud's container"}},
		{name: "of another project", containers: []string{cloud, other}, refused: []string{"minio, the bucket's endpoint, is not known on this host", "no running container of docker"}},
		{name: "of another project, while OpenCloud has no container", containers: []string{other}, refused: []string{"no running container of docker"}},
		{name: "stopped", containers: []string{cloud, stopped}, refused: []string{"no running container of docker"}},
		{name: "no engine", refused: []string{"docker can't be asked", "Cannot connect to the Docker daemon"}},
		{name: "a certificate for a name", endpoint: "https://minio:9000", containers: []string{cloud, published("")}, refused: []string{"is a name that this host does not know", "/etc/hosts"}},
		{name: "no bucket", endpoint: "-", refused: []string{"bucket.endpoint is missing", "init --force"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			answer := noEngine
			if x.containers != nil {
				dir := t.TempDir()
				write(t, dir+"/all.json", "["+strings.Join(x.containers, ",")+"]")
				// One container has gone away meanwhile.
				answer = `case "$1 $2" in "ps -a") echo 1; echo 2; echo gone;; "container inspect") cat ` + dir + `/all.json; echo "No such container: gone" >&2; exit 1;; esac`
			}
			fakes(t, map[string]string{"docker": answer, "podman": "exit 1"})
			resolver(t, x.resolves)
			c := &config.Config{Control: control.Config{Type: or(x.control, "compose"), Project: "cloud", Service: "opencloud", Container: "cloud-opencloud-1"}}
			c.Bucket = config.Bucket{Endpoint: or(x.endpoint, "http://minio:9000"), Reach: x.reach}
			got, err := Reach(context.Background(), c)
			if x.refused != nil {
				refused(t, err, x.refused...)
				if x.endpoint != "-" {
					refused(t, err, "set reach in [bucket]")
				}
				equal(t, "published", Published(context.Background(), c), "")
				return
			}
			if err != nil || got != x.want {
				t.Errorf("%s %v, want %s", got, err, x.want)
			}
			if x.published {
				equal(t, "published", Published(context.Background(), c), x.want)
			} else {
				equal(t, "published", Published(context.Background(), c), "")
			}
		})
	}
}

// resolver has this host know every name, or none.
func resolver(t *testing.T, knows bool) {
	t.Helper()
	old := lookupHost
	t.Cleanup(func() { lookupHost = old })
	lookupHost = func(_ context.Context, host string) ([]string, error) {
		if !knows {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []string{"192.0.2.1"}, nil
	}
}

// TestReachLazy: an endpoint that can be used as it is costs no question to the engine.
func TestReachLazy(t *testing.T) {
	dir := t.TempDir()
	fakes(t, map[string]string{"docker": "touch " + dir + "/asked; exit 1"})
	resolver(t, true)
	for _, e := range []string{"https://s3.example.com", "http://10.0.0.5:9000"} {
		c := &config.Config{Control: control.Config{Type: "compose"}, Bucket: config.Bucket{Endpoint: e}}
		if got, err := Reach(context.Background(), c); err != nil || got != e || isFile(dir+"/asked") {
			t.Error(got, err, "engine asked:", isFile(dir+"/asked"))
		}
	}
}
