package config

import (
	"reflect"
	"strings"
	"time"
)

// Key describes one key of the configuration file. The schema drives what Load
// accepts, what Render writes and what docs/configuration.md lists.
type Key struct {
	// Name is the key with its table: "repository.location".
	Name string
	// Env is the environment variable that overrides the key; empty: none.
	Env string
	// Doc explains the key to an admin, in one or a few sentences.
	Doc string
	// Default is what holds when the key is absent, in words or as a TOML value.
	Default string
	// Example is a TOML value that shows how the key is written. A key with a Default
	// that is a TOML value needs none.
	Example string
	// Values lists all values that the key takes; empty: any of its type.
	Values []string
	// Required keys have no default.
	Required bool
	// Zero says that a duration may be 0.
	Zero bool
}

// Table returns the table of the key ("" for the top level) and its name there.
func (k Key) Table() (table, name string) {
	if i := strings.LastIndexByte(k.Name, '.'); i >= 0 {
		return k.Name[:i], k.Name[i+1:]
	}
	return "", k.Name
}

// Type says in words what the value of the key looks like.
func (k Key) Type() string { return kindOf(fieldTypes[k.Name]).String() }

// Table describes one table of the configuration file.
type Table struct {
	Name string // "" is the top level
	Doc  string
	// Array tables may occur several times: [[extra]].
	Array bool
}

// Tables lists the tables in the order in which they are written.
var Tables = []Table{
	{Name: "", Doc: "Configuration of ocbackup for one OpenCloud instance.\n" +
		"Lines that begin with # show defaults or examples. Every key: docs/configuration.md.\n" +
		"Check it with: ocbackup doctor"},
	{Name: "repository", Doc: "The restic repository that backups go to."},
	{Name: "layout", Doc: "Where the instance keeps what, as paths on this host (not inside a container).\n" +
		"\"ocbackup init\" finds these; \"ocbackup doctor\" tells when they no longer hold."},
	{Name: "control", Doc: "Who runs the instance, so that it can be stopped and started."},
	{Name: "ready", Doc: "How ocbackup finds out that the instance can be used again after a start."},
	{Name: "bucket", Doc: "The S3 bucket that holds the blobs, with the storage driver decomposeds3 only.\n" +
		"\"ocbackup init\" finds it. A backup only reads it."},
	{Name: "pool", Doc: "Where the bucket's objects are backed up to, with the storage driver decomposeds3\n" +
		"only. Each is stored once, for all sets. The first backup creates the pool."},
	{Name: "backup", Doc: "How a backup is run."},
	{Name: "snapshot", Doc: "Snapshots of the file systems: OpenCloud is away while they are made, not while its\n" +
		"files are read."},
	{Name: "log", Doc: "How logs are written. They go to standard error."},
	{Name: "extra", Array: true, Doc: "A further directory or file, or the output of a command, that is stored with each\n" +
		"backup. May be given several times."},
}

