package s3mirror

import "context"

// deleteExtra deletes the bucket's objects that the inventory does not have. The list of
// them may be hours old, and OpenCloud may have written one anew since: what is not the
// object that was listed any more stays, and is not counted.
func (r *restoration) deleteExtra(ctx context.Context) error {
	return r.each(ctx, extraFile, func(ctx context.Context, o *Object) error {
		s, err := r.to.api.head(ctx, asRclone.FromStandardPath(o.Key))
		switch {
		case isNotFound(err):
			return nil
		case err != nil:
			return r.to.fail(err, "look at "+o.Key+" in")
		case !s.listed(o):
			r.pool.Log(o.Key + " was written anew since the " + r.to.String() + " was listed: it is not deleted")
			return nil
		}
		if err := r.to.remove(ctx, o.Key); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.out.Deleted++
		r.out.DeletedBytes += uint64(o.Size)
		return nil
	})
}
