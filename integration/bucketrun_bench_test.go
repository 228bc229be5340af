//go:build integration && bench

package integration

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/ocbackup/ocbackup/integration/env"
	"github.com/ocbackup/ocbackup/integration/objects"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// rcloneBest are the flags with which rclone is fastest: without them it lists each
// directory by itself, and asks for the time of each object.
var rcloneBest = []string{"--size-only", "--fast-list", "--checkers", "16", "--transfers", "16"}

// bucketBench is a bucket of a server, and a second server.
type bucketBench struct {
	*bench
	near, far *env.S3
	bucket    place
	spaces    []string
	objects   int
	bytes     int
	random    *rand.ChaCha8
}

// place is a bucket of a server, or a directory.
type place struct {
	name   string
	target s3mirror.Target // as a pool
	remote string          // as rclone calls it
	dir    string          // where its files are
	state  string          // state directory of a mirror to it
}

func newBucketBench(b *testing.B) *bucketBench {
	b.Helper()
	if _, err := os.Stat(env.Tools("rclone/rclone")); err != nil {
		b.Skipf("rclone is missing: run tools/rclone.sh: %v", err)
	}
	s := &bucketBench{
		bench: &bench{cloud: &cloud{t: b, dir: b.TempDir()}}, near: env.S3Server(b), far: env.S3Server(b),
		random: rand.NewChaCha8([32]byte{}),
	}
	b.Setenv("RCLONE_CONFIG", "/notfound") // rclone's own word for none
	for name, server := range map[string]*env.S3{"NEAR": s.near, "FAR": s.far} {
		for option, value := range map[string]string{
			"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": server.Endpoint, "REGION": server.Region,
			"ACCESS_KEY_ID": server.AccessKey, "SECRET_ACCESS_KEY": server.SecretKey,
			"LIST_VERSION": "2", "FORCE_PATH_STYLE": "true", "NO_CHECK_BUCKET": "true",
		} {
			b.Setenv("RCLONE_CONFIG_"+name+"_"+option, value)
		}
	}
	return s
}

// with is the same with another bucket, which is new.
func (s *bucketBench) with(name string) *bucketBench {
	s.t.Helper()
	other := *s
	other.bucket = s.place(s.near, name)
	for range benchSpaces {
		other.spaces = append(other.spaces, uuid.NewString())
	}
	return &other
}

// place makes a bucket, or names a directory that does not exist yet.
func (s *bucketBench) place(server *env.S3, name string) place {
	s.t.Helper()
	if server == nil {
		return place{name, s3mirror.Target{Location: s.path(name)}, s.path(name), s.path(name), s.path("state", name)}
	}
	server.Bucket(s.t, name)
	remote := map[*env.S3]string{s.near: "near", s.far: "far"}[server]
	return place{
		name,
		s3mirror.Target{Location: "s3:" + server.Endpoint + "/" + name, Keys: keysOf(server), Region: server.Region},
		remote + ":" + name, filepath.Join(server.Dir, name), s.path("state", remote, name),
	}
}

func keysOf(s *env.S3) s3mirror.Keys { return s3mirror.Keys{Access: s.AccessKey, Secret: s.SecretKey} }

// fill adds objects to the bucket, as many to each space.
func (s *bucketBench) fill(n, size int) { s.fillAs(n, size, objects.Key) }

// flat is a key with one level of directories in place of four: the gateway takes
// them several times faster.
func flat(space, blob string) string { return space + "/" + blob[:2] + "/" + blob[2:] }

func (s *bucketBench) fillAs(n, size int, key func(space, blob string) string) {
	s.t.Helper()
	content := make([]byte, size)
	_, _ = s.random.Read(content)
	s.near.Fill(s.t, s.bucket.name, func(yield func(string, []byte) bool) {
		for i := range n {
			binary.LittleEndian.PutUint64(content, s.random.Uint64())
			if !yield(key(s.spaces[i*benchSpaces/n], uuid.NewString()), content) {
				return
			}
		}
	})
	s.objects += n
	s.bytes += n * size
}

// inTurns does two things; which of them is the first changes from round to round: who
// writes after much was written or removed is slower.
func inTurns(round int, a, b func()) {
	if round%2 == 1 {
		a, b = b, a
	}
	a()
	b()
}

