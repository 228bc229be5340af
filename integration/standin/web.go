package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// web is the proxy: the few addresses that tell a ready server from one that
// merely runs.
func (s *server) web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status.php", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"installed": true, "maintenance": false, "needsDbUpgrade": false, "productname": "OpenCloud", "productversion": env("STANDIN_VERSION", "4.0.0-standin")})
	})
	mux.HandleFunc("GET /graph/v1.0/me", s.authenticated(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"id": s.config.AdminUserID, "displayName": "Admin"})
	}))
	drives := s.authenticated(func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"value": s.drives()}) })
	mux.HandleFunc("GET /graph/v1.0/me/drives", drives)
	mux.HandleFunc("GET /graph/v1.0/drives", drives)
	mux.HandleFunc("GET /remote.php/dav/spaces/{space}/{path...}", s.authenticated(s.download))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, on := quirk(s.l, "never-ready"); on {
			http.Error(w, "told so", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// authenticated lets in the admin by password or app token ($STANDIN_TOKEN),
// as long as configuration and idm belong together.
func (s *server) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := os.Getenv("STANDIN_TOKEN")
		user, password, _ := r.BasicAuth()
		ok := user == "admin" && (s.knows("admin", password) || (token != "" && password == token)) ||
			token != "" && r.Header.Get("Authorization") == "Bearer "+token
		if !ok || !s.canLogIn() {
			w.Header().Set("Www-Authenticate", `Basic realm="standin"`)
			http.Error(w, `{"error":{"code":"unauthenticated"}}`, http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

const virtualSpace = "a0ca6a90-a365-4782-871e-d44447bbc668$a0ca6a90-a365-4782-871e-d44447bbc668"

func (s *server) drives() []map[string]any {
	list := []map[string]any{{"id": virtualSpace, "driveType": "virtual", "name": "Shares", "root": map[string]any{"id": virtualSpace}}}
	for _, sp := range s.l.spaces() {
		id := s.config.StorageUsers.MountID + "$" + sp.id
		root := map[string]any{"id": id}
		if sp.disabled {
			root["deleted"] = map[string]any{"state": "trashed"}
		}
		list = append(list, map[string]any{"id": id, "driveType": sp.kind, "name": sp.name, "root": root})
	}
	return list
}

// debug is the search service: its readiness, and the way in for the command
// "search index", which needs the configuration's secret.
func (s *server) debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /standin/index", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+s.config.TokenManager.JWTSecret {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		if err := s.indexSpaces(r.FormValue("space")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// indexSpaces indexes one space, or, for "", all of them up to the first that
// is disabled: the trap of the real command.
func (s *server) indexSpaces(want string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, bare, ok := strings.Cut(want, "$")
	if !ok {
		bare = want
	}
	done := false
	for _, sp := range s.l.spaces() {
		if want != "" && sp.id != bare {
			continue
		}
		if sp.disabled {
			return fmt.Errorf("not found: stat: error: not found: %s", sp.id)
		}
		if err := s.index.add(sp.id); err != nil {
			return err
		}
		done = true
	}
	if !done && want != "" {
		return fmt.Errorf("not found: stat: error: not found: %s", want)
	}
	return nil
}

// searchIndex is the command "search index".
func searchIndex(l layout, args []string) error {
	var target string
	switch {
	case len(args) == 1 && args[0] == "--all-spaces":
	case len(args) == 1 && strings.HasPrefix(args[0], "--space="):
		target = strings.TrimPrefix(args[0], "--space=")
	case len(args) == 2 && (args[0] == "--space" || args[0] == "-s"):
		target = args[1]
	default:
		return errors.New("either --space or --all-spaces is required")
	}
	c, err := loadConfig(l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	body := strings.NewReader("space=" + strings.ReplaceAll(target, "$", "%24"))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.debugAddr+"/standin/index", body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer "+c.TokenManager.JWTSecret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("failed to index space: nats: no servers available for connection: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("failed to index space: %s", bytes.TrimSpace(text))
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