// Keys lists all keys in the order in which they are written.
var Keys = []Key{
	{
		Name: "name", Env: "OCBACKUP_NAME", Required: true, Example: `"cloud.example.com"`,
		Doc: "Name of the instance: letters, digits, dot, dash, underscore. Its snapshots carry it as their host, so keep it when the instance moves to another machine.",
	},
	{
		Name: "state_dir", Env: "OCBACKUP_STATE_DIR", Default: `"/var/lib/ocbackup/NAME"`,
		Doc: "Directory for the lock, the journal, markers and restic's cache. It must survive a reboot.",
	},
	{
		Name: "not_protected", Default: `[]`, Example: `["service postgres: volume keycloak_postgres_data"]`,
		Doc: "Stateful services beside OpenCloud that no backup holds. They are named on every run, so that nobody forgets them.",
	},

	{
		Name: "repository.location", Env: "OCBACKUP_REPOSITORY", Required: true, Example: `"/srv/backup/opencloud"`,
		Doc: "The repository as restic takes it: an absolute path, sftp:user@host:/path, rest:https://host/path, s3:https://host/bucket, ...",
	},
	{
		Name: "repository.password_file", Env: "OCBACKUP_PASSWORD_FILE", Example: `"/etc/ocbackup/password"`,
		Doc: "File with the repository's password; nobody but its owner and group may read it. Without this key and password_command, restic's own variables (RESTIC_PASSWORD_FILE, ...) are used. The systemd credential \"password\", where there is one, goes before this key.",
	},
	{
		Name: "repository.password_command", Env: "OCBACKUP_PASSWORD_COMMAND", Example: `"pass show ocbackup"`,
		Doc: "Command that prints the repository's password. Either this or password_file.",
	},
	{
		Name: "repository.env_file", Env: "OCBACKUP_ENV_FILE", Example: `"/etc/ocbackup/repository.env"`,
		Doc: "File with the storage's credentials as NAME=value lines (AWS_ACCESS_KEY_ID, RESTIC_REST_PASSWORD, ...), in the syntax of systemd's EnvironmentFile=; nobody but its owner and group may read it. The systemd credential \"env\" goes before it.",
	},
	{
		Name: "repository.restic", Env: "OCBACKUP_RESTIC", Default: `"restic"`, Example: `"/usr/local/bin/restic"`,
		Doc: "The restic program, version 0.17.1 or newer: a name to look up in PATH, or a path.",
	},
	{
		Name: "repository.cache_dir", Env: "OCBACKUP_CACHE_DIR", Default: "`cache` in state_dir", Example: `"/var/cache/ocbackup"`,
		Doc: "restic's cache.",
	},
	{
		Name: "repository.temp_dir", Env: "OCBACKUP_TEMP_DIR", Default: "restic's own choice", Example: `"/dev/shm"`,
		Doc: "Where restic puts pack files together. In memory is faster.",
	},
	{
		Name: "repository.retry_lock", Default: `"2m"`,
		Doc: "How long to wait for a repository that another process has locked.",
	},
	{
		Name: "repository.compression", Default: `"auto"`, Values: []string{"auto", "off", "max", "fastest", "better"},
		Doc: "How hard to compress. fastest and better need restic 0.19.",
	},
	{
		Name: "repository.limit_upload_kib", Default: `0`, Example: `10240`,
		Doc: "Limit of the upload rate in KiB a second; 0: none.",
	},
	{
		Name: "repository.limit_download_kib", Default: `0`, Example: `10240`,
		Doc: "Limit of the download rate in KiB a second; 0: none.",
	},
	{
		Name: "repository.read_concurrency", Default: `0`, Example: `4`,
		Doc: "How many files restic reads at once; 0: restic's default.",
	},

	{
		Name: "layout.driver", Required: true, Example: `"posix"`, Values: []string{"posix", "decomposed", "decomposeds3"},
		Doc: "Storage driver (STORAGE_USERS_DRIVER).",
	},
	{
		Name: "layout.config_dir", Required: true, Example: `"/etc/opencloud"`,
		Doc: "Configuration directory of OpenCloud: the one that holds opencloud.yaml.",
	},
	{
		Name: "layout.data_dir", Required: true, Example: `"/var/lib/opencloud"`,
		Doc: "Data directory of OpenCloud (OC_BASE_DATA_PATH).",
	},
	{
		Name: "layout.users_root", Default: "`storage/users` in data_dir", Example: `"/srv/opencloud/users"`,
		Doc: "Storage root of the users' files (STORAGE_USERS_POSIX_ROOT or its like).",
	},
	{
		Name: "layout.search_dir", Default: "`search` in data_dir", Example: `"/srv/opencloud/search"`,
		Doc: "Directory of the search index: the one that holds bleve/.",
	},
	{
		Name: "layout.search_external", Default: `false`, Example: `true`,
		Doc: "The search index is kept outside OpenCloud (OpenSearch). It is not backed up, and built again after a restore.",
	},
	{
		Name: "layout.system_paths", Default: `[]`, Example: `["/srv/opencloud/nats"]`,
		Doc: "Further directories and files of the server's that lie outside data_dir.",
	},
	{
		Name: "layout.deployment", Default: `[]`, Example: `["/opt/opencloud/compose.yaml", "/opt/opencloud/.env"]`,
		Doc: "Files and directories that describe how the instance is run: compose files with their .env and the configuration they mount, or the unit with its environment files.",
	},
	{
		Name: "layout.binary", Example: `"/usr/bin/opencloud"`,
		Doc: "The server's binary; absent for containers, whose image is stored instead.",
	},
	{
		Name: "layout.leave_out", Default: `[]`, Example: `["/var/lib/opencloud/thumbnails"]`,
		Doc: "Directories that are not backed up, because OpenCloud makes them again.",
	},

	{
		Name: "control.type", Required: true, Example: `"compose"`, Values: []string{"systemd", "compose", "docker", "podman", "command", "none"},
		Doc: "Who runs the instance. none: nobody ocbackup knows of; backups are then only taken while nothing has its files locked.",
	},
	{Name: "control.unit", Example: `"opencloud.service"`, Doc: "systemd: the unit."},
	{
		Name: "control.compose", Default: "`docker compose`, else `docker-compose`", Example: `["docker-compose"]`,
		Doc: "compose: the program and its first arguments.",
	},
	{Name: "control.project_dir", Example: `"/opt/opencloud"`, Doc: "compose: the project directory."},
	{
		Name: "control.files", Default: `[]`, Example: `["/opt/opencloud/docker-compose.yml"]`,
		Doc: "compose: the compose files, where compose is not to find them by itself (COMPOSE_FILE, compose.yaml).",
	},
	{Name: "control.project", Example: `"opencloud"`, Doc: "compose: name of the project, where it is not the one that compose gives it."},
	{Name: "control.service", Default: `"opencloud"`, Doc: "compose: name of OpenCloud's service."},
	{Name: "control.container", Example: `"opencloud"`, Doc: "docker, podman: name of the container."},
	{Name: "control.engine", Example: `"/usr/bin/docker"`, Doc: "The docker or podman program, where it is not in PATH."},
	{Name: "control.engine_host", Example: `"unix:///run/user/1000/docker.sock"`, Doc: "The engine's address, as in DOCKER_HOST."},
	{
		Name: "control.start", Example: `["/usr/local/bin/opencloud-ctl", "start"]`,
		Doc: "command: starts the instance. A program and its arguments; no shell is involved.",
	},
	{
		Name: "control.stop", Example: `["/usr/local/bin/opencloud-ctl", "stop"]`,
		Doc: "command: stops the instance, and returns when it has stopped.",
	},
	{
		Name: "control.status", Example: `["/usr/local/bin/opencloud-ctl", "status"]`,
		Doc: "command: exits with 0 when the instance runs, with 3 when it is stopped, with anything else when that is not known. What it prints must change with every start (a process id and start time, say).",
	},
	{
		Name: "control.exec", Example: `["runuser", "-u", "opencloud", "--", "/usr/bin/opencloud"]`,
		Doc: "command: runs the server's own command line in the server's environment; its arguments are appended. Reindexing after a restore needs it.",
	},
	{
		Name: "control.also_stop", Default: `[]`, Example: `["collaboration"]`,
		Doc: "Further units, services or containers that are stopped before OpenCloud and started after it. What systemd stops along with the unit (Requires=, BindsTo=, PartOf=) is found without.",
	},
	{Name: "control.stop_timeout", Default: `"1m"`, Doc: "How long the instance may take to stop. OpenCloud 4.0 gives its services 25 s."},
	{Name: "control.start_timeout", Default: `"1m"`, Doc: "How long the instance may take until its manager says that it runs."},

	{Name: "ready.url", Example: `"https://cloud.example.com"`, Doc: "Public address of the instance (OC_URL). Its host name is sent along with requests."},
	{
		Name: "ready.address", Default: `"127.0.0.1:9200"`,
		Doc: "Where OpenCloud's proxy listens, as host:port.",
	},
	{
		Name: "ready.idm_address", Example: `"127.0.0.1:9235"`,
		Doc: "Where OpenCloud's own identity service (idm) listens; absent for an external LDAP.",
	},
	{
		Name: "ready.in_container", Default: `false`, Example: `true`,
		Doc: "The two addresses are those inside the network of the instance's container.",
	},
	{
		Name: "ready.plain_http", Default: `false`, Example: `true`,
		Doc: "The proxy speaks HTTP without TLS (PROXY_TLS=false).",
	},
	{
		Name: "ready.token_file", Example: `"/etc/ocbackup/token"`,
		Doc: "File with a bearer token for an authenticated request. Without it and without user, an answer of Graph and a log-in of the service users at idm are checked.",
	},
	{Name: "ready.user", Example: `"backup-check"`, Doc: "User of an authenticated request, with password_file."},
	{Name: "ready.password_file", Example: `"/etc/ocbackup/app-password"`, Doc: "File with that user's app password."},
	{Name: "ready.off", Default: `false`, Example: `true`, Doc: "Do not check: the manager's word is enough."},
	{Name: "ready.timeout", Env: "OCBACKUP_READY_TIMEOUT", Default: `"3m"`, Doc: "How long the instance may take until it can be used."},

	{
		Name: "bucket.endpoint", Example: `"https://s3.example.com"`,
		Doc: "Address of the S3 server, as OpenCloud has it (STORAGE_USERS_DECOMPOSEDS3_ENDPOINT). A backup with blobs needs it.",
	},
	{
		Name: "bucket.region", Default: `"default"`,
		Doc: "Region (STORAGE_USERS_DECOMPOSEDS3_REGION).",
	},
	{
		Name: "bucket.name", Example: `"opencloud"`,
		Doc: "Name of the bucket (STORAGE_USERS_DECOMPOSEDS3_BUCKET). A backup with blobs needs it.",
	},
	{
		Name: "bucket.reach", Default: "looked up at each run", Example: `"http://127.0.0.1:9000"`,
		Doc: "Address by which this host reaches the same S3 server, where endpoint is a name that only containers know. The container engine is asked for it where this key is absent.",
	},
	{
		Name: "bucket.env_file", Env: "OCBACKUP_BUCKET_ENV_FILE", Default: "the instance's own keys, as the deployment has them at each run", Example: `"/etc/ocbackup/bucket.env"`,
		Doc: "File with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) as NAME=value lines; nobody but its owner and group may read it. Keys that may only list and read are enough for backups; a restore writes into the bucket. The systemd credential \"bucket-env\" goes before it.",
	},
	{
		Name: "bucket.ca_file", Default: "the system's", Example: `"/etc/ocbackup/s3-ca.pem"`,
		Doc: "Further certificate authorities that the S3 server's certificate may come from (PEM).",
	},
	{
		Name: "bucket.transfers", Default: `0`, Example: `32`,
		Doc: "How many objects are copied at a time; 0: 16, to an SFTP pool 4.",
	},
	{
		Name: "bucket.checkers", Default: `0`, Example: `16`,
		Doc: "How many spaces are listed at a time; 0: 8.",
	},
	{
		Name: "bucket.limit_kib", Default: `0`, Example: `10240`,
		Doc: "Limit of the rate at which objects are copied, in KiB a second, both ways together; 0: none.",
	},

	{
		Name: "pool.location", Env: "OCBACKUP_POOL", Example: `"/srv/backup/opencloud-pool"`,
		Doc: "Where the pool is: an absolute path, s3:https://host/bucket/prefix, sftp:user@host:/path, sftp://user@host:port//path, or rclone:REMOTE:path. Not in the bucket itself, not in the repository, and not in a directory that is backed up. A backup with blobs needs it.",
	},
	{
		Name: "pool.region", Default: "us-east-1", Example: `"eu-central-1"`,
		Doc: "Region of an S3 pool.",
	},
	{
		Name: "pool.env_file", Env: "OCBACKUP_POOL_ENV_FILE", Default: "ocbackup's own environment", Example: `"/etc/ocbackup/pool.env"`,
		Doc: "File with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) of an S3 pool, as NAME=value lines; nobody but its owner and group may read it. The systemd credential \"pool-env\" goes before it.",
	},
	{
		Name: "pool.ca_file", Default: "the system's", Example: `"/etc/ocbackup/pool-ca.pem"`,
		Doc: "Further certificate authorities that the certificate of an S3 pool's server may come from (PEM).",
	},
	{
		Name: "pool.rclone_config", Default: "rclone's own", Example: `"/etc/ocbackup/rclone.conf"`,
		Doc: "The rclone.conf that defines REMOTE of an rclone: pool; nobody but its owner and group may read it.",
	},
	{
		Name: "pool.password_file", Env: "OCBACKUP_POOL_PASSWORD_FILE", Example: `"/etc/ocbackup/pool-password"`,
		Doc: "File with a password by which objects and their names are encrypted before they leave this host; nobody but its owner and group may read it. Without it the pool holds the objects as the bucket does. It can't be set or changed once the pool is there, and without it an encrypted pool can't be read. The systemd credential \"pool-password\" goes before it.",
	},
	{
		Name: "pool.reconcile_every", Default: `"168h"`,
		Doc: "How often a backup compares the whole pool with what it is known to hold.",
	},
	{
		Name: "pool.grace", Default: `"720h"`,
		Doc: "How long an object that no set needs any more stays in the pool.",
	},

	{
		Name: "backup.max_downtime", Env: "OCBACKUP_MAX_DOWNTIME", Default: `"30m"`,
		Doc: "Hard limit of the time for which the instance is stopped. Past it the instance is started again and the backup fails. A backup that is predicted (from the last sets) to take longer does not begin.",
	},
	{
		Name: "backup.seed", Default: `"auto"`, Values: []string{"auto", "always", "never"},
		Doc: "Store data once while the instance runs, so that the pass on the stopped instance is short; what snapshots freeze does not need it. auto: what has never been stored, what has grown much, and what has been quiet lately (if nothing of it changes until the stop, it need not be read again then).",
	},
	{
		Name: "backup.skip", Default: `[]`, Example: `["binary"]`, Values: []string{"search", "binary"},
		Doc: "Components that are left out of every backup. The search index is built again after a restore; without binary a restore needs the same version from elsewhere.",
	},
	{
		Name: "backup.accept_lost", Default: `[]`, Example: `["Marketing:/offers/2026.odt"]`,
		Doc: "Files whose data OpenCloud has lost, as it is known, and that can't be mended: SPACE:/path, as findings name them; SPACE may be the id. What is below, versions, and what was deleted there go with it. They are told of with each set, but do not make it inconsistent.",
	},

	{
		Name: "snapshot.driver", Env: "OCBACKUP_SNAPSHOT_DRIVER", Default: `"auto"`, Values: []string{"auto", "btrfs", "zfs", "lvm", "command", "none"},
		Doc: "How the data is frozen. auto: by btrfs, ZFS or LVM, whichever it lies on; what lies on none of them is read while the instance is stopped. With btrfs, zfs, lvm and command there is no backup unless the users' files can be frozen that way. none: nothing is frozen.",
	},
	{
		Name: "snapshot.keep_snapshots", Default: `"0s"`, Example: `"24h"`, Zero: true,
		Doc: "How long the snapshots of a set are kept on this host, for a fast restore; 0s: not at all. The next backup after that time removes them. They take up room as the data changes.",
	},
	{
		Name: "snapshot.lvm_size", Default: `"20%ORIGIN"`,
		Doc: "What a classic (not thin) LVM snapshot may take up of its volume group: a size (\"10g\"), or a share of the volume, of what is free or of the group (\"20%ORIGIN\", \"50%FREE\", \"5%VG\").",
	},
	{
		Name: "snapshot.path", Example: `"/srv/opencloud"`,
		Doc: "command: the directory that the commands make snapshots of. What lies outside it is not frozen.",
	},
	{
		Name: "snapshot.mount_point", Example: `"/mnt/{name}"`,
		Doc: "command: where a snapshot of path is found once create has run. {name} stands for the name of the snapshot, here and in the commands.",
	},
	{
		Name: "snapshot.create", Example: `["/usr/local/sbin/oc-snapshot", "create", "{name}"]`,
		Doc: "command: makes a snapshot and mounts it; it returns when both is done. A program and its arguments; no shell is involved.",
	},
	{
		Name: "snapshot.destroy", Example: `["/usr/local/sbin/oc-snapshot", "destroy", "{name}"]`,
		Doc: "command: unmounts a snapshot and removes it. It succeeds when there is none of that name.",
	},

	{
		Name: "log.format", Env: "OCBACKUP_LOG_FORMAT", Default: "console on a terminal, else json", Example: `"json"`, Values: []string{"console", "json"},
		Doc: "Format of the log.",
	},
	{
		Name: "log.level", Env: "OCBACKUP_LOG_LEVEL", Default: `"info"`, Values: []string{"debug", "info", "warn", "error"},
		Doc: "What is logged.",
	},

	{Name: "extra.name", Required: true, Example: `"keycloak"`, Doc: "Name of what is stored: lower-case letters, digits, dashes."},
	{Name: "extra.path", Example: `"/srv/keycloak"`, Doc: "Directory or file to store."},
	{
		Name: "extra.command", Example: `["docker", "exec", "opencloud-postgres-1", "pg_dump", "-U", "keycloak", "keycloak"]`,
		Doc: "Command whose standard output is stored. Either this or path. It is stored and shown as it is: a password does not belong in it; have the program read it from a file.",
	},
}

