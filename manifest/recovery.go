package manifest

import (
	"fmt"
	"strings"
)

// RecoveryText is written into every set for a person with an empty machine, and
// no ocbackup at hand either: how to get everything back, by ocbackup or by restic
// alone.
func RecoveryText(m *Manifest, location string) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("How to bring OpenCloud instance %q back", m.Instance)
	p("")
	p("Set %s holds its state of %s.", m.Set, m.Frozen.UTC().Format("2006-01-02 15:04:05 UTC"))
	p("OpenCloud %s, storage driver %s. Written by ocbackup %s with restic %s.", m.OpenCloud, m.Layout.Driver, m.Tool, m.Restic)
	if m.Image != nil {
		p("Container image %s, %s.", m.Image.Ref, m.Image.Digest)
	}
	p("")
	p("With ocbackup, as root, on an empty machine with restic:")
	p("")
	p("    ocbackup restore --repository %s --password-file FILE %s", location, m.Set)
	p("")
	p("FILE holds the password of the repository. Add --map OLD=NEW for other paths, and")
	p("--dry-run to see first what would be done.")
	if m.Bucket != nil {
		recoverBucketHow(p, m.Bucket)
	}
	p("")
	p("With restic alone, as root (RESTIC_REPOSITORY=%s, RESTIC_PASSWORD_FILE=FILE).", location)
	p("OpenCloud must be stopped. Keep this order, the outermost directories last:")
	p("")
	for i := len(m.Roots) - 1; i >= 0; i-- {
		r := m.Roots[i]
		switch {
		case r.Snapshot == "":
			p("    # %s was not there when the set was made", r.Name)
		case len(r.Command) > 0:
			p("    restic dump %s %s > FILE    # %s: what %q printed", r.Snapshot[:8], "/"+dumpName(r), r.Name, strings.Join(r.Command, " "))
		default:
			p("    restic restore %s --target %q --sparse    # %s: %s", r.Snapshot[:8], parent(r.Real), r.Name, r.Real)
		}
	}
	p("")
	if m.Bucket != nil {
		recoverBucketByHand(p, m)
	}
	p("Then:")
	p("  1. Do not start OpenCloud before opencloud.yaml is back in %s: it would make new", m.Layout.ConfigDir)
	p("     secrets, and nobody could log in.")
	if m.Layout.Driver == "posix" {
		p("  2. The extended attributes (getfattr -d -m user.oc.) of the files in %s must be", m.Layout.UsersRoot)
		p("     there before the start: OpenCloud writes new ones over lost ones.")
	} else {
		p("  2. Owners and modes must be as they were: OpenCloud runs as the owner of %s.", m.Layout.DataDir)
	}
	p("  3. Start OpenCloud %s, no older version. If it ends at once, delete %s/bleve", m.OpenCloud, m.Layout.SearchDir)
	p("     and start it again; then have the search index built: opencloud search index --space ID")
	p("     for each space.")
	if len(m.NotProtected) > 0 {
		p("")
		p("Not in this set:")
		for _, s := range m.NotProtected {
			p("  - %s", s)
		}
	}
	return []byte(b.String())
}

// recoverBucketHow says what ocbackup needs to bring the bucket back.
func recoverBucketHow(p func(string, ...any), b *Bucket) {
	p("")
	p("It brings the S3 bucket back as well, from the pool at")
	p("    %s", b.Pool.Location)
	p("--pool LOCATION says where the pool is now, if it has moved;")
	if strings.HasPrefix(b.Pool.Location, "s3:") {
		p("--pool-env-file FILE holds its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;")
	}
	if b.Pool.Encrypted {
		p("--pool-password-file FILE holds its password, without which nothing can be read;")
	}
	p("--bucket-env-file FILE holds those keys of the bucket, if they are not in the set.")
}

// recoverBucketByHand says how the bucket is brought back without ocbackup.
func recoverBucketByHand(p func(string, ...any), m *Manifest) {
	b := m.Bucket
	pool := b.Pool.Location
	p("The contents of files are objects of the S3 bucket %q at", b.Name)
	p("%s, region %q. Before the start it must hold these %d objects (%d bytes) again:", b.Endpoint, b.Region, b.Objects, b.Bytes)
	p("")
	p("    restic dump --tag manifest,%s latest /%s/%s > inventory.jsonl", SetTag(m.Set), dir, InventoryFile)
	p("")
	p("Each line is an object: \"key\" is its name in the bucket, \"size\" and \"md5\" are what it must")
	p("have. Its content is in the pool (%s): blobs/KEY, where KEY is", pool)
	p("the key; or, in a line with \"at\", what that says. Copy it with any S3 client, under the")
	p("very same key, to the top of the bucket. This prints from where to where, with jq:")
	p("")
	p("    jq -r '[.at // \"blobs/\" + .key, .key] | @tsv' inventory.jsonl > copy.tsv")
	p("")
	p("Nothing else in the bucket does any harm: it may stay.")
	if b.Pool.Encrypted {
		p("")
		p("The pool is encrypted, its names as well. rclone reads it, with a remote of type crypt:")
		p("")
		p("    [pool]")
		p("    type = crypt")
		p("    remote = %s", rcloneRemote(pool))
		p("    password = what \"rclone obscure - < FILE\" prints, FILE with the pool's password")
		p("    filename_encryption = standard")
		p("    directory_name_encryption = true")
		p("")
		p("There the content of an object is pool:blobs/KEY, or pool:AT: rclone cat pool:blobs/KEY.")
	}
	p("")
}

// rcloneRemote is the encrypted part of a pool as rclone.conf names it.
func rcloneRemote(pool string) string {
	const below = "/encrypted"
	pool = strings.TrimRight(pool, "/")
	switch kind, rest, _ := strings.Cut(pool, ":"); kind {
	case "s3":
		_, path, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(rest, "https://"), "http://"), "/")
		return "S3:" + path + below + "   (S3: a remote of type s3 for the server in " + rest + ")"
	case "sftp":
		if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasPrefix(rest, "//") {
			return "SFTP:" + rest[i+1:] + below + "   (SFTP: a remote of type sftp for " + rest[:i] + ")"
		}
		return "SFTP:PATH" + below + "   (SFTP:PATH the directory in " + pool + ")"
	case "rclone":
		return rest + below
	}
	return pool + below
}

func dumpName(r Root) string {
	if r.Name == "binary" {
		return "image.tar"
	}
	return r.Name
}

func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return "/"
	}
	return p[:i]
}
