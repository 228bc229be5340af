package commands

import (
	"time"

	"github.com/ocbackup/ocbackup/snapshot"
)

// localCopies returns, by set, until when snapshots of sets are kept on this host. It
// is empty without a configuration: then nothing says where the records are.
func (e *env) localCopies() map[string]time.Time {
	if e.cfg == nil {
		return nil
	}
	records, err := snapshot.Kept(e.cfg.StateDir)
	if err != nil {
		e.log.Warn().Err(err).Msg("it is not known which snapshots are kept on this host")
	}
	until := map[string]time.Time{}
	for _, r := range records {
		if r.Instance == e.cfg.Name {
			until[r.Set] = r.Until
		}
	}
	return until
}
