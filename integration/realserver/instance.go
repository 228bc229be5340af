package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

const (
	proxyPort     = 9200 // the server's default
	adminPassword = "admin"
)

// instance is where the server keeps what, by the variables of the stand-in.
type instance struct {
	binary string // OPENCLOUD_BIN
	config string // OC_CONFIG_DIR
	data   string // OC_BASE_DATA_PATH
	driver string // STORAGE_USERS_DRIVER; decomposeds3 needs the variables of its bucket, too
	events string // STANDIN_EVENTS
	offset int    // of every port
}

func instanceFromEnv() (*instance, error) {
	i := &instance{
		binary: os.Getenv("OPENCLOUD_BIN"), config: os.Getenv("OC_CONFIG_DIR"), data: os.Getenv("OC_BASE_DATA_PATH"),
		driver: cmp.Or(os.Getenv("STORAGE_USERS_DRIVER"), "posix"), events: os.Getenv("STANDIN_EVENTS"),
	}
	if i.binary == "" || i.config == "" || i.data == "" || i.events == "" {
		return nil, errors.New("OPENCLOUD_BIN, OC_CONFIG_DIR, OC_BASE_DATA_PATH and STANDIN_EVENTS have to be set")
	}
	_, text, err := net.SplitHostPort(os.Getenv("PROXY_HTTP_ADDR"))
	if err != nil {
		return nil, fmt.Errorf("PROXY_HTTP_ADDR: %w", err)
	}
	port, err := strconv.Atoi(text)
	i.offset = port - proxyPort
	return i, err
}

// url is the server's address: it is stored in the data, and has to stay the same.
func (i *instance) url() string { return fmt.Sprintf("https://localhost:%d", proxyPort+i.offset) }

// expected is the list of what the server was filled with, beside the tree: the
// format of the recorded trees' expected.tsv.
func (i *instance) expected() string { return filepath.Join(filepath.Dir(i.events), "expected.tsv") }

// listeners are all addresses at which the single binary listens, with their
// default ports.
var listeners = map[string]int{
	"ACTIVITYLOG_DEBUG_ADDR": 9197, "ACTIVITYLOG_HTTP_ADDR": 9195, "APP_PROVIDER_DEBUG_ADDR": 9165, "APP_PROVIDER_GRPC_ADDR": 9164,
	"APP_REGISTRY_DEBUG_ADDR": 9243, "APP_REGISTRY_GRPC_ADDR": 9242, "AUTH_APP_DEBUG_ADDR": 9245, "AUTH_APP_GRPC_ADDR": 9246, "AUTH_APP_HTTP_ADDR": 9247,
	"AUTH_BASIC_DEBUG_ADDR": 9147, "AUTH_BASIC_GRPC_ADDR": 9146, "AUTH_BEARER_DEBUG_ADDR": 9149, "AUTH_BEARER_GRPC_ADDR": 9148,
	"AUTH_MACHINE_DEBUG_ADDR": 9167, "AUTH_MACHINE_GRPC_ADDR": 9166, "AUTH_SERVICE_DEBUG_ADDR": 9198, "AUTH_SERVICE_GRPC_ADDR": 9199,
	"CLIENTLOG_DEBUG_ADDR": 9260, "EVENTHISTORY_DEBUG_ADDR": 9270, "EVENTHISTORY_GRPC_ADDR": 9274, "FRONTEND_DEBUG_ADDR": 9141, "FRONTEND_HTTP_ADDR": 9140,
	"GATEWAY_DEBUG_ADDR": 9143, "OC_GATEWAY_GRPC_ADDR": 9142, "GRAPH_DEBUG_ADDR": 9124, "GRAPH_HTTP_ADDR": 9120, "GROUPS_DEBUG_ADDR": 9161, "GROUPS_GRPC_ADDR": 9160,
	"IDM_DEBUG_ADDR": 9239, "IDM_LDAPS_ADDR": 9235, "IDP_DEBUG_ADDR": 9134, "IDP_HTTP_ADDR": 9130, "INVITATIONS_DEBUG_ADDR": 9269, "INVITATIONS_HTTP_ADDR": 9265,
	"NATS_DEBUG_ADDR": 9234, "NOTIFICATIONS_DEBUG_ADDR": 9174, "OCDAV_DEBUG_ADDR": 9163, "OCDAV_HTTP_ADDR": 9350, "OCM_DEBUG_ADDR": 9281, "OCM_HTTP_ADDR": 9280, "OCM_GRPC_ADDR": 9282,
	"OCS_DEBUG_ADDR": 9114, "OCS_HTTP_ADDR": 9110, "POLICIES_DEBUG_ADDR": 9129, "POLICIES_GRPC_ADDR": 9125, "POSTPROCESSING_DEBUG_ADDR": 9255,
	"PROXY_DEBUG_ADDR": 9205, "PROXY_HTTP_ADDR": proxyPort, "SEARCH_DEBUG_ADDR": 9224, "SEARCH_GRPC_ADDR": 9220, "SETTINGS_DEBUG_ADDR": 9194, "SETTINGS_HTTP_ADDR": 9190, "SETTINGS_GRPC_ADDR": 9191,
	"SHARING_DEBUG_ADDR": 9151, "SHARING_GRPC_ADDR": 9150, "SSE_DEBUG_ADDR": 9139, "SSE_HTTP_ADDR": 9135, "STORAGE_PUBLICLINK_DEBUG_ADDR": 9179, "STORAGE_PUBLICLINK_GRPC_ADDR": 9178,
	"STORAGE_SHARES_DEBUG_ADDR": 9156, "STORAGE_SHARES_GRPC_ADDR": 9154, "STORAGE_SYSTEM_DEBUG_ADDR": 9217, "STORAGE_SYSTEM_GRPC_ADDR": 9215, "STORAGE_SYSTEM_HTTP_ADDR": 9216,
	"STORAGE_USERS_DEBUG_ADDR": 9159, "STORAGE_USERS_GRPC_ADDR": 9157, "STORAGE_USERS_HTTP_ADDR": 9158, "THUMBNAILS_DEBUG_ADDR": 9189, "THUMBNAILS_GRPC_ADDR": 9185, "THUMBNAILS_HTTP_ADDR": 9186,
	"USERLOG_DEBUG_ADDR": 9214, "USERLOG_HTTP_ADDR": 9210, "USERS_DEBUG_ADDR": 9145, "USERS_GRPC_ADDR": 9144, "WEB_DEBUG_ADDR": 9104, "WEB_HTTP_ADDR": 9100,
	"WEBDAV_DEBUG_ADDR": 9119, "WEBDAV_HTTP_ADDR": 9115, "WEBFINGER_DEBUG_ADDR": 9279, "WEBFINGER_HTTP_ADDR": 9275,
}

