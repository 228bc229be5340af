package catalog

// add counts a node.
func (c *Counts) add(n *Node) {
	bytes := uint64(max(n.Size, 0))
	if n.Kind == KindFolder {
		bytes = 0
	}
	switch {
	case n.Trash != "":
		c.Trash++
		c.TrashBytes += bytes
	case n.Kind == KindFolder:
		c.Folders++
	case n.Kind == KindFile:
		c.Files++
		c.Bytes += bytes
		if n.Pending != "" {
			c.Pending++
		}
	case n.Kind == KindVersion:
		c.Versions++
		c.VersionBytes += bytes
	}
	if n.Problem != nil {
		c.Problems++
	}
}

// addSpace counts a space with all that is in it.
func (s *Summary) addSpace(space *Space) {
	c := space.Counts
	s.Spaces++
	s.Folders += c.Folders
	s.Files += c.Files
	s.Bytes += c.Bytes
	s.Versions += c.Versions
	s.VersionBytes += c.VersionBytes
	s.Trash += c.Trash
	s.TrashBytes += c.TrashBytes
	s.Pending += c.Pending
	s.Problems += c.Problems
	if space.Problem != nil {
		s.Problems++
	}
}
