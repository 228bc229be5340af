package repo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ocbackup/ocbackup/proc"
)

func TestPrepare(t *testing.T) {
	for _, c := range []struct {
		says, compression string
		want              Version
		old               bool
	}{
		{says: "restic 0.14.0 compiled with go1.19.3 on linux/amd64", want: Version{0, 14, 0}, old: true},
		{says: "restic 0.17.0 compiled with go1.22.5 on linux/amd64", want: Version{0, 17, 0}, old: true},
		{says: "restic 0.17.1 compiled with go1.23.0 on linux/amd64", want: Version{0, 17, 1}},
		{says: "restic 0.19.1-dev (compiled manually) compiled with go1.26", want: Version{0, 19, 1}, compression: "fastest"},
		{says: "restic 0.18.1 compiled with go1.24", want: Version{0, 18, 1}, compression: "better", old: true},
		{says: "restic 1.0 compiled with go1.30", want: Version{1, 0, 0}},
	} {
		r := fakeRestic(t, "echo '"+c.says+"'")
		r.opt.Compression = c.compression
		v, err := r.Prepare(ctx(t))
		var old *TooOldError
		if v != c.want || errors.As(err, &old) != c.old || !c.old && err != nil {
			t.Errorf("%s: %v, %v", c.says, v, err)
		}
	}
	if _, err := fakeRestic(t, "echo busybox").Prepare(ctx(t)); err == nil {
		t.Error("another program was taken for restic")
	}
	_, err := New(Options{Binary: "/no/restic"}).Prepare(ctx(t))
	var missing *NotInstalledError
	if !errors.As(err, &missing) || missing.Binary != "/no/restic" {
		t.Errorf("restic is missing: %v", err)
	}
}

const summaryLine = `echo '{"message_type":"summary","files_new":3,"snapshot_id":"` +
	`0123456789012345678901234567890123456789012345678901234567890123"}'` + "\n"

