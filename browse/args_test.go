package browse

import (
	"testing"

	"github.com/ocbackup/ocbackup/fail"
)

func TestParseArgs(t *testing.T) {
	for _, tc := range []struct {
		name             string
		args             []string
		set, space, path string // space "": there is none
	}{
		{"nothing", nil, "", "", ""},
		{"a set's id", []string{"20261123T021500Z-7f3a"}, "20261123T021500Z-7f3a", "", ""},
		{"the beginning of an id", []string{"20261123"}, "20261123", "", ""},
		{"latest", []string{"latest"}, "latest", "", ""},
		{"a space", []string{"Marketing"}, "", "Marketing", "/"},
		{"a space like a set", []string{"2026:/"}, "", "2026", "/"},
		{"a space like a set, without the slash", []string{"2026:"}, "", "2026", "/"},
		{"more digits than an id", []string{"202611230"}, "", "202611230", "/"},
		{"a path", []string{"Marketing:/Offers/a b.odt"}, "", "Marketing", "/Offers/a b.odt"},
		{"a folder", []string{"Marketing:/Offers/"}, "", "Marketing", "/Offers"},
		{"slashes too many", []string{"Marketing://Offers///May//"}, "", "Marketing", "/Offers/May"},
		{"only the first counts", []string{"Marketing:/a:/b"}, "", "Marketing", "/a:/b"},
		{"dots are names", []string{"Marketing:/../a"}, "", "Marketing", "/../a"},
		{"a space with a colon", []string{"a:b:/c"}, "", "a:b", "/c"},
		{"an alias", []string{"personal/alan:/x"}, "", "personal/alan", "/x"},
		{"with the storage", []string{"st$sp:/x"}, "", "st$sp", "/x"},
		{"a set and a space", []string{"2026", "Marketing"}, "2026", "Marketing", "/"},
		{"a set and a space like a set", []string{"latest", "latest"}, "latest", "latest", "/"},
		{"bytes that are no UTF-8", []string{"M:/\xff\n"}, "", "M", "/\xff\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, p, err := ParseArgs(tc.args)
			if err != nil || set != tc.set || (p == nil) != (tc.space == "") || p != nil && *p != (Place{tc.space, tc.path}) {
				t.Errorf("%q, %+v, %v", set, p, err)
			}
		})
	}
	for _, args := range [][]string{{""}, {":/x"}, {"latest", ":"}, {"latest", "Marketing:/a", "b"}} {
		if _, _, err := ParseArgs(args); fail.CodeOf(err) != fail.Usage {
			t.Errorf("%q: %v", args, err)
		}
	}
}
