package env

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// S3 is an S3 server on this machine: versitygw, which keeps each bucket as a folder
// of files. It speaks plain HTTP and knows one user, who may do everything.
type S3 struct {
	Endpoint  string // URL
	Region    string
	AccessKey string
	SecretKey string
	Dir       string // a folder for each bucket

	addr     string
	health   string // a path that only this server answers
	versions string // where versioned buckets keep old versions; "" without
	daemon   *daemon
	log      *os.File
	client   *s3.Client
}

// S3Option is an option of S3Server.
type S3Option func(t testing.TB, s *S3)

// KeepVersions makes a server whose buckets can be Versioned and ObjectLocked.
func KeepVersions(t testing.TB, s *S3) { s.versions = t.TempDir() }

// S3Server starts an S3 server without buckets, and waits until it answers. It is gone
// when the test ends.
func S3Server(t testing.TB, options ...S3Option) *S3 {
	t.Helper()
	s := &S3{
		Region: "us-east-1", AccessKey: "opencloud-" + rand.Text()[:8], SecretKey: "secret-" + rand.Text(),
		Dir: t.TempDir(), health: "/" + rand.Text(),
	}
	for _, o := range options {
		o(t, s)
	}
	gatewayProgram(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "versitygw.log"))
	if err != nil {
		t.Fatal(err)
	}
	s.log = log
	t.Cleanup(func() {
		s.stop()
		_ = log.Close()
	})
	// Another program may take the port between its choice and its use.
	for try := 1; ; try++ {
		s.addr = freeAddr(t)
		err := s.start(t)
		if err == nil {
			break
		}
		if try == 5 || !errors.Is(err, errPortTaken) {
			t.Fatal(err)
		}
	}
	s.Endpoint = "http://" + s.addr
	s.client = s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, Region: s.Region, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
	return s
}

// gatewayProgram is the path of versitygw.
func gatewayProgram(t testing.TB) string {
	t.Helper()
	path := Tools("bin/versitygw")
	if _, err := os.Stat(path); err != nil {
		Need(t, fmt.Errorf("versitygw is missing: run tools/versitygw.sh: %w", err))
	}
	return path
}

// Client speaks to the server as its user, for what has no method here.
func (s *S3) Client() *s3.Client { return s.client }

// Stop ends the server; its port then refuses connections.
func (s *S3) Stop(t testing.TB) {
	t.Helper()
	s.stop()
}

func (s *S3) stop() {
	if s.daemon != nil {
		s.daemon.stop(unix.SIGKILL, 0) // nothing is under way that a test would miss
		s.daemon = nil
	}
}

// Start starts a stopped server again, on the same port and folders.
func (s *S3) Start(t testing.TB) {
	t.Helper()
	if err := s.start(t); err != nil {
		t.Fatal(err)
	}
}

var errPortTaken = errors.New("the port is taken")

func (s *S3) start(t testing.TB) error {
	t.Helper()
	args := []string{"--port", s.addr, "--region", s.Region, "--health", s.health, "--keep-alive", "--quiet", "posix"}
	if s.versions != "" {
		args = append(args, "--versioning-dir", s.versions)
	}
	cmd := exec.Command(gatewayProgram(t), append(args, s.Dir)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	d, err := startDaemon(cmd, unix.SIGKILL, 0)
	if err != nil {
		return err
	}
	s.daemon = d
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !s.answers(ctx) {
		select {
		case <-d.done:
			s.daemon = nil
			log := readString(s.log.Name())
			err = fmt.Errorf("versitygw does not start: %s", log)
			if strings.Contains(log, unix.EADDRINUSE.Error()) {
				err = errors.Join(errPortTaken, err)
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("versitygw does not answer: %s", readString(s.log.Name()))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (s *S3) answers(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+s.health, nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// AWSEnv is the environment by which S3 clients know the user.
func (s *S3) AWSEnv() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey}
}

// AWSFile writes AWSEnv to a file that only its owner reads, and returns its path.
func (s *S3) AWSFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "aws.env")
	if err := os.WriteFile(path, []byte(strings.Join(s.AWSEnv(), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// OpenCloudEnv is the environment of an OpenCloud whose files are in a bucket here.
// endpoint is another address of the server, such as a Proxy's, or "".
func (s *S3) OpenCloudEnv(bucket, endpoint string) []string {
	if endpoint == "" {
		endpoint = s.Endpoint
	}
	const prefix = "STORAGE_USERS_DECOMPOSEDS3_"
	return []string{
		prefix + "ENDPOINT=" + endpoint, prefix + "REGION=" + s.Region, prefix + "BUCKET=" + bucket,
		prefix + "ACCESS_KEY=" + s.AccessKey, prefix + "SECRET_KEY=" + s.SecretKey,
	}
}

// BucketName is the name of a ServerBucket: the default of OpenCloud's compose project.
const BucketName = "opencloud-bucket"

// ServerBucket starts an S3 server with the bucket of an instance whose driver is
// decomposeds3, and returns it with the environment of that instance. What is in the
// bucket is the recorded tree's, nothing for none.
func ServerBucket(t testing.TB, tree Tree) (*S3, []string) {
	t.Helper()
	s := S3Server(t)
	s.Bucket(t, BucketName)
	if tree.Bucket != "" {
		s.LoadBucket(t, BucketName, tree.Bucket)
	}
	return s, s.OpenCloudEnv(BucketName, "")
}