// environ is the server's environment: everything that listens or is talked to is
// on the loopback interface, at shifted ports.
func (i *instance) environ() []string {
	list := os.Environ()
	set := func(name, format string, a ...any) { list = append(list, name+"="+fmt.Sprintf(format, a...)) }
	for name, port := range listeners {
		set(name, "127.0.0.1:%d", port+i.offset)
	}
	nats := 9233 + i.offset
	set("NATS_NATS_HOST", "127.0.0.1")
	set("NATS_NATS_PORT", "%d", nats)
	for _, name := range []string{"MICRO_REGISTRY_ADDRESS", "OC_EVENTS_ENDPOINT", "OC_CACHE_STORE_NODES", "OC_PERSISTENT_STORE_NODES", "GRAPH_STORE_NODES"} {
		set(name, "127.0.0.1:%d", nats)
	}
	set("OC_LDAP_URI", "ldaps://localhost:%d", 9235+i.offset)
	set("OC_RUNTIME_PORT", "%d", 9250+i.offset)
	set("STORAGE_SYSTEM_DATA_SERVER_URL", "http://localhost:%d/data", 9216+i.offset)
	set("STORAGE_USERS_DATA_SERVER_URL", "http://localhost:%d/data", 9158+i.offset)
	set("STORAGE_USERS_DATA_GATEWAY_URL", "%s/data", i.url())
	set("THUMBNAILS_DATA_ENDPOINT", "http://127.0.0.1:%d/thumbnails/data", 9186+i.offset)
	set("STORAGE_USERS_DRIVER", "%s", i.driver)
	set("STORAGE_USERS_ID_CACHE_STORE", "nats-js-kv")
	set("OC_URL", "%s", i.url())
	set("IDM_ADMIN_PASSWORD", adminPassword)
	set("OC_LOG_LEVEL", "error")
	set("OC_SHARING_PUBLIC_SHARE_MUST_HAVE_PASSWORD", "false")
	for _, name := range []string{"OC_INSECURE", "OC_LDAP_INSECURE", "PROXY_ENABLE_BASIC_AUTH", "IDM_CREATE_DEMO_USERS", "OC_PASSWORD_POLICY_DISABLED"} {
		set(name, "true")
	}
	return list
}
