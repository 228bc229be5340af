package env

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var buildRealserver = build("./integration/realserver", "realserver", nil)

// RealServer is the path of the real server that the scenarios are to run on,
// $OPENCLOUD_BIN; "" when that is the stand-in.
func RealServer(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("OPENCLOUD_BIN")
	if bin == "" {
		return ""
	}
	if _, err := os.Stat(bin); err != nil || !filepath.IsAbs(bin) {
		t.Fatalf("OPENCLOUD_BIN=%s: has to be the absolute path of a server (%v)", bin, err)
	}
	return bin
}

// ServerProgram is the path of the server program of scenarios on this machine: the
// stand-in, or what gives a real server the same command line.
func ServerProgram(t testing.TB) string {
	t.Helper()
	if RealServer(t) == "" {
		return Standin(t)
	}
	path, err := buildRealserver()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// recordedOffsets are how far the ports of the servers were shifted whose trees
// are recorded ("META off" in expected.tsv): the public URL is part of the data.
var recordedOffsets = map[string]int{"opencloud-4.0-posix": 6000, "opencloud-4.0-decomposed": 7000, "opencloud-4.0-decomposeds3": 8000}

// ServerEnv is the environment of ServerProgram, with dir/config, dir/data and ports of
// its own. The driver decomposeds3 needs that of a ServerBucket beside it. fixture is the recorded tree that it is to serve, "" for none.
func ServerEnv(t testing.TB, dir, driver, fixture string) []string {
	t.Helper()
	bin := RealServer(t)
	if bin == "" {
		return StandinEnv(t, dir, driver)
	}
	offset, recorded := recordedOffsets[fixture]
	switch {
	case recorded:
		lock, _ := offsets.recorded.LoadOrStore(offset, new(sync.Mutex))
		lock.(*sync.Mutex).Lock() // one at a time
		t.Cleanup(lock.(*sync.Mutex).Unlock)
	case fixture != "":
		t.Skipf("%s was recorded from an early server: real ones are newer", fixture)
	default:
		offset = freeOffset(t)
	}
	addr := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port+offset) }
	return []string{
		"OPENCLOUD_BIN=" + bin, "OC_CONFIG_DIR=" + dir + "/config", "OC_BASE_DATA_PATH=" + dir + "/data", "STORAGE_USERS_DRIVER=" + driver,
		"PROXY_HTTP_ADDR=" + addr(9200), "IDM_LDAPS_ADDR=" + addr(9235), "SEARCH_DEBUG_ADDR=" + addr(9224),
		"STANDIN_EVENTS=" + dir + "/events",
	}
}

var offsets struct {
	sync.Mutex
	next     int
	recorded sync.Map
}

// freeOffset is how far to shift the ports of a real server: to between those of
// the recorded trees and those that are given to clients.
func freeOffset(t testing.TB) int {
	t.Helper()
	const first, step, count = 8300, 300, 47
	offsets.Lock()
	defer offsets.Unlock()
	for range count {
		offset := first + step*((os.Getpid()+offsets.next)%count)
		offsets.next++
		if portsFree(9100+offset, 9360+offset) {
			return offset
		}
	}
	t.Fatal("no free ports")
	return 0
}

func portsFree(first, last int) bool {
	for port := first; port <= last; port++ {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
