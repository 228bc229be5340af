//go:build integration && bench

package integration

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/integration/env"
)

const benchRounds = 3

// benchFiles is how many files the tree has; $OCBACKUP_BENCH_FILES sets another
// number, to try the benchmark itself.
var benchFiles = func() int {
	if n, err := strconv.Atoi(os.Getenv("OCBACKUP_BENCH_FILES")); err == nil && n > 0 {
		return n
	}
	return 100_000
}()

// BenchmarkAgainstRestic compares ocbackup with plain restic, both on the same tree
// of 100,000 files with six extended attributes each, taking turns on the same
// machine. It prints medians with the least and the most, and the ratios.
func BenchmarkAgainstRestic(b *testing.B) {
	for range b.N {
		s := newBench(b)
		s.seed()
		var own, plain figures
		for range benchRounds {
			own.add(s.backup())
			plain.add(s.restic("backup", s.path("config"), s.path("data")))
		}
		fmt.Printf("\n%d files, %d rounds; median (min..max)\n", benchFiles, benchRounds)
		report(b,
			row{"unchanged backup, wall s", own.wall, plain.wall, 1.25},
			row{"unchanged backup, CPU s", own.cpu, plain.cpu, 1.25},
			row{"downtime less stop and start, against that restic, s", own.store, plain.wall, 1},
			row{"peak memory of ocbackup's own process, backup, MiB", own.rss, nil, 50},
		)
		var ownBack, plainBack figures
		for i := range benchRounds {
			s.remove("config", "data")
			// There is no server that could build an index.
			ownBack.add(s.measure("restore", "--yes", "--no-start"))
			to := "plain-" + strconv.Itoa(i)
			plainBack.add(s.restic("restore", "latest", "--target", s.path(to)))
			s.remove(to)
			s.removeAside()
		}
		report(b,
			row{"restore, wall s", ownBack.wall, plainBack.wall, 1.2},
			row{"restore, CPU s", ownBack.cpu, plainBack.cpu, 0},
			row{"peak memory of ocbackup's own process, restore, MiB", ownBack.rss, nil, 50},
		)
	}
}

func report(b *testing.B, rows ...row) {
	b.Helper()
	for _, r := range rows {
		r.print()
		b.ReportMetric(r.figure(), strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(r.name))
	}
}

// row is one line of the table: ocbackup's figures, and what they are held against.
type row struct {
	name  string
	own   []float64
	plain []float64
	aim   float64 // a ratio, or without plain the figure itself; 0: none
}

func (r row) figure() float64 {
	if r.plain == nil {
		return median(r.own)
	}
	return median(r.own) / median(r.plain)
}

func (r row) print() {
	line := fmt.Sprintf("  %-55s %s", r.name, spread(r.own))
	if r.plain != nil {
		line += fmt.Sprintf("  restic %s  ratio %.2f", spread(r.plain), r.figure())
	}
	if r.aim > 0 {
		verdict := "met"
		if r.figure() > r.aim {
			verdict = "MISSED"
		}
		line += fmt.Sprintf("  aim <= %g: %s", r.aim, verdict)
	}
	fmt.Println(line)
}

