package bucket

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/ocbackup/ocbackup/s3mirror"
)

// Progress says in one line how far something with objects is.
func Progress(p s3mirror.Progress) string {
	if p.TotalObjects == 0 {
		return "listing, " + humanize.Comma(p.Listed) + " objects"
	}
	s := fmt.Sprintf("%s of %s objects, %s of %s, %s/s", humanize.Comma(p.Objects), humanize.Comma(p.TotalObjects),
		humanize.IBytes(uint64(p.Bytes)), humanize.IBytes(uint64(p.TotalBytes)), humanize.IBytes(uint64(p.Rate)))
	if p.ETA > 0 {
		s += ", " + p.ETA.String() + " left"
	}
	return s
}
