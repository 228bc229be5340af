package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocbackup/ocbackup/proc"
)

// zfs makes snapshots of datasets, with the program zfs. They are read where ZFS shows them,
// in the directory .zfs of the dataset; where it does not, as on FUSE and in some containers,
// through a clone.
type zfs struct{}

// zfsBusyFor is how long a dataset may stay busy before that is an error: ZFS on FUSE learns
// of the end of a mount only some time after it.
const zfsBusyFor = 5 * time.Second

// datasetNameMax is ZFS_MAX_DATASET_NAME_LEN of OpenZFS without the final zero.
const datasetNameMax = 255

func (zfs) find(_ context.Context, m mount, path string, _ Config) (v *Volume, rel, why string) {
	if m.FS != "zfs" && m.FS != "fuse.zfs" {
		return nil, "", ""
	}
	if strings.Contains(m.Source, "@") {
		return nil, "", m.Source + " is a snapshot itself"
	}
	inMount, _ := below(m.Point, path)
	rel, _ = below("/", filepath.Join(m.Root, inMount))
	return &Volume{Driver: ZFS, Source: m.Source, Live: liveDataset(m)}, rel, ""
}

// liveDataset returns where the whole of a dataset is mounted; m may be a bind mount of a
// part of it.
func liveDataset(m mount) string {
	if m.Root == "/" {
		return m.Point
	}
	all, _ := mounts()
	for _, o := range all {
		if o.Device == m.Device && o.Root == "/" {
			return o.Point
		}
	}
	return m.Point
}

func (zfs) check(ctx context.Context, v *Volume) error {
	if n := len(v.clone()); n > datasetNameMax {
		return fmt.Errorf("the name of the snapshot would be too long by %d for ZFS: give the instance a shorter one", n-datasetNameMax)
	}
	_, err := runZFS(ctx, "list", "-H", "-o", "name", v.Source)
	return err
}

func (zfs) create(ctx context.Context, v *Volume) error {
	_, err := runZFS(ctx, "snapshot", v.snapshot())
	return err
}

func (z zfs) open(ctx context.Context, v *Volume, dir string) (string, error) {
	// It is there also where the property snapdir hides .zfs. To read it mounts it.
	top := filepath.Join(v.Live, ".zfs/snapshot", v.Name)
	if _, err := os.ReadDir(top); err == nil {
		return top, nil
	}
	// Below the dataset, a clone has its encryption key, and the permissions that were given away.
	_, err := runZFS(ctx, "clone", "-o", "readonly=on", "-o", "canmount=noauto", "-o", "mountpoint="+dir, v.snapshot(), v.clone())
	if err != nil {
		return "", err
	}
	all, err := mounts()
	if err != nil {
		return "", err
	}
	// Old versions have mounted it by now, in spite of canmount.
	if !slices.ContainsFunc(all, func(m mount) bool { return m.Point == dir }) {
		_, err = runZFS(ctx, "mount", v.clone())
	}
	return dir, err
}

func (zfs) close(ctx context.Context, v *Volume, dir string) error {
	if err := unmount(ctx, dir); err != nil {
		return err
	}
	return v.destroyDataset(ctx, v.clone())
}

func (zfs) destroy(ctx context.Context, v *Volume) error {
	// A run that died may have left the clone; where the record is lost, nobody has closed it.
	if err := v.destroyDataset(ctx, v.clone()); err != nil {
		return err
	}
	return v.destroyDataset(ctx, v.snapshot())
}

func (zfs) lost(ctx context.Context, v *Volume) (why string) {
	if there, err := v.beside(ctx); err == nil && slices.Contains(there, v.Source) && !slices.Contains(there, v.snapshot()) {
		return "it was destroyed"
	}
	return ""
}

func (zfs) list(ctx context.Context, v *Volume) ([]Volume, error) {
	there, err := v.beside(ctx)
	var found []Volume
	for _, name := range there {
		w := *v
		name, w.Name, _ = strings.Cut(name, "@")
		if _, _, ours := parseName(w.Name); ours && name == v.Source {
			found = append(found, w)
		}
	}
	return found, err
}

func (v *Volume) snapshot() string { return v.Source + "@" + v.Name }
func (v *Volume) clone() string    { return v.Source + "/" + v.Name }

// beside returns the dataset, its children and their snapshots; nothing if there is no such dataset.
func (v *Volume) beside(ctx context.Context) ([]string, error) {
	out, err := runZFS(ctx, "list", "-H", "-r", "-d", "1", "-t", "filesystem,snapshot", "-o", "name", v.Source)
	if err != nil && strings.Contains(err.Error(), "dataset does not exist") {
		return nil, nil
	}
	return strings.Split(out, "\n"), err
}

// destroyDataset destroys a snapshot of v or its clone. That there is none is no error.
func (v *Volume) destroyDataset(ctx context.Context, name string) error {
	if _, _, ours := parseName(v.Name); !ours {
		return errors.New(name + " is none of ocbackup's snapshots")
	}
	there, err := v.beside(ctx)
	if err != nil || !slices.Contains(there, name) {
		return err
	}
	for until := time.Now().Add(zfsBusyFor); ; time.Sleep(50 * time.Millisecond) {
		_, err = runZFS(ctx, "destroy", name)
		if err == nil || !strings.Contains(err.Error(), "dataset is busy") || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
	}
}

// runZFS runs zfs and returns its standard output.
func runZFS(ctx context.Context, args ...string) (string, error) {
	res, err := proc.Run(ctx, proc.Cmd{Name: "zfs", Args: args, Env: []string{"LC_ALL=C"}})
	if missing := new(proc.NotFoundError); errors.As(err, &missing) {
		return "", fmt.Errorf("%w: install the package zfsutils-linux", err)
	}
	if err != nil {
		return "", err
	}
	return string(res.Stdout), nil
}
