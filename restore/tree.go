package restore

import "os"

// diskTree is the file system itself.
type diskTree struct{}

// Kind looks at path without following a symbolic link.
func (diskTree) Kind(path string) kind {
	st, err := os.Lstat(path)
	switch {
	case err != nil:
		return none
	case st.IsDir():
		return dir
	}
	return other
}

// Names lists a directory; what can't be read has no entries.
func (diskTree) Names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
