package verify

import (
	"hash/maphash"
	"strings"

	"github.com/ocbackup/ocbackup/opencloud"
)

// A unit is what one run of restic reads: a folder of the users root with all that is
// in it, or a file. How a tree is cut into units follows from its catalog alone, so that
// each part of the data is read in its turn. Tests make them smaller.
var (
	// unitBytes is from what size on a folder is cut into what it holds.
	unitBytes int64 = 1 << 30
	// unitFiles is how many files right in a folder are read one by one; of a folder with
	// more, nothing is cut.
	unitFiles uint32 = 64
	// A folder of less than unitMost stays whole, too, when what it holds is smaller than
	// unitLeast on average: restic takes a second to begin.
	unitMost  int64 = 16 << 30
	unitLeast int64 = 64 << 20
)

// units knows how large the folders of a tree are, in some 60 bytes for each.
type units struct {
	driver  opencloud.Driver
	seed    maphash.Seed
	folders map[uint64]folder
}

type folder struct {
	bytes       int64 // in it, at any depth
	files, dirs uint32
}

func newUnits(driver opencloud.Driver) *units {
	return &units{driver: driver, seed: maphash.MakeSeed(), folders: map[uint64]folder{}}
}

// add counts a file.
func (u *units) add(at string, size int64) {
	dir := u.folderOf(at)
	isNew := false
	for d := dir; ; d = parent(d) {
		key := maphash.String(u.seed, d)
		f, known := u.folders[key]
		f.bytes += size
		if isNew {
			f.dirs++
		}
		if d == dir {
			f.files++
		}
		u.folders[key] = f
		isNew = !known
		if d == "." {
			return
		}
	}
}

// of is the unit that a file belongs to; whole tells that it is a folder.
func (u *units) of(at string) (unit string, whole bool) {
	if !u.cut(".") {
		return ".", true
	}
	dir := u.folderOf(at)
	for end := 0; dir != "." && end < len(dir); end++ {
		if i := strings.IndexByte(dir[end:], '/'); i >= 0 {
			end += i
		} else {
			end = len(dir)
		}
		if !u.cut(dir[:end]) {
			return dir[:end], true
		}
	}
	return at, false
}

func (u *units) cut(dir string) bool { return u.folders[maphash.String(u.seed, dir)].cut() }

// cut tells whether what is in the folder is read by itself.
func (f folder) cut() bool {
	if f.bytes <= unitBytes || f.files > unitFiles {
		return false
	}
	return f.bytes > unitMost || f.bytes/int64(f.files+f.dirs) >= unitLeast
}

// folderOf is the folder that a file counts for. Where drivers scatter files over
// folders by the digits of ids, it is at most the second of those: there are no more than
// 65,536 of them in a space.
func (u *units) folderOf(at string) string {
	dir := parent(at)
	marker := "/.oc-nodes/"
	if u.driver == opencloud.Decomposed {
		marker = "/blobs/" // spaces/ab/cdef/blobs/aa/bb/cc/dd
	}
	whole := "/" + dir + "/"
	i := strings.Index(whole, marker)
	if i < 0 {
		return dir
	}
	end := i + len(marker)
	for range 2 {
		j := strings.IndexByte(whole[end:], '/')
		if j < 0 {
			return dir
		}
		end += j + 1
	}
	return whole[1 : end-1]
}

// parent is the folder that something lies in; "." is the users root.
func parent(at string) string {
	if i := strings.LastIndexByte(at, '/'); i >= 0 {
		return at[:i]
	}
	return "."
}
