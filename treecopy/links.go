package treecopy

import (
	"os"

	"golang.org/x/sys/unix"
)

type inode struct{ dev, ino uint64 }

type hardLink struct{ from, to string }

// copied tells whether another name of the file is copied, and remembers this one.
func (c *copier) copied(rel string, st *unix.Stat_t) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // 32 bits wide on some platforms
	first, ok := c.made[i]
	if ok {
		c.links = append(c.links, hardLink{first, rel})
	} else {
		c.made[i] = rel
	}
	return ok
}

// link makes the other names of the files that have several.
func (c *copier) link() error {
	for _, l := range c.links {
		if err := os.Link(below(c.dst, l.from), below(c.dst, l.to)); err != nil {
			return err
		}
		c.files.Add(1)
	}
	return nil
}
