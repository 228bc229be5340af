package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/ocbackup/ocbackup/atomicfile"
	"github.com/ocbackup/ocbackup/certificate"
	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fault"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud/control"
	"github.com/ocbackup/ocbackup/progress"
)

// commit stores the manifest. The set exists from then on, and only then.
func (r *run) commit(ctx context.Context, step progress.Step) (string, error) {
	r.warnOfBucket()
	r.warnOfFindings()
	m := r.manifest()
	m.UnitEnabled = control.UnitEnabled(ctx, r.Config.Control)
	step.Update("set " + r.set)
	beside, err := r.beside(m)
	if err != nil {
		return "", err
	}
	if _, err := manifest.Store(ctx, r.Repo, m, beside); err != nil {
		return "", r.Repo.Failure(err, "commit set "+r.set)
	}
	r.committed = true
	r.remember()
	r.keepProof()
	res := r.result()
	summary := "set " + r.set + ", " + sizes(res.Files, res.Bytes, res.Added)
	if b := res.Bucket; b != nil {
		summary += fmt.Sprintf(", %s in %s (%s new)", humanize.IBytes(b.Bytes), english.Plural(int(b.Objects), "object", ""), humanize.IBytes(b.NewBytes))
	}
	return summary, fault.Point("commit.end")
}

// beside are the files that are stored beside the manifest.
func (r *run) beside(m *manifest.Manifest) (manifest.Beside, error) {
	b := manifest.Beside{
		Contents: map[string][]byte{
			"ocbackup.toml": config.Render(r.Config.WithoutSecrets()),
			"RECOVERY.txt":  manifest.RecoveryText(m, r.Repo.Location()),
		},
		Paths: map[string]string{}, TempDir: r.proof.dir,
	}
	if c := r.proof.certificate; c != nil {
		data, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			return b, err
		}
		b.Contents[certificate.FileName] = append(data, '\n')
	}
	if r.proof.summary != nil {
		b.Paths[manifest.CatalogFile] = r.proof.path
	}
	if path := r.inventory(); path != "" {
		b.Paths[manifest.InventoryFile] = path
	}
	return b, nil
}

// manifest writes down what the run has stored, and how.
func (r *run) manifest() *manifest.Manifest {
	host, _ := os.Hostname()
	m := &manifest.Manifest{
		Format: manifest.Format, Set: r.set, Instance: r.Config.Name, Host: host,
		Started: r.started, Frozen: r.frozen, Committed: time.Now(),
		Tool: r.Version, Restic: r.restic.String(), OpenCloud: r.version,
		Layout: r.Config.Layout, Control: r.Config.Control,
		Components: r.components(), Full: r.full(), Taken: r.taken(),
		Downtime: r.down, WasRunning: r.running(), Bucket: r.bucketRecord(),
		Catalog: r.proof.summary, Certificate: r.proof.sum(), AcceptLost: r.Config.Backup.AcceptLost, Search: r.verdict, NotProtected: r.notes,
	}
	for _, x := range r.roots {
		s, ok := r.pushed[x.Name]
		if !ok && !x.absent {
			continue
		}
		mr := manifest.Root{
			Root: x.Root, Real: x.real, Command: x.command, Dir: x.dir,
			Snapshot: s.snapshot, Files: s.files, Bytes: s.bytes, Added: s.added, Taken: s.taken, Seconds: s.took.Seconds(), Census: x.sum,
		}
		if x.real != "" {
			mr.Entry = filepath.Base(x.real)
		}
		m.Roots = append(m.Roots, mr)
	}
	if s, ok := r.pushed[imageRoot.Name]; ok && r.image != nil {
		m.Image = &manifest.Image{Ref: r.image.Ref, Digest: r.image.Digest}
		m.Roots = append(m.Roots, manifest.Root{
			Root: imageRoot, Command: r.image.Save, Snapshot: s.snapshot, Files: s.files, Bytes: s.bytes, Added: s.added,
			Taken: s.taken, Seconds: s.took.Seconds(),
		})
	}
	return m
}

// taken says how the roots of the set were made of one moment.
func (r *run) taken() string {
	var ways []string
	for _, x := range r.roots {
		if w := r.pushed[x.Name].taken; w != "" && w != manifest.TakenLive && !slices.Contains(ways, w) {
			ways = append(ways, w)
		}
	}
	slices.Sort(ways)
	return strings.Join(ways, ", ")
}

// tidy removes the snapshots of file systems that are not to be kept, and forgets what
// no set needs: the seeds of this run, and what runs that failed have left. Their data
// stay until the next prune.
func (r *run) tidy(ctx context.Context, step progress.Step) (string, error) {
	var did []string
	if s := r.thaw(ctx, r.Config.Snapshot.Keep); s != "" {
		did = append(did, s)
	}
	if err := r.record(); err != nil {
		r.warn("the record of this run could not be written: " + err.Error())
	}
	ids := r.history.leftovers()
	for _, id := range r.seeds {
		if !r.pushedAs(id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return strings.Join(did, ", "), nil
	}
	step.Update("forgetting what no set needs")
	if err := r.Repo.Forget(ctx, ids...); err != nil {
		// The set is committed and whole; what is left over does no harm and is tried again.
		r.warn("restic snapshots of no set could not be forgotten: " + err.Error())
		return strings.Join(append(did, "restic snapshots of no set stay until the next run"), ", "), nil
	}
	return strings.Join(append(did, english.Plural(len(ids), "restic snapshot", "")+" of no set forgotten"), ", "), nil
}

// pushedAs tells whether a snapshot is part of the set.
func (r *run) pushedAs(id string) bool {
	for _, s := range r.pushed {
		if s.snapshot == id {
			return true
		}
	}
	return false
}

// record leaves the result of the last run that committed where monitoring can
// find it: last-backup.json in the state directory.
func (r *run) record() error {
	data, err := json.MarshalIndent(r.result(), "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(r.Config.StateDir, "last-backup.json"), append(data, '\n'), 0o600)
}
