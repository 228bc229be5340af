package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ocbackup/ocbackup/opencloud"
)

func TestResolve(t *testing.T) {
	spaces := []Space{
		{ID: "4c510ada-c86b-4815-8820-42cdf82c3d51", Name: "Albert Einstein", Type: "personal", Alias: "personal/einstein"},
		{ID: "4c520000-0000-4000-8000-000000000000", Name: "Marketing", Type: "project", Alias: "project/marketing"},
		{ID: "90000000-0000-4000-8000-000000000001", Name: "Offers", Type: "project", Alias: "project/offers"},
		{ID: "90000000-0000-4000-8000-000000000002", Name: "Offers", Type: "project", Alias: "project/offers-2", Disabled: at(0)},
		{ID: "a0000000-0000-4000-8000-000000000003", Name: "4c52", Type: "project", Alias: "project/4c52"},
		{ID: "b0000000-0000-4000-8000-000000000004", Name: "MARKETING", Type: "project", Alias: "project/capitals"},
		{ID: "c0000000-0000-4000-8000-000000000005", Name: "cost$benefit", Type: "project", Alias: "project/cb"},
	}
	f := written(t, opencloud.Posix, spaces, []Node{{Kind: KindFile, Space: spaces[1].ID, Path: "/x"}})
	for ref, want := range map[string]int{
		"Albert Einstein":                      0,
		"albert einstein":                      0,
		"personal/einstein":                    0,
		"4c510ada-c86b-4815-8820-42cdf82c3d51": 0,
		"4c51":                                 0,
		"Marketing":                            1, // not the one in capitals
		"PROJECT/MARKETING":                    1,
		"storage-1$" + spaces[1].ID:            1,
		"storage-1$4c520":                      1,
		"4c520":                                1,
		"4c52":                                 4, // a name comes before the beginning of an id
		"project/offers":                       2,
		"90000000-0000-4000-8000-000000000002": 3,
		"cost$benefit":                         6,
	} {
		if got, err := f.Resolve(ref); err != nil || got.ID != spaces[want].ID || got.Name != spaces[want].Name {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	for ref, want := range map[string][]int{"Offers": {2, 3}, "marketing": {1, 5}, "9": {2, 3}} {
		_, err := f.Resolve(ref)
		var ambiguous *AmbiguousError
		if !errors.As(err, &ambiguous) || len(ambiguous.Spaces) != len(want) {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		for i, w := range want {
			s := spaces[w]
			if ambiguous.Spaces[i].ID != s.ID || !strings.Contains(err.Error(), s.ID) || !strings.Contains(err.Error(), s.Name) || !strings.Contains(err.Error(), s.Type) {
				t.Errorf("%s: %v does not list %+v", ref, err, s)
			}
		}
	}
	if _, err := f.Resolve("Offers"); !strings.Contains(err.Error(), "disabled") {
		t.Errorf("%v does not tell which is disabled", err)
	}
	for ref, want := range map[string][]string{
		"Markting": {"MARKETING", "Marketing"},
		"Einstein": {"Albert Einstein", "personal/einstein"},
		"ofers":    {"Offers"},
		"nonsense": nil,
		"":         nil,
	} {
		_, err := f.Resolve(ref)
		var none *NotFoundError
		if !errors.As(err, &none) {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		for _, w := range want {
			if !slices.Contains(none.Near, w) || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not name %q", ref, err, w)
			}
		}
		if want == nil && len(none.Near) > 0 {
			t.Errorf("%s is not like %q", ref, none.Near)
		}
	}
}