func spread(v []float64) string {
	return fmt.Sprintf("%6.2f (%.2f..%.2f)", median(v), slices.Min(v), slices.Max(v))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// run is what one run took.
type run struct {
	wall, cpu float64 // seconds; cpu with all children
	rss       float64 // MiB, of the process itself
	store     float64 // seconds of downtime without stop and start
	out       string
}

type figures struct{ wall, cpu, rss, store []float64 }

func (f *figures) add(r run) {
	f.wall, f.cpu = append(f.wall, r.wall), append(f.cpu, r.cpu)
	f.rss, f.store = append(f.rss, r.rss), append(f.store, r.store)
}

// bench is an instance whose server is no more than a file that says that it runs.
type bench struct {
	*cloud
	ocbackup string
}

func newBench(b *testing.B) *bench {
	b.Helper()
	s := newBenchIn(b, b.TempDir())
	s.tree()
	return s
}

// newBenchIn is newBench in a directory, with no users' files yet.
func newBenchIn(b *testing.B, dir string) *bench {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	c := &cloud{t: b, dir: dir, name: "bench.test", driver: "posix", config: map[string]map[string]string{}}
	program := os.Getenv("OCBACKUP_BIN")
	if program == "" {
		program = filepath.Join(env.Root(), "bin/ocbackup")
	}
	s := &bench{c, program}
	state := c.path("running")
	sh := func(text string) string { return quoteList("/bin/sh", "-c", text) }
	c.config = map[string]map[string]string{
		"":           {"name": quote(c.name), "state_dir": c.quoted("state")},
		"repository": {"location": c.quoted("repository"), "password_file": c.quoted("password"), "restic": quote(env.Restic(b, "0.18"))},
		"layout":     {"driver": `"posix"`, "config_dir": c.quoted("config"), "data_dir": c.quoted("data")},
		"control": {
			"type": `"command"`, "start": sh("date +%s%N > " + state), "stop": sh("rm -f " + state),
			"status": sh("cat " + state + " 2>/dev/null || exit 3"), "exec": sh("echo Version: 4.0.0"),
		},
		"ready": {"off": "true"},
	}
	c.saveConfig()
	c.write("running", "1")
	c.write("config/opencloud.yaml", "token_manager:\n  jwt_secret: secret\n")
	return s
}

// tree makes a posix tree: folders of 100 files of 1 to 4 KiB, half of it
// compressible, with attributes as OpenCloud writes them.
func (s *bench) tree() {
	random := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 4<<10)
	for i := range benchFiles {
		dir := s.path("data/storage/users/users/someone", fmt.Sprintf("folder-%03d", i/1000), fmt.Sprintf("folder-%04d", i/100))
		if i%100 == 0 {
			s.ok(os.MkdirAll(dir, 0o700))
		}
		part := content[:1<<10+random.IntN(3<<10)]
		for j := 0; j+8 <= len(part)/2; j += 8 {
			binary.LittleEndian.PutUint64(part[j:], random.Uint64())
		}
		path := filepath.Join(dir, fmt.Sprintf("file-%06d.txt", i))
		s.ok(os.WriteFile(path, part, 0o600))
		for name, value := range map[string]string{
			"id": uuid.NewString(), "parentid": uuid.NewString(), "name": filepath.Base(path),
			"blobid": uuid.NewString(), "blobsize": strconv.Itoa(len(part)), "cs.sha1": string(part[:20]),
		} {
			s.ok(xattr.LSet(path, "user.oc."+name, []byte(value)))
		}
	}
}

func (s *bench) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// seed makes both repositories, with keys that take restic as long as ever, and the
// first backup into each.
func (s *bench) seed() {
	for _, repository := range []string{"repository", "plain"} {
		r := env.Exec(background, s.env(repository), env.Restic(s.t, "0.18"), "init")
		wants(s.t, r, 0)
	}
	s.backup()
	s.restic("backup", s.path("config"), s.path("data"))
	// One more of each: the first is not like those that follow.
	s.backup()
	s.restic("backup", s.path("config"), s.path("data"))
}

func (s *bench) env(repository string) []string {
	return []string{
		"RESTIC_REPOSITORY=" + s.path(repository), "RESTIC_PASSWORD=" + password, "RESTIC_CACHE_DIR=" + s.path("cache-"+repository),
		"OCBACKUP_CONFIG=" + s.path("ocbackup.toml"),
	}
}

func (s *bench) restic(args ...string) run {
	return s.do(exec.Command(env.Restic(s.t, "0.18"), args...), "plain")
}

func (s *bench) measure(args ...string) run {
	return s.do(exec.Command(s.ocbackup, args...), "repository")
}

// backup runs ocbackup, and takes from its result how long the server was away.
func (s *bench) backup() run {
	s.t.Helper()
	r := s.measure("--json", "backup")
	var res struct {
		Downtime struct {
			Total float64 `json:"total_s"`
			Stop  float64 `json:"stop_s"`
			Start float64 `json:"start_s"`
			Ready float64 `json:"ready_s"`
		} `json:"downtime"`
	}
	s.ok(json.Unmarshal([]byte(r.out), &res))
	if res.Downtime.Total == 0 {
		s.t.Fatalf("no downtime in %s", r.out)
	}
	r.store = res.Downtime.Total - res.Downtime.Stop - res.Downtime.Start - res.Downtime.Ready
	return r
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// do runs a command and measures it. The peak of its memory is the kernel's own
// (VmHWM), read again and again: after the end only one that counts children in is
// to be had.
func (s *bench) do(cmd *exec.Cmd, repository string) run {
	s.t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Env = append(os.Environ(), s.env(repository)...)
	syscall.Sync()
	begun := time.Now()
	s.ok(cmd.Start())
	done := make(chan struct{})
	var rss float64
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err == nil {
				if m := peak.FindSubmatch(b); m != nil {
					kib, _ := strconv.ParseFloat(string(m[1]), 64)
					rss = max(rss, kib/1024)
				}
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	err := cmd.Wait()
	wall := time.Since(begun)
	close(done)
	<-sampled
	if err != nil {
		s.t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), errOut.String())
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return run{wall: wall.Seconds(), cpu: used.Seconds(), rss: rss, out: out.String()}
}

// removeAside removes the old data that a restore has kept.
func (s *bench) removeAside() {
	dirs, err := filepath.Glob(s.path(".ocbackup-*"))
	s.ok(err)
	for _, d := range dirs {
		s.ok(os.RemoveAll(d))
	}
}