// TestBackupEndings are the ways a backup can end that the real restic won't take on demand.
func TestBackupEndings(t *testing.T) {
	spec := BackupSpec{Dir: "/", Targets: []string{"etc"}}
	long := strings.Repeat("x", 200<<10)
	for name, c := range map[string]struct {
		script string
		check  func(t *testing.T, sum Summary, err error)
	}{
		"good, amid words and messages of another version": {
			`echo 'some words'; echo '{"message_type":"novelty","files_new":[1]}'; echo '{"broken'
			printf '{"message_type":"status","current_files":["%s"]}\n' "` + long + `"
			echo 'more words' >&2; ` + summaryLine,
			func(t *testing.T, sum Summary, err error) {
				if err != nil || sum.FilesNew != 3 {
					t.Errorf("%+v, %v", sum, err)
				}
			},
		},
		"no summary": {"exit 0", func(t *testing.T, sum Summary, err error) {
			contains(t, err, "without saying what it stored")
		}},
		"no snapshot": {
			`echo '{"message_type":"summary","files_new":3}'`,
			func(t *testing.T, sum Summary, err error) { contains(t, err, "without naming a snapshot") },
		},
		"killed": {summaryLine + "kill -9 $$", func(t *testing.T, sum Summary, err error) {
			var x *proc.ExitError
			if !errors.As(err, &x) || x.Signal != syscall.SIGKILL || sum.SnapshotID != "" {
				t.Errorf("%+v, %v", sum, err)
			}
			contains(t, err, "restic backup", "killed")
		}},
		"incomplete": {
			`item() { echo '{"message_type":"error","error":{"message":"open '$2': permission denied"},"during":"'$1'","item":"'$2'"}' >&2; }
			item scan /etc/a; item archival /etc/a; item archival /etc/a; item scan /etc/gone; item archival /etc/b
			` + summaryLine + `echo '{"message_type":"exit_error","code":3,"message":"Warning: at least one source file could not be read"}' >&2
			exit 3`,
			func(t *testing.T, sum Summary, err error) {
				var inc *IncompleteError
				if !errors.As(err, &inc) || len(inc.Items) != 2 || inc.Items[0].Path != "/etc/a" || inc.More != 0 || sum.SnapshotID == "" {
					t.Errorf("%+v, %+v", sum, err)
				}
				contains(t, err, "2 items could not be read", "/etc/a: open /etc/a: permission denied")
			},
		},
		"incomplete, much": {
			`i=0; while [ $i -lt 150 ]; do echo '{"message_type":"error","error":{"message":"no"},"during":"archival","item":"/etc/'$i'"}' >&2; i=$((i+1)); done
			` + summaryLine + "exit 3",
			func(t *testing.T, sum Summary, err error) {
				var inc *IncompleteError
				if !errors.As(err, &inc) || len(inc.Items) != 100 || inc.More != 50 {
					t.Errorf("%+v", err)
				}
			},
		},
		"incomplete, without saying what": {summaryLine + "echo 'Warning: at least one source file could not be read' >&2; exit 3", func(t *testing.T, sum Summary, err error) {
			var inc *IncompleteError
			if !errors.As(err, &inc) || len(inc.Items) != 1 {
				t.Errorf("%+v", err)
			}
			contains(t, err, "at least one source file could not be read")
		}},
		"disk full": {
			`echo '{"message_type":"exit_error","code":1,"message":"Fatal: unable to save snapshot: write /srv/backup/data/tmp: no space left on device"}' >&2; exit 1`,
			func(t *testing.T, sum Summary, err error) {
				contains(t, err, "exit code 1", "no space left on device")
				if strings.Contains(err.Error(), "Fatal") {
					t.Errorf("restic's shouting: %v", err)
				}
			},
		},
		"plain words, as up to 0.17": {
			`echo 'using cache' >&2; echo 'Fatal: unable to save snapshot: out of luck' >&2; exit 1`,
			func(t *testing.T, sum Summary, err error) {
				contains(t, err, "exit code 1: unable to save snapshot: out of luck")
			},
		},
		"an error with its stack": {
			`printf '%s\n' '{"message_type":"exit_error","code":1,"message":"bad thing\ninternal/cache.New\n\tcache.go:125\nmain.main\n\tmain.go:196\nouter"}' >&2; exit 1`,
			func(t *testing.T, sum Summary, err error) {
				if err == nil || err.Error() != "restic backup: exit code 1: bad thing\nouter" {
					t.Errorf("%q", err)
				}
			},
		},
		"crash": {
			`printf 'panic: slice bounds out of range\n\ngoroutine 1 [running]:\nmain.main()\n' >&2; exit 2`,
			func(t *testing.T, sum Summary, err error) {
				contains(t, err, "panic: slice bounds out of range")
				if strings.Contains(err.Error(), "goroutine") {
					t.Errorf("a stack in an error: %v", err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sum, err := fakeRestic(t, c.script).Backup(ctx(t), spec)
			c.check(t, sum, err)
		})
	}
}

func TestRefused(t *testing.T) {
	r := fakeRestic(t, "exit 99")
	for name, s := range map[string]BackupSpec{
		"relative folder":   {Dir: "etc", Targets: []string{"x"}},
		"no target":         {Dir: "/"},
		"absolute target":   {Dir: "/", Targets: []string{"/etc"}},
		"target outside":    {Dir: "/etc", Targets: []string{"../x"}},
		"the folder itself": {Dir: "/etc", Targets: []string{"."}},
		"two tags in one":   {Dir: "/", Targets: []string{"x"}, Tags: []string{"a,b"}},
		"no tag":            {Dir: "/", Targets: []string{"x"}, Tags: []string{""}},
		"negated pattern":   {Dir: "/", Targets: []string{"x"}, Exclude: []string{"!/x"}},
	} {
		if _, err := r.Backup(ctx(t), s); err == nil || strings.Contains(err.Error(), "99") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []string{"", "latest", "0123abcd", "--prune"} {
		if err := r.Forget(ctx(t), id); err == nil || strings.Contains(err.Error(), "99") {
			t.Errorf("forget %q: %v", id, err)
		}
	}
	if err := r.Forget(ctx(t)); err != nil {
		t.Errorf("forget nothing: %v", err)
	}
}

func TestRestoreEndings(t *testing.T) {
	spec := RestoreSpec{Snapshot: "latest", Target: "/nowhere"}
	for name, c := range map[string]struct{ script, want string }{
		"fewer than there are":  {`echo '{"message_type":"summary","total_files":5,"files_restored":4,"files_skipped":9}'`, "of 5 files it restored 4"},
		"errors, yet exit 0":    {`echo '{"message_type":"error","error":{"message":"bad data"},"during":"restore","item":"/f"}' >&2; echo '{"message_type":"summary","total_files":5,"files_restored":5}'`, "1 item could not be restored; /f: bad data"},
		"nothing said":          {`exit 0`, "without saying what it restored"},
		"snapshot is not there": {`echo '{"message_type":"exit_error","code":1,"message":"Fatal: failed to find snapshot: no matching ID found"}' >&2; exit 1`, "failed to find snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := fakeRestic(t, c.script).Restore(ctx(t), spec)
			contains(t, err, c.want)
		})
	}
}

// TestUnreachable: restic would try for 15 minutes.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	r := fakeRestic(t, `
for i in 1 2 3 4 5; do
  echo 'Stat(<config/>) returned error, retrying after 667.017457ms: Head "http://user:***@127.0.0.1:9/config": dial tcp 127.0.0.1:9: connect: connection refused' >&2
done
exec sleep 1000`)
	_, err := r.ID(ctx(t))
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("%v", err)
	}
	contains(t, err, "connection refused", r.Location())
	if strings.Contains(err.Error(), "retrying") {
		t.Errorf("it is not retrying any more: %v", err)
	}
}

func TestLockedForGood(t *testing.T) {
	t.Parallel()
	r := fakeRestic(t, `echo "$@" >>"$0.calls"
[ "$1" = unlock ] && exit 0
printf 'unable to create lock in backend: repository is already locked exclusively by PID 15158 on vm by root (UID 0, GID 0)\nlock was created at 2026-11-23 02:51:54 (9.4s ago)\nstorage ID 03dc6e26\n' >&2
exit 11`)
	r.opt.RetryLock = 90e9
	_, err := r.Snapshots(ctx(t))
	if !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	contains(t, err, "by PID 15158 on vm by root (UID 0, GID 0), lock was created at 2026-11-23 02:51:54")
	b, err := os.ReadFile(r.opt.Binary + ".calls")
	want := "snapshots --json --host=cloud.example.com\nunlock\nsnapshots --retry-lock=1m30s --json --host=cloud.example.com\n"
	if err != nil || string(b) != want {
		t.Errorf("calls:\n%s\nwant:\n%s", b, want)
	}
}

// TestBrokenCache: the cache's version file is empty, for a moment or for good.
func TestBrokenCache(t *testing.T) {
	t.Parallel()
	const broken = ` printf 'strconv.ParseUint: parsing "": invalid syntax\nreadVersion\ncache.readVersion\n\tcache.go:38\nmain.main\n\tmain.go:196\n' >&2; exit 1; }
echo '{"id":"abc"}'`
	for name, c := range map[string]struct{ script, want string }{
		"for a moment": {`[ $(wc -l <"$0.calls") = 1 ] && {` + broken, "cat --no-lock --json config\ncat --no-lock --json config\n"},
		"for good": {
			`[ "$2" != --no-cache ] && {` + broken,
			"cat --no-lock --json config\ncat --no-lock --json config\ncat --no-cache --no-lock --json config\n",
		},
	} {
		r := fakeRestic(t, `echo "$@" >>"$0.calls"; `+c.script)
		if id, err := r.ID(ctx(t)); err != nil || id != "abc" {
			t.Errorf("%s: %q, %v", name, id, err)
		}
		if b, err := os.ReadFile(r.opt.Binary + ".calls"); err != nil || string(b) != c.want {
			t.Errorf("%s: calls:\n%s", name, b)
		}
	}
}

// TestSecrets: what restic prints about credentials ends up nowhere.
func TestSecrets(t *testing.T) {
	t.Setenv("AWS_SESSION_TOKEN", "inherited-token")
	r := fakeRestic(t, `echo "$@" >"$0.args"
echo '{"message_type":"error","error":{"message":"say \"code\" or s3cr\"et"},"during":"archival","item":"/f"}' >&2
echo '{"message_type":"exit_error","code":1,"message":"Fatal: denied: http://u:p%40ss@h/ p@ss inherited-token code"}' >&2; exit 1`)
	// Secrets that are part of the JSON itself, or that JSON spells in another way.
	r.opt.Env = map[string]string{"X_KEY": "code", "Y_SECRET": `s3cr"et`, "Z_REGION": "exit", "Z_KEY_FILE": "denied"}
	r.opt.Location = "rest:http://u:p%40ss@h/"
	_, err := r.Backup(ctx(t), BackupSpec{Dir: "/", Targets: []string{"etc"}})
	contains(t, err, "denied: http://u:***@h/ *** *** ***")
	args, readErr := os.ReadFile(r.opt.Binary + ".args")
	if readErr != nil || strings.Contains(string(args), "p%40ss") {
		t.Errorf("arguments: %s (%v)", args, readErr)
	}
	r = fakeRestic(t, `echo '{"message_type":"error","error":{"message":"say s3cr\"et"},"during":"archival","item":"/f"}' >&2; exit 3`)
	r.opt.Env = map[string]string{"Y_PASSWORD": `s3cr"et`}
	_, err = r.Backup(ctx(t), BackupSpec{Dir: "/", Targets: []string{"etc"}})
	contains(t, err, "/f: say ***")
}

func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"RESTIC_REPOSITORY_FILE": "/other", "RESTIC_HOST": "other", "RESTIC_FROM_REPOSITORY": "/other",
		"RESTIC_PASSWORD_COMMAND": "other", "RESTIC_PASSWORD": "other", "RESTIC_IGNORE_INODE": "true",
		"RESTIC_PROGRESS_FPS": "60", "RESTIC_CACERT": "/ca.pem", "RESTIC_CACHE_DIR": "/other",
	} {
		t.Setenv(name, value)
	}
	dump := func(opt Options) string {
		r := fakeRestic(t, `env | sort >"$0.env"; echo '{"id":"abc"}'`)
		opt.Binary = r.opt.Binary
		opt.Location = "repository"
		r = New(opt)
		if _, err := r.ID(ctx(t)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(r.opt.Binary + ".env")
		if err != nil {
			t.Fatal(err)
		}
		var l []string
		for _, line := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(line, "RESTIC_") || strings.HasPrefix(line, "TMPDIR") || strings.HasPrefix(line, "AWS_ACCESS") {
				l = append(l, line)
			}
		}
		return strings.Join(l, "\n")
	}
	at, err := filepath.Abs("repository")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	opt := Options{
		PasswordFile: "/pw", CacheDir: "/cache", TempDir: "/dev/shm",
		Env: map[string]string{"AWS_ACCESS_KEY_ID": "key", "RESTIC_REPOSITORY": "/other"},
	}
	want := "AWS_ACCESS_KEY_ID=key\nRESTIC_CACERT=/ca.pem\nRESTIC_CACHE_DIR=/cache\nRESTIC_PASSWORD_FILE=/pw\n" +
		"RESTIC_PROGRESS_FPS=0.2\nRESTIC_REPOSITORY=" + at + "\nTMPDIR=/dev/shm"
	if got := dump(opt); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Without an option, restic's own variables hold; those of Env come first, and alone.
	if got := dump(Options{}); !strings.Contains(got, "RESTIC_PASSWORD=other\nRESTIC_PASSWORD_COMMAND=other\n") {
		t.Errorf("inherited password: %s", got)
	}
	if got := dump(Options{Env: map[string]string{"RESTIC_PASSWORD_FILE": "/of-env"}}); strings.Contains(got, "PASSWORD_COMMAND") || !strings.Contains(got, "RESTIC_PASSWORD_FILE=/of-env") {
		t.Errorf("password of Env: %s", got)
	}
	for _, name := range passwordVars {
		t.Setenv(name, "")
	}
	if _, err := New(Options{Location: "/x"}).ID(ctx(t)); !errors.Is(err, ErrNoPassword) {
		t.Errorf("no password: %v", err)
	}
}

