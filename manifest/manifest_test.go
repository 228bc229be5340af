package manifest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/repo"
)

func TestSetID(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 15, 0, 0, time.FixedZone("CET", 3600))
	id := NewSetID(at)
	if !strings.HasPrefix(id, "20261123T021500Z-") || !setID.MatchString(id) {
		t.Errorf("set id %q", id)
	}
	seen := map[string]bool{}
	for range 8 {
		seen[NewSetID(at)] = true
	}
	if len(seen) < 2 {
		t.Error("ids of the same second do not differ")
	}
	for tags, want := range map[string]string{
		"set=" + id:                    id,
		"set=nonsense":                 "",
		"set=20261123T021500Z-7f3a/..": "", // never part of a path or a tag list that we did not make
		"other":                        "",
	} {
		if got := SetOf(repo.Snapshot{Tags: []string{"config", tags}}); got != want {
			t.Errorf("%s: %q, want %q", tags, got, want)
		}
	}
}

func set(id, instance string, full bool) Set {
	return Set{ID: id, Manifest: &Manifest{Instance: instance, Full: full}}
}

func TestPick(t *testing.T) {
	const a, b, c, d = "20261121T000000Z-aaaa", "20261122T000000Z-bbbb", "20261122T120000Z-cccc", "20261123T000000Z-dddd"
	sets := []Set{set(a, "cloud", true), set(b, "cloud", true), set(c, "cloud", false), {ID: d, Err: errors.New("damaged")}}
	for _, tc := range []struct{ name, id, want string }{
		{"latest is the newest full and sound one", "latest", b},
		{"nothing means latest", "", b},
		{"a whole id", c, c},
		{"a damaged one, by its id", d, d},
		{"a prefix", "20261121", a},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Pick(sets, tc.id, "cloud")
			if err != nil || s.ID != tc.want {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	var several *AmbiguousError
	if _, err := Pick(sets, "20261122", "cloud"); !errors.As(err, &several) || len(several.IDs) != 2 || fail.CodeOf(err) != fail.Usage {
		t.Errorf("two match: %v", err)
	}
	var none *NotFoundError
	if _, err := Pick(sets, "2025", "cloud"); !errors.As(err, &none) {
		t.Errorf("none matches: %v", err)
	}
	if _, err := Pick(nil, "latest", "cloud"); !errors.As(err, &none) || !strings.Contains(err.Error(), "no set") {
		t.Errorf("no sets at all: %v", err)
	}
	broken := []Set{set(a, "cloud", true)}
	broken[0].Missing = []string{"users"}
	if _, err := Pick(broken, "latest", "cloud"); !errors.As(err, &none) {
		t.Errorf("latest with snapshots gone: %v", err)
	}
	var instances *InstancesError
	both := []Set{set(a, "cloud", true), set(b, "other", true)}
	if _, err := Pick(both, "latest", ""); !errors.As(err, &instances) {
		t.Errorf("latest of several instances: %v", err)
	}
}

// A set in which data of users is missing is never the latest, and whoever asks for that
// learns that it was passed over.
func TestPassedOver(t *testing.T) {
	lost := func(s Set) Set {
		s.Manifest.Certificate = &Proof{Fatal: 1}
		return s
	}
	const a, b, c, d = "20261121T000000Z-aaaa", "20261122T000000Z-bbbb", "20261123T000000Z-cccc", "20261124T000000Z-dddd"
	sets := []Set{lost(set(a, "cloud", true)), set(b, "cloud", true), lost(set(c, "cloud", true)), lost(set(d, "cloud", false))}
	sets[1].Manifest.Certificate = &Proof{Findings: 3}
	s, err := Pick(sets, "", "cloud")
	if err != nil || s.ID != b {
		t.Errorf("latest is %v (%v)", s, err)
	}
	if got := PassedOver(sets, ""); !slices.Equal(got, []string{c}) {
		t.Errorf("passed over: %v", got)
	}
	if got := PassedOver(sets, b); got != nil {
		t.Errorf("passed over for a set that was named: %v", got)
	}
	if s, err := Pick(sets, c, "cloud"); err != nil || s.ID != c || !s.Inconsistent() {
		t.Errorf("by its id: %v (%v)", s, err)
	}
	var none *NotFoundError
	if _, err := Pick(sets[2:], "latest", "cloud"); !errors.As(err, &none) {
		t.Errorf("none is consistent: %v", err)
	}
}

// What can't be read right now is no damage: a set that is called damaged may be removed.
func TestUnreadableIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	password, restic := filepath.Join(dir, "password"), filepath.Join(dir, "restic")
	snaps := []repo.Snapshot{{ID: "1111", Tags: []string{Tag, SetTag("20261121T000000Z-aaaa")}}}
	for _, tc := range []struct {
		name, script string
		damaged      bool
	}{
		{"not in the snapshot", `echo 'Fatal: cannot dump file: path "/manifest" not found in snapshot' >&2; exit 1`, true},
		{"damaged data", `echo 'Fatal: cannot dump file: decrypting blob <tree/ec3c2e95> from ad6a8f55 failed: ciphertext verification failed' >&2; exit 1`, true},
		{"damaged text", `echo '{"format":'`, true},
		{"network", `echo 'Fatal: cannot dump file: ReadFull(<data/ad6a8f557b>): dial tcp: connection refused' >&2; exit 1`, false},
		{"lock", `echo 'unable to create lock in backend: repository is already locked by PID 1' >&2; exit 11`, false},
		{"killed", `kill -9 $$`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, text := range map[string]string{password: "x", restic: "#!/bin/sh\n" + tc.script} {
				if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			r := repo.New(repo.Options{Binary: restic, Location: dir, PasswordFile: password})
			sets, err := FromSnapshots(t.Context(), r, snaps, "")
			if (err == nil) != tc.damaged || err == nil && (len(sets) != 1 || sets[0].Err == nil) {
				t.Errorf("%+v, %v", sets, err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	good, err := json.Marshal(Manifest{Format: Format, Set: "20261121T000000Z-aaaa", Roots: make([]Root, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode([]byte(strings.Replace(string(good), "{", `{"a_field_of_the_future": [1],`, 1))); err != nil {
		t.Errorf("unknown fields are to be ignored: %v", err)
	}
	for name, data := range map[string]string{
		"garbage":          "\x00\x01",
		"cut off":          string(good[:len(good)/2]),
		"another format":   strings.Replace(string(good), `"format":1`, `"format":2`, 1),
		"no roots":         strings.Replace(string(good), `"roots":[{`, `"no_roots":[{`, 1),
		"an unsafe set id": strings.Replace(string(good), "20261121T000000Z-aaaa", "../../etc", 1),
	} {
		if _, err := Decode([]byte(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRecoveryTextOfABucket(t *testing.T) {
	m := &Manifest{
		Set: "20261121T000000Z-aaaa", Instance: "cloud", Layout: opencloud.Layout{Driver: opencloud.DecomposedS3},
		Bucket: &Bucket{Endpoint: "https://s3.example.com", Region: "default", Name: "blobs", Objects: 7, Bytes: 99, Pool: Pool{Location: "/srv/pool"}},
	}
	clear := string(RecoveryText(m, "/srv/backup"))
	for _, want := range []string{"/srv/pool", `"blobs"`, "https://s3.example.com", "7 objects (99 bytes)", "dump --tag manifest,set=20261121T000000Z-aaaa latest /manifest/inventory.jsonl"} {
		if !strings.Contains(clear, want) {
			t.Errorf("%q is missing in:\n%s", want, clear)
		}
	}
	if strings.Contains(clear, "crypt") || strings.Contains(clear, "--pool-env-file") {
		t.Errorf("it speaks of encryption or keys:\n%s", clear)
	}
	m.Bucket.Pool.Encrypted = true
	for pool, remote := range map[string]string{
		"/srv/pool":                            "remote = /srv/pool/encrypted\n",
		"s3:https://s3.example.com/pool/below": "remote = S3:pool/below/encrypted ",
		"sftp:me@host:pool":                    "remote = SFTP:pool/encrypted ",
		"sftp://me@host:22//srv/pool":          "remote = SFTP:PATH/encrypted ",
		"rclone:remote:pool/":                  "remote = remote:pool/encrypted\n",
	} {
		m.Bucket.Pool.Location = pool
		text := string(RecoveryText(m, "/srv/backup"))
		if !strings.Contains(text, remote) || !strings.Contains(text, "--pool-password-file") || strings.Contains(text, "--pool-env-file") != strings.HasPrefix(pool, "s3:") {
			t.Errorf("%s: %q is not in:\n%s", pool, remote, text)
		}
	}
}

func TestRecoveryText(t *testing.T) {
	m := &Manifest{
		Set: "20261121T000000Z-aaaa", Instance: "cloud", OpenCloud: "4.0.0",
		Layout: opencloud.Layout{Driver: opencloud.Posix, ConfigDir: "/etc/opencloud", DataDir: "/srv/oc", UsersRoot: "/srv/oc/storage/users"},
		Roots: []Root{
			{Root: opencloud.Root{Name: "system"}, Real: "/srv/oc", Snapshot: "1111111111111111"},
			{Root: opencloud.Root{Name: "users"}, Real: "/srv/oc/storage/users", Snapshot: "2222222222222222"},
			{Root: opencloud.Root{Name: "binary"}, Command: []string{"docker", "image", "save"}, Snapshot: "3333333333333333"},
			{Root: opencloud.Root{Name: "search"}},
		},
		NotProtected: []string{"service postgres"},
	}
	text := string(RecoveryText(m, "/srv/backup"))
	users, system := strings.Index(text, "restore 22222222"), strings.Index(text, "restore 11111111")
	if users < 0 || system < 0 || users > system {
		t.Errorf("inner roots come before outer ones, so that directory times come out right:\n%s", text)
	}
	for _, want := range []string{"ocbackup restore --repository /srv/backup --password-file FILE 20261121T000000Z-aaaa", "dump 33333333 /image.tar", "opencloud.yaml", "service postgres", `--target "/srv/oc/storage"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}
