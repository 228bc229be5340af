package restore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
	"github.com/pkg/xattr"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/recovery"
	"github.com/ocbackup/ocbackup/repo"
)

// keyFile holds all secrets of an instance. A server that is started without it may
// make new ones, with which nobody can log in.
const keyFile = "opencloud.yaml"

// checkKey makes sure that the instance has its opencloud.yaml after the restore.
func (r *run) checkKey(ctx context.Context) error {
	var conf *item
	for _, it := range r.items {
		if it.Name == "config" {
			conf = it
		}
	}
	if conf == nil {
		if path := filepath.Join(r.cfg.Layout.ConfigDir, keyFile); !paths.Exists(path) {
			return fail.Usagef("restore it as well: --component config,"+strings.ReplaceAll(join(r.res.Components), " ", ""),
				"there is no %s: the server must not be started without it, it would make new secrets that do not fit its data", path)
		}
		return nil
	}
	var b []byte
	err := fs.ErrNotExist
	if !conf.absent() {
		b, err = r.content(ctx, conf, keyFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fail.New(fail.Usage, fmt.Sprintf("set %s holds no %s (root %s): the server must not be started without it", r.set.ID, keyFile, conf.Name),
			"restore another set: see \"ocbackup list\"")
	}
	if err != nil {
		return r.Repo.Failure(err, "read "+keyFile+" of the set")
	}
	var keys map[string]any
	if err := yaml.Unmarshal(b, &keys); err != nil || len(keys) == 0 {
		return fail.New(fail.Inconsistent, fmt.Sprintf("the %s of set %s is no valid YAML", keyFile, r.set.ID), "restore another set: see \"ocbackup list\"")
	}
	return nil
}

// fileSystem is one file system that takes data.
type fileSystem struct {
	at     string // a directory on it
	bytes  uint64
	xattrs bool // extended attributes are restored to it
}

// checkRoom makes sure that the data fits, and that nothing of it would be lost.
func (r *run) checkRoom(ctx context.Context) error {
	var places []place
	for _, it := range r.items {
		places = append(places, place{it, it.group.anchor})
	}
	return r.checkFileSystems(ctx, places, r.InPlace)
}

// place says which directory takes an item's data.
type place struct {
	it *item
	at string
}

func (r *run) checkFileSystems(_ context.Context, places []place, inPlace bool) error {
	if os.Geteuid() != 0 {
		return fail.Usagef("run it as root", "only root can give files back to their owners")
	}
	systems := map[uint64]*fileSystem{}
	var order []uint64
	for _, p := range places {
		dir := existing(p.at)
		d, err := device(dir)
		if err != nil {
			return err
		}
		s := systems[d]
		if s == nil {
			s = &fileSystem{at: dir}
			systems[d] = s
			order = append(order, d)
		}
		s.bytes += p.it.needs(dir)
		s.xattrs = s.xattrs || p.it.Census == nil && p.it.Dir || p.it.Census != nil && p.it.Census.Xattrs > 0
	}
	for _, d := range order {
		s := systems[d]
		if err := s.probe(); err != nil {
			return fail.Wrap(fail.Usage, err, "the file system of "+s.at+" can't hold the data",
				"restore to a file system that takes owners and user extended attributes (ext4, xfs, btrfs, zfs): --map OLD=NEW")
		}
		if err := s.room(inPlace, r.Target != ""); err != nil {
			return err
		}
	}
	return nil
}

// room makes sure that the file system has room for the data and a tenth more.
func (s *fileSystem) room(inPlace, beside bool) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.at, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: s.at, Err: err}
	}
	free := st.Bavail * uint64(st.Bsize)
	hint := "make room, or restore with --in-place, which needs no second copy and can't be undone"
	if beside {
		hint = "make room, or choose another --target"
	}
	if inPlace {
		free = st.Blocks * uint64(st.Bsize)
		hint = "restore to a larger file system: --map OLD=NEW"
	}
	if need := s.bytes + s.bytes/10; need > free {
		return fail.Usagef(hint, "not enough room on the file system of %s: %s are needed, %s are free",
			s.at, humanize.IBytes(need), humanize.IBytes(free))
	}
	return nil
}

// probe makes sure that the file system takes owners and user extended attributes.
func (s *fileSystem) probe() (err error) {
	f, err := os.CreateTemp(s.at, ".ocbackup-probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if err := f.Chown(65534, 65534); err != nil {
		return err
	}
	if !s.xattrs {
		return nil
	}
	const name = "user.ocbackup.probe"
	want := []byte{0, 1, 255}
	if err := xattr.FSet(f, name, want); err != nil {
		return err
	}
	got, err := xattr.FGet(f, name)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("an extended attribute came back changed")
	}
	return xattr.FRemove(f, name)
}

// checkUsers finds out when a systemd unit of the set runs as a user that this host
// does not have: the restored server could not be started.
func (r *run) checkUsers(ctx context.Context) error {
	if r.cfg.Control.Type != "systemd" {
		return nil
	}
	for _, it := range r.items {
		if it.Name != "deployment" || it.absent() {
			continue
		}
		for _, inc := range it.Include {
			path := opencloud.Unglob(inc)
			if !strings.HasSuffix(path, ".service") {
				continue
			}
			b, err := r.content(ctx, it, path)
			if err != nil {
				return r.Repo.Failure(err, "read "+path+" of the set")
			}
			name := unitUser(string(b))
			if name == "" {
				continue
			}
			if _, err := user.Lookup(name); err == nil {
				continue
			}
			if _, err := user.LookupId(name); err == nil {
				continue
			}
			missing := fmt.Sprintf("%s runs as user %s, which this host does not have", filepath.Base(path), name)
			add := fmt.Sprintf("useradd --system%s --home-dir %s --shell /usr/sbin/nologin %s",
				r.ownerFlag(ctx), recovery.Quote(r.cfg.Layout.DataDir), name)
			if !r.DryRun && !r.noStart() {
				return fail.New(fail.Usage, missing, "add the user, then run this command again: "+add)
			}
			r.note(missing + ". Before it can start: " + add)
		}
	}
	return nil
}

// ownerFlag returns the useradd option for the user id that the set's files belong to.
func (r *run) ownerFlag(ctx context.Context) string {
	for _, it := range r.items {
		if it.Name != "config" || it.absent() {
			continue
		}
		flag := ""
		err := r.Repo.Ls(ctx, it.Snapshot, "/"+it.Entry, func(n repo.Node) error {
			if n.Name == keyFile && n.UID != 0 {
				flag = fmt.Sprintf(" --uid %d", n.UID)
			}
			return nil
		})
		if err == nil {
			return flag
		}
	}
	return ""
}

// unitUser returns the last User= of a unit file (systemd.exec(5)).
func unitUser(unit string) string {
	name := ""
	s := bufio.NewScanner(strings.NewReader(unit))
	for s.Scan() {
		if v, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "User="); ok {
			name = strings.TrimSpace(v)
		}
	}
	return name
}
