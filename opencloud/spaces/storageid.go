package spaces

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ocbackup/ocbackup/opencloud"
)

// mountIDEnv overrides what the configuration files say, as it does for the server.
const mountIDEnv = "STORAGE_USERS_MOUNT_ID"

// StorageID returns the id of the storage that holds the users' spaces: the part of
// a space's id before the dollar sign. "opencloud init" makes it up and writes it
// into opencloud.yaml; STORAGE_USERS_MOUNT_ID in ocbackup's environment wins.
func StorageID(l opencloud.Layout) (string, error) {
	if id := os.Getenv(mountIDEnv); id != "" {
		return id, nil
	}
	var own struct {
		MountID string `yaml:"mount_id"`
	}
	if err := opencloud.ReadYAML(filepath.Join(l.ConfigDir, "storage-users.yaml"), &own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if own.MountID != "" {
		return own.MountID, nil
	}
	path := filepath.Join(l.ConfigDir, "opencloud.yaml")
	var all struct {
		StorageUsers struct {
			MountID string `yaml:"mount_id"`
		} `yaml:"storage_users"`
		Gateway struct {
			StorageRegistry struct {
				MountID string `yaml:"storage_users_mount_id"`
			} `yaml:"storage_registry"`
		} `yaml:"gateway"`
	}
	if err := opencloud.ReadYAML(path, &all); err != nil {
		return "", err
	}
	id := cmp.Or(all.StorageUsers.MountID, all.Gateway.StorageRegistry.MountID)
	if id == "" {
		return "", fmt.Errorf("%s: storage_users.mount_id is not set; if the server gets it as %s, set that for ocbackup, too", path, mountIDEnv)
	}
	return id, nil
}
