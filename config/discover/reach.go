package discover

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud/control"
)

// Reach returns the URL by which this host reaches the S3 server of the bucket:
// bucket.reach, else the endpoint where that can be used here, else what the
// container engine knows about the container that OpenCloud knows by the endpoint's
// name. Errors are of code fail.Usage.
func Reach(ctx context.Context, c *config.Config) (string, error) {
	if c.Bucket.Reach != "" {
		return c.Bucket.Reach, nil
	}
	r, err := findRoute(ctx, c)
	return r.url, err
}

// Published returns the URL by which this host reaches the S3 server where the server
// is in a container that publishes its port here; empty when it does not, or when the
// endpoint can be used as it is. It is as lasting as the deployment, whereas the
// container's own address changes.
func Published(ctx context.Context, c *config.Config) string {
	if r, err := findRoute(ctx, c); err == nil && r.published {
		return r.url
	}
	return ""
}

// route is a way from this host to an S3 server.
type route struct {
	url       string
	published bool // by a port that a container publishes on this host
}

func findRoute(ctx context.Context, c *config.Config) (route, error) {
	const hint = "set reach in [bucket]: the URL by which this host reaches the S3 server"
	u, err := url.Parse(c.Bucket.Endpoint)
	if err != nil || u.Hostname() == "" {
		return route{}, fail.Usagef("\"ocbackup init --force\" finds the bucket", "bucket.endpoint is missing")
	}
	host, asItIs := u.Hostname(), route{url: c.Bucket.Endpoint}
	switch c.Control.Type {
	case "compose", "docker", "podman":
	default:
		return asItIs, nil
	}
	// Engines give containers names without a dot, and those go before what DNS says.
	inside, ip := isLocal(host), net.ParseIP(host) != nil
	if !inside && (ip || strings.Contains(host, ".") && resolves(ctx, host)) {
		return asItIs, nil
	}
	e := engineOf(c.Control)
	all, err := e.containers(ctx)
	own := ownContainer(all, c.Control)
	switch {
	case own != nil && own.HostConfig.NetworkMode == "host":
		return asItIs, nil
	case inside:
		return route{}, fail.Usagef(hint, "the bucket's endpoint %s is inside OpenCloud's container, where this host can't reach it", c.Bucket.Endpoint)
	}
	if u.Scheme == "http" {
		if ip := own.extraHost(host); ip != "" {
			return route{url: at(u, ip, u.Port())}, nil
		}
		if s3 := named(all, own, host, c.Control); s3 != nil {
			if r, ok := s3.route(u, own); ok {
				return r, nil
			}
		}
	}
	switch {
	case resolves(ctx, host):
		return asItIs, nil
	case err != nil:
		return route{}, fail.Usagef(hint, "%s, the bucket's endpoint, is not known on this host, and %s can't be asked for a container of that name: %v", host, e.program, err)
	case u.Scheme == "https":
		return route{}, fail.Usagef("put the name into /etc/hosts, so that the server's certificate can be checked; or "+hint,
			"%s, the bucket's endpoint, is a name that this host does not know", host)
	}
	return route{}, fail.Usagef(hint, "%s, the bucket's endpoint, is not known on this host, and no running container of %s that OpenCloud can see has that name", host, e.program)
}

// lookupHost is a variable for tests.
var lookupHost = net.DefaultResolver.LookupHost

func resolves(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := lookupHost(ctx, host)
	return err == nil && len(addrs) > 0
}

func engineOf(c control.Config) engine {
	program := "docker"
	if c.Type == "podman" {
		program = "podman"
	}
	return engine{program: or(c.Engine, program), host: c.EngineHost}
}

