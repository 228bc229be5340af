package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ocbackup/ocbackup/atomicfile"
)

// RotationFile is the file in the state directory that remembers which parts of the
// data were read when.
const RotationFile = "verify.json"

// rotationFormat is the format of the file that this version writes.
const rotationFormat = 1

// rotation is when each part was last read to its end: by repository (and set, where one
// was named), by the number of parts, by part. It is a help, no proof: what can't be understood of it counts as never read.
type rotation struct {
	Format int                                        `json:"format"`
	Read   map[string]map[string]map[string]time.Time `json:"read"`
}

func readRotation(stateDir string) (*rotation, error) {
	r := &rotation{}
	data, err := os.ReadFile(filepath.Join(stateDir, RotationFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read when which part was read: %w", err)
	}
	if json.Unmarshal(data, r) != nil || r.Format != rotationFormat {
		r = &rotation{Format: rotationFormat}
	}
	return r, nil
}

// next is the part of t that was read longest ago, the first of those that never were.
func (r *rotation) next(of string, t int) int {
	read := r.Read[of][strconv.Itoa(t)]
	oldest := 1
	for n := 2; n <= t; n++ {
		if read[strconv.Itoa(n)].Before(read[strconv.Itoa(oldest)]) {
			oldest = n
		}
	}
	return oldest
}

// remember notes in the file that a part was read.
func remember(stateDir, of string, p Part, now time.Time) error {
	r, err := readRotation(stateDir) // another run may have written it meanwhile
	if err != nil {
		return err
	}
	if r.Read == nil {
		r.Read = map[string]map[string]map[string]time.Time{}
	}
	if r.Read[of] == nil {
		r.Read[of] = map[string]map[string]time.Time{}
	}
	read, t := r.Read[of], strconv.Itoa(p.T)
	if read[t] == nil {
		read[t] = map[string]time.Time{}
	}
	read[t][strconv.Itoa(p.N)] = now.UTC().Truncate(time.Second)
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(stateDir, 0o700)
	}
	if err == nil {
		err = atomicfile.Write(filepath.Join(stateDir, RotationFile), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember which part was read: %w", err)
	}
	return nil
}
