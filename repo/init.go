package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Init creates the repository and returns its id. It fails with ErrExists when
// there is one.
func (r *Repo) Init(ctx context.Context) (string, error) {
	var id string
	_, err := r.run(ctx, call{
		command: "init", args: []string{"--json"},
		onLine: onMessage(map[string]func(json.RawMessage) error{
			"initialized": func(raw json.RawMessage) error { return takeID(raw, &id) },
		}),
	})
	if err == nil && id == "" {
		err = errors.New("restic init: no repository id came back")
	}
	return id, err
}

// ID returns the repository's id, which stays the same wherever it is moved. It
// proves that the repository is there and that the password is right, and takes
// no lock.
func (r *Repo) ID(ctx context.Context) (string, error) {
	o, err := r.run(ctx, call{command: "cat", args: []string{"--no-lock", "--json", "config"}})
	if err != nil {
		return "", err
	}
	var id string
	if err := takeID(o.stdout, &id); err != nil {
		return "", fmt.Errorf("understand the configuration of repository %s: %w", r.Location(), err)
	}
	return id, nil
}

// Unlock removes locks that dead processes left, and no others.
func (r *Repo) Unlock(ctx context.Context) error {
	_, err := r.runOnce(ctx, call{command: "unlock"})
	return err
}

func takeID(raw []byte, id *string) error {
	var m struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if m.ID == "" {
		return errors.New("it has no id")
	}
	*id = m.ID
	return nil
}
