package env

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/xattr"
	"golang.org/x/sys/unix"
)

// build compiles a program of this module once per run, into .tools/bin-test/,
// where an unchanged one is not linked again.
func build(pkg, name string, env []string, args ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir := Tools("bin-test")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		lock, err := os.Create(filepath.Join(dir, name+".lock"))
		if err != nil {
			return "", err
		}
		defer func() { _ = lock.Close() }()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", path}, args...), pkg)...)
		cmd.Dir = Root()
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		return path, nil
	})
}

var (
	buildOcbackup = build(".", "ocbackup", nil, "-tags", "faultpoint")
	buildStandin  = build("./integration/standin", "opencloud", []string{"CGO_ENABLED=0"}, "-ldflags", "-s -w")
)

// Ocbackup is the path of ocbackup, built with fault points; or $OCBACKUP_BIN.
func Ocbackup(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("OCBACKUP_BIN"); path != "" {
		return path
	}
	path, err := buildOcbackup()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Standin is the path of the static stand-in server. The file is called opencloud.
func Standin(t testing.TB) string {
	t.Helper()
	path, err := buildStandin()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Tree is an instance's config and data directory. Bucket has the objects of a
// decomposeds3 instance as files, whose paths are the keys; "" for other drivers.
type Tree struct{ Config, Data, Bucket string }

// Fixture extracts a recorded tree into a temporary directory: "opencloud-posix",
// "opencloud-decomposed", "opencloud-decomposeds3", or one of them as "opencloud-4.0-".
func Fixture(t testing.TB, name string) Tree {
	t.Helper()
	return ExtractFixture(t, name, t.TempDir())
}

// ExtractFixture extracts a recorded tree into dir: dir/config, dir/data and
// dir/expected.tsv, and the dir/bucket of a decomposeds3 one, with owners, modes, times and extended attributes.
func ExtractFixture(t testing.TB, name, dir string) Tree {
	t.Helper()
	f, err := os.Open(filepath.Join(Root(), "integration/testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := extract(tar.NewReader(z), dir); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	tree := Tree{Config: filepath.Join(dir, "config"), Data: filepath.Join(dir, "data")}
	if strings.HasSuffix(name, "-decomposeds3") {
		tree.Bucket = filepath.Join(dir, "bucket")
	}
	return tree
}

func extract(r *tar.Reader, dir string) error {
	type stamp struct {
		path string
		time time.Time
	}
	var dirs []stamp // their times are set last: what is put into them changes them
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		_, rel, _ := strings.Cut(strings.TrimPrefix(h.Name, "./"), "/") // without the top directory
		if rel == "" {
			continue
		}
		if !filepath.IsLocal(rel) {
			return fmt.Errorf("%s: leads outside", h.Name)
		}
		path := filepath.Join(dir, rel)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o700)
			dirs = append(dirs, stamp{path, h.ModTime})
		case tar.TypeReg:
			err = extractFile(path, r)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		default:
			err = fmt.Errorf("%s: type %c", h.Name, h.Typeflag)
		}
		if err != nil {
			return err
		}
		if err := extractMeta(path, h); err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := setTime(d.path, d.time); err != nil {
			return err
		}
	}
	return nil
}

func extractFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func extractMeta(path string, h *tar.Header) error {
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if err := xattr.LSet(path, name, []byte(value)); err != nil {
				return err
			}
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := os.Chmod(path, h.FileInfo().Mode()); err != nil {
			return err
		}
	}
	return setTime(path, h.ModTime)
}

func setTime(path string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// StandinEnv is the environment of a stand-in on this machine, with dir/config,
// dir/data and ports of its own.
func StandinEnv(t testing.TB, dir, driver string) []string {
	t.Helper()
	return []string{
		"OC_CONFIG_DIR=" + dir + "/config", "OC_BASE_DATA_PATH=" + dir + "/data", "STORAGE_USERS_DRIVER=" + driver,
		"PROXY_HTTP_ADDR=" + freeAddr(t), "IDM_LDAPS_ADDR=" + freeAddr(t), "SEARCH_DEBUG_ADDR=" + freeAddr(t),
		"STANDIN_EVENTS=" + dir + "/events",
	}
}

// freeAddr is an address that nobody listens on. It is not one of those that the kernel
// gives to whoever asks for any: that could be somebody else's before the server starts,
// or while it is stopped.
func freeAddr(t testing.TB) string {
	t.Helper()
	const first, count = 10000, 22000
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(count))
		if _, taken := addresses.LoadOrStore(addr, true); taken {
			continue
		}
		if l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

var addresses sync.Map // that were given out

// Server is a server that runs on this machine.
type Server struct{ daemon *daemon }

// StartStandin starts the stand-in with the given environment, which has to
// name STANDIN_EVENTS, and waits until it is ready. It dies with the test.
func StartStandin(t testing.TB, env []string) *Server {
	t.Helper()
	return startServer(t, Standin(t), env, 20*time.Second)
}

// StartServer starts ServerProgram in the same way.
func StartServer(t testing.TB, env []string) *Server {
	t.Helper()
	if RealServer(t) == "" {
		return StartStandin(t, env)
	}
	return startServer(t, ServerProgram(t), env, 3*time.Minute) // it is filled when it starts first
}

func startServer(t testing.TB, program string, env []string, patience time.Duration) *Server {
	t.Helper()
	var events string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "STANDIN_EVENTS="); ok {
			events = v
		}
	}
	before := strings.Count(readString(events), " ready ")
	var out bytes.Buffer
	cmd := exec.Command(program, "server")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = &out
	d, err := startDaemon(cmd, unix.SIGKILL, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{daemon: d}
	t.Cleanup(func() { d.stop(unix.SIGKILL, 0) })
	Eventually(t, patience, "the server is ready", func() bool {
		select {
		case <-d.done:
			t.Fatalf("the server ended: %s", out.String())
		default:
		}
		return strings.Count(readString(events), " ready ") > before
	})
	return s
}

// Stop stops the server in order.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.daemon.stop(unix.SIGTERM, 30*time.Second)
	if code := s.daemon.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("the server ended with exit code %d", code)
	}
}

func readString(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// imageTar is the file system of an image with only the stand-in in it.
func imageTar(standin string) ([]byte, error) {
	binary, err := os.ReadFile(standin)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		h.ModTime = time.Unix(0, 0)
		err = errors.Join(err, w.WriteHeader(&h))
		if len(content) > 0 {
			_, werr := w.Write(content)
			err = errors.Join(err, werr)
		}
	}
	for _, dir := range []string{"usr/", "usr/bin/", "bin/", "etc/", "var/", "var/lib/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	for _, dir := range []string{"etc/opencloud/", "var/lib/opencloud/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o750, Uid: 1000, Gid: 1000}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\nopencloud:x:1000:1000::/:/bin/sh\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/opencloud", Mode: 0o755}, binary)
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "/usr/bin/opencloud", Mode: 0o777}, nil)
	return b.Bytes(), errors.Join(err, w.Close())
}