// holds makes sure of what was copied.
func (s *bucketBench) holds(p place, want int) {
	s.t.Helper()
	n := 0
	s.ok(filepath.WalkDir(p.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	if n != want {
		s.t.Fatalf("%s holds %d objects, want %d", p.remote, n, want)
	}
}

// empty removes copies that are not needed any more.
func (s *bucketBench) empty(places ...place) {
	s.t.Helper()
	for _, p := range places {
		s.ok(errors.Join(os.RemoveAll(p.dir), os.RemoveAll(p.state)))
	}
}

// rclone runs the command of that name.
func (s *bucketBench) rclone(do, from, to string, flags ...string) run {
	s.t.Helper()
	return s.do(exec.Command(env.Tools("rclone/rclone"), append([]string{do, from, to}, flags...)...), "")
}

// list lists the bucket, and does nothing else.
func (s *bucketBench) list() run {
	s.t.Helper()
	r, o := s.child(job{Do: "list", Bucket: s.as(s.bucket)})
	if o.Objects != uint64(s.objects) {
		s.t.Fatalf("%d objects were listed, want %d", o.Objects, s.objects)
	}
	return r
}

// mirror copies the bucket, in which wants objects are new.
func (s *bucketBench) mirror(to place, wants int) run {
	s.t.Helper()
	s.ok(os.MkdirAll(to.state, 0o700))
	r, o := s.child(job{Do: "copy", Bucket: s.as(s.bucket), Target: to.target, StateDir: to.state})
	if o.Objects != uint64(s.objects) || o.New != uint64(wants) {
		s.t.Fatalf("of %d objects %d were copied, want %d of %d", o.Objects, o.New, wants, s.objects)
	}
	r.store, r.out = o.Seconds, o.Inventory
	return r
}

// restore brings an inventory's objects from a pool to a bucket.
func (s *bucketBench) restore(pool place, inventory string, to place) run {
	s.t.Helper()
	r, o := s.child(job{Do: "restore", Bucket: s.as(to), Target: pool.target, StateDir: pool.state, Inventory: inventory})
	if o.New != uint64(s.objects) {
		s.t.Fatalf("%d objects were restored, want %d", o.New, s.objects)
	}
	return r
}

// as is a bucket of the near server as s3mirror knows it.
func (s *bucketBench) as(p place) s3mirror.Bucket {
	return s3mirror.Bucket{Endpoint: s.near.Endpoint, Region: s.near.Region, Name: p.name, Keys: keysOf(s.near)}
}

// child has a job done in a process of its own.
func (s *bucketBench) child(j job) (r run, o outcome) {
	s.t.Helper()
	text, err := json.Marshal(j)
	s.ok(err)
	s.write("job.json", string(text))
	program, err := os.Executable()
	s.ok(err)
	r = s.do(exec.Command(program, childArg, s.path("job.json")), "")
	s.ok(json.Unmarshal([]byte(r.out), &o))
	return r, o
}

// comparison is a line of the table: ocbackup's figures, and what they are held against.
type comparison struct {
	name  string
	unit  string // of the figures; empty: s
	own   []float64
	with  string // what plain is of
	plain []float64
	aim   float64 // the most that the ratio may be; 0: none
	most  float64 // the most that the figure itself may be; 0: none
	// What is copied in that time; 0: it is no time of a copy.
	objects, bytes int
}

func (s *bucketBench) print(table []comparison) {
	fmt.Printf("\nObjects in %d spaces; median of %d rounds (min..max); memory with many objects: one round\n\n", benchSpaces, benchRounds)
	fmt.Print("| | ocbackup | against | ratio | aim |\n|---|---|---|---|---|\n")
	for _, c := range table {
		against, ratio, aim := "", "", ""
		if c.plain != nil {
			against, ratio = c.with+" "+c.figure(c.plain), fmt.Sprintf("%.2f", median(c.own)/median(c.plain))
		}
		switch {
		case c.aim > 0:
			aim = verdict(fmt.Sprintf("<= %g", c.aim), median(c.own)/median(c.plain) <= c.aim)
		case c.most > 0:
			aim = verdict(fmt.Sprintf("<= %g %s", c.most, c.unit), median(c.own) <= c.most)
		}
		fmt.Printf("| %s | %s | %s | %s | %s |\n", c.name, c.figure(c.own), against, ratio, aim)
	}
}

func sizeText(bytes int) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

func verdict(aim string, met bool) string {
	if met {
		return aim + ": met"
	}
	return aim + ": MISSED"
}

func (c comparison) figure(v []float64) string {
	unit := c.unit
	if unit == "" {
		unit = "s"
	}
	text := strings.TrimSpace(spread(v)) + " " + unit
	if c.objects > 0 {
		text += fmt.Sprintf(", %.3g/s, %.3g MiB/s", float64(c.objects)/median(v), float64(c.bytes)/(1<<20)/median(v))
	}
	return text
}
