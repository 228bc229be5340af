package restore

import (
	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/index"
)

// tidy ends a restore whose data is in place.
func (r *run) tidy() {
	if r.DryRun || r.Target != "" || r.onlyBucket() {
		return
	}
	r.unstage()
	// A marker of an earlier restore means nothing for an index that came with its files.
	fits := r.reindexWhy == "" && r.has(opencloud.Search) && (r.has(opencloud.Metadata) || r.has(opencloud.Blobs))
	if fits {
		if err := index.ClearRequired(r.stateDir()); err != nil {
			r.note(err.Error())
		}
	}
}