// containers returns all containers, running or not, by name.
func (e engine) containers(ctx context.Context) ([]inspected, error) {
	ids, err := e.run(ctx, "ps", "-a", "-q", "--no-trunc")
	if err != nil || ids == "" {
		return nil, err
	}
	// When one has gone away meanwhile this fails, and prints the others all the same.
	out, err := e.run(ctx, append([]string{"container", "inspect"}, strings.Fields(ids)...)...)
	var list []inspected
	if jsonErr := json.Unmarshal([]byte(out), &list); jsonErr != nil {
		return nil, cmp.Or(err, fmt.Errorf("read what %s says about its containers: %w", e.program, jsonErr))
	}
	for i := range list {
		list[i].Name = strings.TrimPrefix(list[i].Name, "/")
	}
	slices.SortFunc(list, func(a, b inspected) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// ownContainer returns the container that runs OpenCloud; nil when there is none.
func ownContainer(all []inspected, ctl control.Config) *inspected {
	for i, x := range all {
		is := x.Name == ctl.Container
		if ctl.Type == "compose" {
			is = x.of(ctl) && x.Config.Labels[labelService] == ctl.Service
		}
		if is {
			return &all[i]
		}
	}
	return nil
}

// of tells whether a container belongs to the compose project.
func (c inspected) of(ctl control.Config) bool {
	labels := c.Config.Labels
	if ctl.Project != "" {
		return labels[labelProject] == ctl.Project
	}
	return labels[labelProject] != "" && labels[labelDir] == ctl.ProjectDir
}

// named returns the running container that OpenCloud (own; nil: not there) knows by a
// name: one on a network of OpenCloud's, or of its project while it has no container.
func named(all []inspected, own *inspected, name string, c control.Config) *inspected {
	for i, x := range all {
		if !x.State.Running || own != nil && x.Name == own.Name {
			continue
		}
		near := c.Type != "compose" || x.of(c)
		shared := x.shared(own)
		called := x.Name == name || near && x.Config.Labels[labelService] == name || slices.ContainsFunc(shared, func(n network) bool {
			return slices.Contains(n.Aliases, name) || slices.Contains(n.DNSNames, name)
		})
		if called && len(shared) > 0 && (own != nil || near) {
			return &all[i]
		}
	}
	return nil
}

// shared returns the networks that two containers are on, all of c where there is no
// other.
func (c inspected) shared(own *inspected) []network {
	var out []network
	for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		if own != nil {
			if _, both := own.NetworkSettings.Networks[name]; !both {
				continue
			}
		}
		out = append(out, c.NetworkSettings.Networks[name])
	}
	return out
}

// route returns the way to a server in the container: a port that is published on this
// host, else the container's own address on a network that own is on, too.
func (c inspected) route(u *url.URL, own *inspected) (route, bool) {
	port := or(u.Port(), "80")
	for _, p := range c.NetworkSettings.Ports[port+"/tcp"] {
		switch {
		case p.HostPort == "" || p.HostPort == "0":
		case p.HostIP == "" || p.HostIP == "0.0.0.0":
			return route{at(u, "127.0.0.1", p.HostPort), true}, true
		case p.HostIP == "::":
			return route{at(u, "::1", p.HostPort), true}, true
		default:
			return route{at(u, p.HostIP, p.HostPort), true}, true
		}
	}
	for _, n := range c.shared(own) {
		if ip := or(n.IPAddress, n.GlobalIPv6Address); ip != "" {
			return route{url: at(u, ip, port)}, true
		}
	}
	return route{}, false
}

// extraHost returns the address that a container was given for a name (extra_hosts).
func (c *inspected) extraHost(name string) string {
	if c == nil {
		return ""
	}
	for _, x := range c.HostConfig.ExtraHosts {
		if n, ip, _ := strings.Cut(x, ":"); n == name && ip == "host-gateway" {
			return "127.0.0.1"
		} else if n == name {
			return strings.Trim(ip, "[]")
		}
	}
	return ""
}

// at is a URL with another host and port.
func at(u *url.URL, host, port string) string {
	return u.Scheme + "://" + net.JoinHostPort(host, or(port, "80"))
}
