package opencloud

import "testing"

func TestFilter(t *testing.T) {
	blobs := Root{Include: []string{"spaces/*/*/blobs"}}.Filter()
	metadata := Root{Exclude: []string{"spaces/*/*/blobs"}}.Filter()
	files := Root{Include: []string{Glob("a[1].yml"), "conf/x"}}.Filter()
	for _, tc := range []struct {
		name string
		f    func(string, bool) bool
		rel  string
		want bool
	}{
		{"the root itself", blobs, ".", true},
		{"on the way", blobs, "spaces/ab", true},
		{"beside the way", blobs, "indexes", false},
		{"beside the blobs", blobs, "spaces/ab/cd/nodes", false},
		{"the blobs", blobs, "spaces/ab/cd/blobs", true},
		{"below the blobs", blobs, "spaces/ab/cd/blobs/00/x", true},
		{"metadata without blobs", metadata, "spaces/ab/cd/blobs", false},
		{"a deeper folder of that name is metadata", metadata, "spaces/ab/cd/nodes/blobs", true},
		{"a literal name with glob characters", files, "a[1].yml", true},
		{"what the glob would have meant", files, "a1.yml", false},
		{"a folder of an included file", files, "conf", true},
		{"another file in it", files, "conf/y", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.f(tc.rel, false); got != tc.want {
				t.Errorf("%s: got %v", tc.rel, got)
			}
		})
	}
}