func TestLocation(t *testing.T) {
	for loc, want := range map[string]string{
		"/srv/backup":                             "/srv/backup",
		"local:/srv/backup":                       "local:/srv/backup",
		"rest:https://user:pass@host:8000/path":   "rest:https://user:***@host:8000/path",
		"rest:https://user:p:a@ss@host/path":      "rest:https://user:***@host/path",
		"rest:https://host:8000/user:x@path":      "rest:https://host:8000/user:x@path",
		"sftp://user@host:2222//srv/backup":       "sftp://user@host:2222//srv/backup",
		"sftp:user@host:/srv/backup":              "sftp:user@host:/srv/backup",
		"s3:https://s3.example.com/bucket/prefix": "s3:https://s3.example.com/bucket/prefix",
		"rest:https://user:pass@host":             "rest:https://user:***@host",
		"rest:https://user:p/a@ss@host:8000/path": "rest:https://user:***@host:8000/path",
		"rest:http://user:p%zz@host/path":         "rest:http://user:***@host/path",
		"rest:https://host:8000/a@b":              "rest:https://host:8000/a@b",
		"rest:https://user@host/r":                "rest:https://user@host/r",
		"sftp://user:pass@host:2222//srv/backup":  "sftp://user:***@host:2222//srv/backup",
		"/srv/u:p@x":                              "/srv/u:p@x",
		"swift:container:/path":                   "swift:container:/path",
	} {
		if got := New(Options{Location: loc}).Location(); got != want {
			t.Errorf("%s: %s, want %s", loc, got, want)
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for loc, want := range map[string]string{"repo": wd + "/repo", "local:repo": "local:" + wd + "/repo", "../r": filepath.Dir(wd) + "/r"} {
		if got := New(Options{Location: loc}).Location(); got != want {
			t.Errorf("%s: %s, want %s", loc, got, want)
		}
	}
}

// A restic that knows the feature leaves device numbers out; one that no longer knows
// it is run without. What the admin asks for stays.
func TestDeviceNumbersAreLeftOut(t *testing.T) {
	t.Setenv("RESTIC_FEATURES", "backend-error-redesign=false")
	for _, c := range []struct{ name, knows, want string }{
		{"known", "", "backend-error-redesign=false,device-id-for-hardlinks=true"},
		{"gone", `case "$RESTIC_FEATURES" in *device*) echo 'unknown feature flag' >&2; exit 1;; esac;`, "backend-error-redesign=false"},
	} {
		seen := filepath.Join(t.TempDir(), "features")
		r := fakeRestic(t, c.knows+`case "$*" in
			*version*) echo 'restic 0.19.1 compiled with go1.26' ;;
			*) printf %s "$RESTIC_FEATURES" >`+seen+"; "+summaryLine+` ;;
			esac`)
		if _, err := r.Prepare(ctx(t)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, err := r.Backup(ctx(t), BackupSpec{Dir: "/", Targets: []string{"etc"}}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got, _ := os.ReadFile(seen); string(got) != c.want {
			t.Errorf("%s: the backup runs with RESTIC_FEATURES=%s, want %s", c.name, got, c.want)
		}
	}
}
