package browse

import (
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

func TestMatcher(t *testing.T) {
	for _, tc := range []struct {
		pattern, path string
		exact         bool // --case
		want          bool
	}{
		{pattern: "offer", path: "/Sales/Big Offers.odt", want: true},
		{pattern: "offer", path: "/Offers/x.odt", want: false}, // the name, not the path
		{pattern: "offer", path: "/Big Offers.odt", exact: true, want: false},
		{pattern: "Offer", path: "/Big Offers.odt", exact: true, want: true},
		{pattern: "OFFERS/x", path: "/Sales/offers/x.odt", want: true},
		{pattern: "*.odt", path: "/a/b/offer.ODT", want: true},
		{pattern: "*.odt", path: "/a/b/offer.odt.bak", want: false},
		{pattern: "*.ODT", path: "/offer.odt", exact: true, want: false},
		{pattern: "offer?.od[st]", path: "/x/offer1.ods", want: true},
		{pattern: "{a,b}.txt", path: "/b.txt", want: true},
		{pattern: "/offers/*", path: "/Offers/a", want: true},
		{pattern: "/offers/*", path: "/Offers/a/b", want: false},
		{pattern: "/offers/*", path: "/x/Offers/a", want: false},
		{pattern: "offers/*", path: "/x/Offers/a", want: true},
		{pattern: "offers/*", path: "/Offers/a", want: true},
		{pattern: "/**/may/*.odt", path: "/2026/offers/May/a.odt", want: true},
		{pattern: "offers/**", path: "/x/offers/a/b/c", want: true},
		{pattern: `a\[1\]*`, path: "/a[1].txt", want: true},
		{pattern: "über", path: "/U\u0308ber uns.odt", want: true}, // as macOS writes it
		{pattern: "u\u0308ber", path: "/Über uns.odt", want: true},
		{pattern: "*\xff", path: "/\xff\xff", want: true},
	} {
		match, err := Matcher(tc.pattern, tc.exact)
		if err != nil || match(tc.path) != tc.want {
			t.Errorf("%q for %q: want %v (%v)", tc.pattern, tc.path, tc.want, err)
		}
	}
	for _, bad := range []string{"", "a[", "{a"} {
		if _, err := Matcher(bad, false); fail.CodeOf(err) != fail.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