// kind is the type of a key's value as an admin thinks of it.
type kind int

const (
	kindString kind = iota
	kindStrings
	kindBool
	kindInt
	kindDuration
	kindTable
	kindTables
)

// String names the kind in messages and in the documentation.
func (k kind) String() string {
	return [...]string{
		"text in quotes", "list of texts", "true or false", "whole number",
		`duration like "90s" or "30m"`, "table", "list of tables",
	}[k]
}

func kindOf(t reflect.Type) kind {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return kindDuration
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return kindTables
	case t.Kind() == reflect.Slice:
		return kindStrings
	case t.Kind() == reflect.Struct:
		return kindTable
	case t.Kind() == reflect.Bool:
		return kindBool
	case t.Kind() == reflect.Int:
		return kindInt
	}
	return kindString
}

// fieldTypes maps every key and table of Config, by its toml tags, to its type.
var fieldTypes = func() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			if name == "-" || name == "" {
				continue
			}
			name = prefix + name
			m[name] = f.Type
			switch kindOf(f.Type) {
			case kindTable:
				walk(name+".", f.Type)
			case kindTables:
				walk(name+".", f.Type.Elem())
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	return m
}()

// field returns the settable field of v (a struct) that has a key's name without
// its table.
func field(v reflect.Value, name string) reflect.Value {
	for f, fv := range v.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("toml"), ","); tag == name {
			return fv
		}
	}
	return reflect.Value{}
}

// value returns the settable field of c for a key outside array tables.
func (k Key) value(c *Config) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for part := range strings.SplitSeq(k.Name, ".") {
		v = field(v, part)
	}
	return v
}

// keyNamed returns the schema entry of a key that is in the schema.
func keyNamed(name string) Key {
	for _, k := range Keys {
		if k.Name == name {
			return k
		}
	}
	panic("config: no key " + name)
}
