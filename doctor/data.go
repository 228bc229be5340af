package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/guard"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/index"
	"github.com/ocbackup/ocbackup/paths"
	"github.com/ocbackup/ocbackup/proc"
)

// roots looks whether everything that is to be backed up is there and can be read.
type roots struct{}

func (roots) Name() string { return "data" }

func (roots) Run(_ context.Context, s *Subject) []Finding {
	var out []Finding
	for _, r := range s.Config.Layout.Roots() {
		if f, bad := look(r); bad {
			out = append(out, f)
		}
	}
	if dir := s.Config.Layout.ConfigDir; paths.IsDir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "opencloud.yaml")); errors.Is(err, fs.ErrNotExist) {
			out = append(out, warning("correct config_dir in [layout], unless all secrets come from the environment",
				"%s holds no opencloud.yaml: a restored server would have other secrets than its data", dir))
		}
	}
	if len(out) == 0 {
		return okay("%s, all there", plural(len(s.Config.Layout.Roots()), "root", "roots"))
	}
	return out
}

// look looks at one root.
func look(r opencloud.Root) (Finding, bool) {
	const mend = "mount what is missing, or correct [layout] in the configuration; if the data are lost: ocbackup restore"
	st, err := os.Stat(r.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.Optional:
		return info("", "%s: %s is not there (yet)", r.Name, r.Path), true
	case err != nil:
		return failure(fail.Usage, mend, "%s: %v", r.Name, err), true
	}
	mode := uint32(unix.R_OK)
	if st.IsDir() {
		mode |= unix.X_OK
	}
	if err := unix.Access(r.Path, mode); err != nil {
		return failure(fail.Incomplete, "run ocbackup as root", "%s: %s can't be read: %v", r.Name, r.Path, err), true
	}
	if r.Name != "deployment" {
		return Finding{}, false
	}
	var missing []string
	for _, f := range r.Include {
		p := filepath.Join(r.Path, opencloud.Unglob(f))
		if _, err := os.Stat(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return warning("correct deployment in [layout]", "files of the deployment are gone: %s", strings.Join(missing, ", ")), true
	}
	return Finding{}, false
}

// attributes looks at the extended attributes, in which the posix driver keeps
// everything that it knows about files.
type attributes struct{}

func (attributes) Name() string { return "attributes" }

func (attributes) Run(_ context.Context, s *Subject) []Finding {
	const copied = "check users_root in [layout], and that the tree was not copied without its attributes (cp without -a)"
	root := s.Config.Layout.UsersRoot
	if s.Config.Layout.Driver != opencloud.Posix {
		return nil
	}
	if _, err := os.Stat(root); err != nil {
		return nil // said already
	}
	if err := opencloud.XattrSupport(root); err != nil {
		return []Finding{failure(fail.Failed, "move the data to ext4, XFS, btrfs or ZFS", "%v", err)}
	}
	with, without := spaceAttributes(root)
	switch {
	case with+len(without) == 0:
		return []Finding{info("", "%s takes extended attributes, and holds no spaces yet", root)}
	case with == 0:
		return []Finding{failure(fail.Failed, copied, "no space in %s carries OpenCloud's attributes (user.oc.*), so its metadata are lost, or this is not its storage", root)}
	case len(without) > 0:
		return []Finding{warning(copied, "%d of %d spaces without OpenCloud's attributes (user.oc.*), so that OpenCloud does not know them: %s",
			len(without), with+len(without), some(without))}
	}
	return okay("%s carry theirs", plural(with, "space", "spaces"))
}

// spaceAttributes counts the spaces of a posix tree whose root carries the id of
// the space, and lists those that do not: they would be lost for OpenCloud.
func spaceAttributes(root string) (with int, without []string) {
	for _, kind := range []string{"users", "projects"} {
		entries, err := os.ReadDir(filepath.Join(root, kind))
		if err != nil {
			continue
		}
		for _, e := range entries {
			p := filepath.Join(root, kind, e.Name())
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if _, err := unix.Lgetxattr(p, "user.oc.space.id", nil); err == nil {
				with++
			} else {
				without = append(without, filepath.Join(kind, e.Name()))
			}
		}
	}
	return with, without
}

// some names the first of many.
func some(list []string) string {
	if len(list) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:3], ", "), len(list)-3)
	}
	return strings.Join(list, ", ")
}

// searchIndex judges the search index, as far as a running server lets it.
type searchIndex struct{}

func (searchIndex) Name() string { return "search index" }

