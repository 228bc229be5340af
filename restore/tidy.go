package restore

import (
	"errors"
	"syscall"

	"github.com/ocbackup/ocbackup/opencloud"
	"github.com/ocbackup/ocbackup/opencloud/index"
)

// tidy ends a restore that went well.
func (r *run) tidy() {
	if r.DryRun || r.Target != "" {
		return
	}
	r.unstage()
	if err := r.writeConfig(); err != nil {
		r.note("The configuration could not be written to " + r.ConfigPath + ": " + err.Error())
	}
	// A marker of an earlier restore means nothing for an index that came with its files.
	fits := r.reindexWhy == "" && r.has(opencloud.Search) && (r.has(opencloud.Metadata) || r.has(opencloud.Blobs))
	if r.marker != nil && fits {
		if err := index.ClearRequired(r.stateDir()); err != nil {
			r.note(err.Error())
		}
	}
}

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST)
}
