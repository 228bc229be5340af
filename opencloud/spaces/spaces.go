// Package spaces lists the spaces of an OpenCloud instance from its storage
// root, with or without a running server.
package spaces

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ocbackup/ocbackup/opencloud"
)

// Space is one space: what OpenCloud calls a drive. The virtual space "Shares"
// is not among them: it is not on disk.
type Space struct {
	// ID is storageid$spaceid, as server commands and Graph want it; empty when Err is set
	// and it could not be told.
	ID   string `json:"id"`
	Type string `json:"type"` // personal or project
	Name string `json:"name"`
	// Root is the directory of the space's root node.
	Root string `json:"root"`
	// Disabled spaces are kept by the server but can be neither opened nor indexed.
	Disabled bool `json:"disabled,omitempty"`
	// Err says why nothing but Root is known: the root is there, but can't be read
	// or has lost its metadata.
	Err error `json:"-"`
}

// Keys of a space root's metadata: reva,
// pkg/storage/pkg/decomposedfs/metadata/prefixes/prefixes.go.
const (
	attrPrefix    = "user.oc."
	attrID        = attrPrefix + "id"
	attrParentID  = attrPrefix + "parentid"
	attrSpaceID   = attrPrefix + "space.id"
	attrSpaceName = attrPrefix + "space.name"
	attrSpaceType = attrPrefix + "space.type"
	attrDTime     = attrPrefix + "dtime" // when the space was disabled
)

// List lists all spaces, personal ones first, by name. A space root that can't be
// read is an entry with Err set, never left out. The error is non-nil when the
// storage root itself can't be read or the storage id is not known.
func List(l opencloud.Layout) ([]Space, error) {
	storage, err := StorageID(l)
	if err != nil {
		return nil, err
	}
	var list []Space
	switch l.Driver {
	case opencloud.Posix:
		list, err = listPosix(l.UsersRoot)
	case opencloud.Decomposed, opencloud.DecomposedS3:
		list, err = listDecomposed(l.UsersRoot)
	default:
		return nil, fmt.Errorf("list spaces: unknown storage driver %q", l.Driver)
	}
	if err != nil {
		return nil, fmt.Errorf("list spaces: %w", err)
	}
	for i := range list {
		if list[i].ID != "" {
			list[i].ID = storage + "$" + list[i].ID
		}
	}
	slices.SortFunc(list, func(a, b Space) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Root, b.Root))
	})
	return list, nil
}

// fromAttrs makes a Space of the metadata of its root. Its ID is the space's own
// part only.
func fromAttrs(root string, attrs map[string][]byte) Space {
	return Space{
		ID: string(attrs[attrSpaceID]), Type: string(attrs[attrSpaceType]), Name: string(attrs[attrSpaceName]),
		Root: root, Disabled: len(attrs[attrDTime]) > 0,
	}
}
