package extract

import (
	"path"
	"strings"

	"github.com/ocbackup/ocbackup/catalog"
	"github.com/ocbackup/ocbackup/opencloud"
)

// unit is what one process of restic brings: the one blob, or those among all that a
// folder of the snapshot holds.
type unit struct {
	dir   string // below the users root; meaningless for one blob
	blobs []*blob
}

func (u unit) single() bool { return len(u.blobs) == 1 }

// processCost is how many bytes could be read in the time that a process of restic takes
// to begin: it opens the repository and loads its index.
const processCost = 32 << 20

// planner decides which folders are read whole. Folders may hold a lot besides: a space's
// versions and trash.
type planner struct {
	driver opencloud.Driver
	space  catalog.Space
}

// plan divides blobs, which are sorted, into the units that cost the least; cost is in
// bytes.
func (p planner) plan(blobs []*blob) (units []unit, cost uint64) {
	if len(blobs) == 1 {
		return []unit{{blobs: blobs}}, processCost + blobs[0].size()
	}
	dir := commonDir(blobs)
	whole := processCost + p.holds(dir, blobs)
	parts, apart := p.apart(dir, blobs)
	if whole <= apart {
		return []unit{{dir, blobs}}, whole
	}
	return parts, apart
}

// apart plans for what lies in a folder without reading the folder as such.
func (p planner) apart(dir string, blobs []*blob) (units []unit, cost uint64) {
	for len(blobs) > 0 {
		n, name := 1, child(dir, blobs[0].at)
		for n < len(blobs) && child(dir, blobs[n].at) == name {
			n++
		}
		u, c := p.plan(blobs[:n])
		units, cost, blobs = append(units, u...), cost+c, blobs[n:]
	}
	return units, cost
}

// holds is how many bytes a folder holds: what is wanted of it, and what is known to lie
// beside.
func (p planner) holds(dir string, blobs []*blob) uint64 {
	var n uint64
	for _, b := range blobs {
		n += b.size()
	}
	c := p.space.Counts
	all := c.Bytes + c.VersionBytes + c.TrashBytes
	if p.driver == opencloud.Posix {
		if dir == p.space.Dir || strings.HasPrefix(p.space.Dir, dir+"/") || dir == "" {
			return max(n, all)
		}
		return n
	}
	// Blobs are spread evenly over folders of two digits, four levels of them.
	_, below, ok := strings.Cut(dir+"/", "/blobs/")
	if !ok {
		return max(n, all)
	}
	return max(n, all>>(8*min(strings.Count(below, "/"), 4)))
}

// commonDir is the deepest folder that holds all blobs, which are sorted; "" is the root.
func commonDir(blobs []*blob) string {
	a, b := path.Dir("/"+blobs[0].at), path.Dir("/"+blobs[len(blobs)-1].at)
	for a != b {
		if len(a) > len(b) {
			a = path.Dir(a)
		} else {
			b = path.Dir(b)
		}
	}
	return strings.TrimPrefix(a, "/")
}

// child is the name below dir that leads to a blob.
func child(dir, at string) string {
	if dir != "" {
		at = at[len(dir)+1:]
	}
	name, _, _ := strings.Cut(at, "/")
	return name
}
