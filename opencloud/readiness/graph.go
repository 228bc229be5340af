package readiness

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// graphMe is what is asked for: who am I?
const graphMe = "/graph/v1.0/me"

// capabilities is served by the frontend, the service that hands out files. It
// registers later than Graph: in between, people can log in, but every download is
// answered with 502 (seen on 4.0, up to 1.2 s).
const capabilities = "/ocs/v1.php/cloud/capabilities"

// checkGraph asks Graph, as who or as a stranger (nil), and whether files are
// handed out.
func checkGraph(ctx context.Context, cfg Config, who *credentials, dial dialFunc) error {
	public, addr, err := target(cfg)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, addr) },
		TLSClientConfig: &tls.Config{
			ServerName: public.Hostname(),
			// Reached directly, the server shows a certificate of its own, not the one
			// of the public name, and there is nobody in between.
			InsecureSkipVerify: cfg.InContainer || isLoopback(addr),
			MinVersion:         tls.VersionTLS12,
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := ask(ctx, client, public.JoinPath(graphMe), who)
	if err != nil {
		return fmt.Errorf("graph does not answer at %s: %w", addr, cause(err))
	}
	err = judge(resp, who)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	resp, err = ask(ctx, client, public.JoinPath(capabilities), nil)
	if err != nil {
		return fmt.Errorf("the frontend does not answer at %s: %w", addr, cause(err))
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("the frontend answers %d: files can't be downloaded yet", resp.StatusCode)
	}
	return nil
}

// ask sends one request, with the credentials of who (nil: none).
func ask(ctx context.Context, client *http.Client, u *url.URL, who *credentials) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "ocbackup")
	req.Header.Set("Accept", "application/json")
	switch {
	case who == nil:
	case who.token != "":
		req.Header.Set("Authorization", "Bearer "+who.token)
	default:
		req.SetBasicAuth(who.user, who.password)
	}
	return client.Do(req)
}

// judge says whether the answer is that of a server that can be used.
func judge(resp *http.Response, who *credentials) error {
	code := resp.StatusCode
	switch {
	case who == nil && code == http.StatusUnauthorized:
		return nil
	case who == nil && code == http.StatusOK:
		return errors.New("graph answers 200 to a stranger: this is not OpenCloud, or something in between logs us in")
	case who != nil && code == http.StatusUnauthorized:
		return fmt.Errorf("graph refuses %s (401)", who)
	case who == nil || code != http.StatusOK:
		return fmt.Errorf("graph answers %d", code)
	}
	// A web server that answers everything with its start page says 200, too.
	var me struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&me); err != nil || me.ID == "" {
		return errors.New("graph answers 200, but does not say who we are: this is not OpenCloud")
	}
	return nil
}

// target finds the URL to ask for and the address to connect to.
func target(cfg Config) (public *url.URL, addr string, err error) {
	if cfg.URL == "" {
		public = &url.URL{Scheme: "https", Host: cfg.Address}
	} else if public, err = url.Parse(cfg.URL); err != nil {
		return nil, "", err
	}
	if cfg.Address == "" {
		port := public.Port()
		if port == "" {
			port = map[string]string{"http": "80"}[public.Scheme]
		}
		if port == "" {
			port = "443"
		}
		return public, net.JoinHostPort(public.Hostname(), port), nil
	}
	// The public URL is that of a reverse proxy; what counts is how the address is reached.
	public = &url.URL{Scheme: "https", Host: public.Host, Path: public.Path}
	if cfg.Plain {
		public.Scheme = "http"
	}
	addr, err = reachable(cfg.Address)
	return public, addr, err
}
