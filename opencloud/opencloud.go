// Package opencloud holds what ocbackup knows about OpenCloud: what a backup of
// it is made of, where that lies for each storage driver, which version it is.
// Control of a running instance, its readiness and its search index are in the
// packages below this one.
package opencloud

// Component is one of the things an OpenCloud backup is made of, and the restic
// tag that a snapshot of it carries.
type Component string

// The components of a set.
const (
	Config   Component = "config"   // config directory and the deployment: compose files or unit, environment files
	System   Component = "system"   // data directory without the rest: idm, idp, nats, shares, settings
	Metadata Component = "metadata" // what OpenCloud knows about files
	Blobs    Component = "blobs"    // the files' contents
	Search   Component = "search"   // the search index
	Binary   Component = "binary"   // the server: its binary, or its container image
	Extra    Component = "extra"    // further roots and command outputs of the admin's ([[extra]])
)

// Components lists all components that a full set holds, in the order in which
// they are shown. Extra is not among them: it depends on the admin.
var Components = []Component{Config, System, Metadata, Blobs, Search, Binary}

// ConfigFile is the file in the configuration directory that holds the server's
// secrets. A server that is started without it makes new ones.
const ConfigFile = "opencloud.yaml"

// Driver is a storage driver of OpenCloud's storage-users service
// (STORAGE_USERS_DRIVER).
type Driver string

// The storage drivers.
const (
	Posix        Driver = "posix"
	Decomposed   Driver = "decomposed"
	DecomposedS3 Driver = "decomposeds3"
)

// Root is a directory or file on disk that belongs to a set. Each root is one
// restic snapshot.
type Root struct {
	// Name is unique in a set and stays the same from run to run:
	// config, deployment, system, users, metadata, blobs, search, binary, extra-NAME.
	Name       string      `json:"name"`
	Components []Component `json:"components"`
	// Path is the absolute path of the directory or file.
	Path string `json:"path"`
	// Include lists what of the directory belongs to the root, as slash-separated
	// globs relative to Path (path.Match syntax). Empty: all of it.
	Include []string `json:"include,omitempty"`
	// Exclude lists what of the directory does not belong to the root, in the same syntax.
	Exclude []string `json:"exclude,omitempty"`
	// Optional roots may be absent (a search index, say); others may not.
	Optional bool `json:"optional,omitempty"`
}

// Has reports whether the root carries component c.
func (r Root) Has(c Component) bool {
	for _, x := range r.Components {
		if x == c {
			return true
		}
	}
	return false
}

// Layout says where an instance keeps what. All paths are absolute paths on this
// host (not inside a container).
type Layout struct {
	Driver    Driver `toml:"driver" json:"driver"`
	ConfigDir string `toml:"config_dir" json:"config_dir"` // holds opencloud.yaml
	DataDir   string `toml:"data_dir" json:"data_dir"`     // OC_BASE_DATA_PATH
	UsersRoot string `toml:"users_root" json:"users_root"` // storage root of storage-users
	SearchDir string `toml:"search_dir" json:"search_dir"` // holds bleve/
	// SearchExternal is set when the index lives outside OpenCloud (OpenSearch).
	SearchExternal bool `toml:"search_external" json:"search_external,omitempty"`
	// SystemPaths lists further directories and files of the system component
	// that lie outside DataDir (NATS_NATS_STORE_DIR, IDM_DATABASE_PATH, ...).
	SystemPaths []string `toml:"system_paths" json:"system_paths,omitempty"`
	// Deployment lists the files that describe how the instance is run.
	Deployment []string `toml:"deployment" json:"deployment,omitempty"`
	// Binary is the server binary, empty for container deployments.
	Binary string `toml:"binary" json:"binary,omitempty"`
	// Leave lists directories that can be made again and are left out
	// (thumbnails), absolute.
	Leave []string `toml:"leave_out" json:"leave_out,omitempty"`
}
