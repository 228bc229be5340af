package bucket

import (
	"errors"
	"testing"
	"time"

	"github.com/ocbackup/ocbackup/config"
	"github.com/ocbackup/ocbackup/fail"
	"github.com/ocbackup/ocbackup/manifest"
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/s3mirror"
)

// A set that can't be read might need anything: the sets that can be are not all.
func TestInventoriesOfAllSetsOrNone(t *testing.T) {
	with := &manifest.Manifest{Set: "a", Bucket: &manifest.Bucket{Digest: "d", Pool: manifest.Pool{ID: "p"}}}
	other := &manifest.Manifest{Set: "o", Bucket: &manifest.Bucket{Pool: manifest.Pool{ID: "q"}}}
	sets := []manifest.Set{{ID: "a", Manifest: with}, {ID: "b", Manifest: &manifest.Manifest{Set: "b"}}, {ID: "o", Manifest: other}}
	got, elsewhere, err := Inventories(nil, sets, "p")
	if err != nil || len(got) != 1 || got[0].Set != "a" || got[0].Digest != "d" || len(elsewhere) != 1 || elsewhere[0] != "o" {
		t.Errorf("got %v, elsewhere %v (%v), want the inventory of a, and o elsewhere", got, elsewhere, err)
	}
	_, _, err = Inventories(nil, append(sets, manifest.Set{ID: "c", Err: errors.New("torn")}), "p")
	if fail.CodeOf(err) != fail.Repository {
		t.Errorf("a damaged set among them: %v", err)
	}
}

// What the configuration says of bucket and pool goes before what the set says; on a
// bare host the set is all there is.
func TestForSet(t *testing.T) {
	m := &manifest.Manifest{
		Instance: "cloud", Layout: opencloud.Layout{Driver: opencloud.DecomposedS3},
		Bucket: &manifest.Bucket{Endpoint: "https://then", Region: "r", Name: "b", Pool: manifest.Pool{Location: "/then"}},
	}
	bare := ForSet(nil, m)
	if bare.Name != "cloud" || bare.Bucket.Endpoint != "https://then" || bare.Bucket.Name != "b" || bare.Pool.Location != "/then" {
		t.Errorf("on a bare host: %+v", bare)
	}
	c := &config.Config{Name: "cloud", Bucket: config.Bucket{Endpoint: "https://now", Name: "n"}, Pool: config.Pool{Location: "/now"}}
	if got := ForSet(c, m); got.Bucket.Endpoint != "https://now" || got.Pool.Location != "/now" {
		t.Errorf("with a configuration: %+v", got)
	}
	moved := &config.Config{Name: "cloud", Bucket: config.Bucket{Endpoint: "https://now", Name: "n"}}
	if got := ForSet(moved, m); got.Bucket.Endpoint != "https://now" || got.Pool.Location != "/then" || moved.Pool.Location != "" {
		t.Errorf("without a pool: %+v, and the configuration became %+v", got, moved)
	}
}

func TestProgress(t *testing.T) {
	for want, p := range map[string]s3mirror.Progress{
		"listing, 12,345 objects": {Listed: 12345},
		"3 of 1,000 objects, 1.0 KiB of 2.0 MiB, 512 B/s, 1m8s left": {
			Objects: 3, TotalObjects: 1000, Bytes: 1024, TotalBytes: 2 << 20, Rate: 512, ETA: 68 * time.Second,
		},
	} {
		if got := Progress(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