func (searchIndex) Run(ctx context.Context, s *Subject) []Finding {
	if s.Config.Layout.SearchExternal {
		return []Finding{info("", "kept outside OpenCloud: it is built again after a restore")}
	}
	v := index.Judge(ctx, s.Config.Layout.SearchDir, false)
	const mend = "move it away and run \"ocbackup reindex\" once OpenCloud runs: OpenCloud does not start with a damaged index"
	switch v.State {
	case index.Sound:
		return okay("sound, %s", plural(int(v.Docs), "entry", "entries"))
	case index.Damaged:
		return []Finding{warning(mend, "damaged: %s", v.Detail)}
	case index.Unknown:
		return nil // in use, and so opened by the server
	}
	return []Finding{info("ocbackup reindex", "%s: %s", v.State, v.Detail)}
}

// extras looks at the further roots and commands of the admin's.
type extras struct{}

func (extras) Name() string { return "extra" }

func (extras) Run(_ context.Context, s *Subject) []Finding {
	var out []Finding
	for _, e := range s.Config.Extra {
		if e.Path != "" {
			if f, bad := look(opencloud.Root{Name: e.Name, Path: e.Path}); bad {
				out = append(out, f)
			}
		} else if _, err := lookPath(e.Command[0]); err != nil {
			out = append(out, failure(fail.Usage, "correct command in [[extra]]", "%s: %v", e.Name, err))
		}
	}
	if len(out) == 0 && len(s.Config.Extra) > 0 {
		return okay("%s", plural(len(s.Config.Extra), "extra", "extras"))
	}
	return out
}

// lookPath finds a program as starting it would.
func lookPath(name string) (string, error) {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	if strings.Contains(name, "/") {
		dirs = []string{""}
	}
	for _, dir := range dirs {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
	}
	return "", &proc.NotFoundError{Name: name}
}

// notProtected names what no backup holds.
type notProtected struct{}

func (notProtected) Name() string { return "not protected" }

func (notProtected) Run(_ context.Context, s *Subject) []Finding {
	var out []Finding
	for _, n := range s.Config.NotProtected {
		out = append(out, warning("back it up by other means, or with [[extra]] (pg_dump, ...); when that is done, take it out of not_protected", "%s", n))
	}
	if s.found == nil {
		return out
	}
	for _, n := range s.found.Config.NotProtected {
		if !slices.Contains(s.Config.NotProtected, n) {
			out = append(out, info("add it to not_protected, unless another backup holds it", "%s", n))
		}
	}
	return out
}

// journal looks for what a run that died has left.
type journal struct{}

func (journal) Name() string { return "journal" }

func (journal) Run(_ context.Context, s *Subject) []Finding {
	j, err := guard.Read(s.Config.StateDir)
	var damaged *guard.DamagedError
	switch {
	case err != nil && !errors.As(err, &damaged):
		return []Finding{failed(err, "ocbackup recover")}
	case err != nil:
		return []Finding{failure(fail.NotBack, "ocbackup recover", "%v: it is not known whether OpenCloud is back", err)}
	case j == nil:
		return okay("no run was interrupted")
	case j.BootID == guard.BootID() && syscall.Kill(j.PID, 0) == nil:
		return []Finding{info("", "a %s is under way (process %d, set %s)", j.Kind, j.PID, j.Set)}
	case j.Hold != "":
		return []Finding{failure(fail.NotBack, "finish it: ocbackup restore --in-place "+j.Set, "a %s was interrupted, and OpenCloud must not be started as it is: %s", j.Kind, j.Hold)}
	}
	if !j.WasRunning {
		return []Finding{failure(fail.Failed, "ocbackup recover", "a %s was interrupted (set %s); OpenCloud was stopped before", j.Kind, j.Set)}
	}
	return []Finding{failure(fail.NotBack, "ocbackup recover", "a %s was interrupted (set %s) and OpenCloud may not be back", j.Kind, j.Set)}
}

// reindex looks whether the search index has to be built again.
type reindex struct{}

func (reindex) Name() string { return "reindex" }

func (reindex) Run(_ context.Context, s *Subject) []Finding {
	m, err := index.Required(s.Config.StateDir)
	switch {
	case err != nil:
		return []Finding{failed(err, "ocbackup reindex")}
	case m == nil:
		return nil
	}
	return []Finding{warning("ocbackup reindex", "the search index must be built again (%s), since %s; %s done",
		m.Reason, m.Since.Local().Format("2006-01-02 15:04"), plural(len(m.Done), "space", "spaces"))}
}
