package s3mirror

// Features says in words what a pool is, and what its server does beside; empty, or
// with a comma before it.
func (i Info) Features() string {
	s := ""
	if i.Encrypted {
		s += ", encrypted"
	}
	if i.Versioned {
		s += ", on a bucket that keeps old versions"
	}
	if i.ObjectLock {
		s += ", with object lock"
	}
	return s
}
