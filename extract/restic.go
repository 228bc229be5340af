package extract

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/ocbackup/ocbackup/shellword"

	"golang.org/x/sync/errgroup"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/proc"
	"github.com/ocbackup/ocbackup/repo"
)

// readers is how many processes of restic read at a time.
const readers = 2

// snapshot is the root of a set that holds the contents of files, in the repository.
type snapshot struct {
	run  *run
	id   string
	top  string // the users root in it
	name *Source
	planner

	mu   sync.Mutex
	lost map[string]string // folders that can't be loaded, and what restic says of them
}

// openRoot finds the root that holds the contents.
func (r *run) openRoot() (*snapshot, error) {
	m := r.Set.Manifest
	i := slices.IndexFunc(m.Roots, func(x manifest.Root) bool { return x.Has(opencloud.Blobs) && x.Snapshot != "" })
	if i < 0 {
		return nil, fail.Usagef("choose another set: ocbackup list", "set %s does not hold the contents of files", r.Set.ID)
	}
	root := m.Roots[i]
	if slices.Contains(r.Set.Missing, root.Name) {
		return nil, fail.New(fail.Inconsistent, "the snapshot with the contents of files (root "+root.Name+") of set "+r.Set.ID+" is gone from the repository", "choose another set: ocbackup list")
	}
	return &snapshot{
		run: r, id: root.Snapshot, top: "/" + root.Entry,
		name: r.addSource("repository", root.Snapshot), planner: planner{m.Layout.Driver, r.Space}, lost: map[string]string{},
	}, nil
}

func (s *snapshot) fetch(ctx context.Context, blobs []*blob) error {
	var sound []*blob
	for _, b := range blobs {
		// What a catalog says may have been made up.
		if path.Clean("/"+b.at) != "/"+b.at || strings.ContainsRune(b.at, 0) {
			s.run.skipAll(b, &fault{Missing, "the metadata does not say where its content is"})
			continue
		}
		sound = append(sound, b)
	}
	if len(sound) == 0 {
		return nil
	}
	units, _ := s.plan(sound)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, u := range units {
		g.Go(func() error { return s.bring(ctx, u) })
	}
	return g.Wait()
}

// bring brings a unit.
func (s *snapshot) bring(ctx context.Context, u unit) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if u.single() {
		return s.dump(ctx, u.blobs[0])
	}
	left, err := s.dumpFolder(ctx, u)
	if err == nil || !errors.Is(err, repo.ErrDamaged) {
		return s.run.ended(ctx, err, "read "+s.top+"/"+u.dir+" of snapshot "+s.id)
	}
	// Restic ends at what is damaged. The rest is brought without reading the folder as such.
	units, _ := s.apart(u.dir, left)
	for _, x := range units {
		if err := s.bring(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// ended is the error of restic that ends it all.
func (r *run) ended(ctx context.Context, err error, what string) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return r.Repo.Failure(err, what)
}

// noFolder is how restic says that it can't load a folder on the way to a file
// (cmd/restic/cmd_dump.go).
var noFolder = regexp.MustCompile(`cannot load subtree for ("(?:[^"\\]|\\.)*")`)

// lose notes that a folder can't be loaded, when that is what restic says: it would say
// so of everything in it.
func (s *snapshot) lose(err error) {
	m := noFolder.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	folder, uerr := strconv.Unquote(m[1])
	if uerr != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[folder] = err.Error()
}

// why is what restic has said of a folder above a blob; "" when that can be loaded.
func (s *snapshot) why(at string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir := path.Dir(s.top + "/" + at); dir != "/" && len(s.lost) > 0; dir = path.Dir(dir) {
		if text := s.lost[dir]; text != "" {
			return text
		}
	}
	return ""
}

// dump brings one blob.
func (s *snapshot) dump(ctx context.Context, b *blob) (err error) {
	if text := s.why(b.at); text != "" {
		s.run.skipAll(b, unreadable(text))
		return nil
	}
	in := s.run.receive(b, s.name)
	if !in.wanted() {
		return nil
	}
	if e := s.run.Early; e.has(s.id, b.at) {
		_, err = in.Write(e.content.Bytes())
	} else {
		err = s.run.Repo.Dump(ctx, s.id, s.top+"/"+b.at, in)
	}
	var exit *proc.ExitError
	switch {
	case err == nil:
		in.end(nil)
	case errors.Is(err, errTooMuch):
		in.end(in.tooMuch())
	case context.Cause(ctx) != nil:
		in.drop()
		return context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist):
		in.end(&fault{Missing, "the set does not hold its content (" + shellword.Visible(b.at) + ")"})
	case errors.Is(err, repo.ErrDamaged):
		in.end(unreadable(err.Error()))
		s.lose(err)
	case errors.As(err, &exit) && strings.Contains(exit.Stderr, "should be a "):
		in.end(&fault{Missing, "what the set holds in place of its content is no file (" + shellword.Visible(b.at) + ")"})
	default:
		in.drop()
		return s.run.ended(ctx, err, "read "+s.top+"/"+b.at+" of snapshot "+s.id)
	}
	return nil
}

func unreadable(words string) *fault {
	return &fault{Unreadable, "the repository can't give it: " + words}
}

// dumpFolder brings the blobs of a unit while restic goes through its folder. With an
// error, left are those that have not been brought.
func (s *snapshot) dumpFolder(ctx context.Context, u unit) (left []*blob, err error) {
	done := make([]bool, len(u.blobs))
	err = s.run.Repo.DumpTar(ctx, s.id, s.top+"/"+u.dir, func(h *tar.Header, content io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		at := strings.TrimPrefix(u.dir+"/"+h.Name, "/")
		i := sort.Search(len(u.blobs), func(i int) bool { return catalog.ComparePaths(u.blobs[i].at, at) >= 0 })
		if i == len(u.blobs) || u.blobs[i].at != at || done[i] {
			return nil
		}
		in := s.run.receive(u.blobs[i], s.name)
		if !in.wanted() {
			done[i] = true
			return context.Cause(ctx)
		}
		_, err := io.Copy(in, content)
		switch {
		case err == nil:
			in.end(nil)
		case errors.Is(err, errTooMuch):
			in.end(in.tooMuch())
		default:
			in.drop()
			return err
		}
		done[i] = true
		return context.Cause(ctx)
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for i, b := range u.blobs {
		switch {
		case done[i]:
		case err == nil:
			s.run.skipAll(b, &fault{Missing, "the set does not hold its content (" + shellword.Visible(b.at) + ")"})
		default:
			left = append(left, b)
		}
	}
	return left, err
}
