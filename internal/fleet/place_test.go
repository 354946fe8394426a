package fleet

import (
	"errors"
	"strings"
	"testing"
)

func TestAMachineRunsOnlyWhereItIsBoundTo(t *testing.T) {
	t.Parallel()
	here := Place{Host: "h1", Site: "north"}
	for name, tc := range map[string]struct {
		place      Place
		host, site string
		want       []string // in the error; none for no error
	}{
		"bound to nothing":    {here, "", "", nil},
		"bound to this":       {here, "h1", "north", nil},
		"another host":        {here, "h2", "north", []string{`host "h2"`, `host "h1"`}},
		"another site":        {here, "h1", "south", []string{`site "south"`, `site "north"`}},
		"both":                {here, "h2", "south", []string{"host", "site"}},
		"a site not known":    {Place{Host: "h1"}, "", "north", []string{"nobody has said", "--site"}},
		"nothing is known":    {Place{}, "h1", "", []string{"--host"}},
		"bound, of any place": {Place{}, "", "", nil},
	} {
		err := tc.place.Check(&Definition{Host: tc.host, Site: tc.site})
		if (err == nil) != (tc.want == nil) || err != nil && !errors.Is(err, ErrElsewhere) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range tc.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %s", name, err, w)
			}
		}
	}
}

func TestPlacesAreReadStrictly(t *testing.T) {
	t.Parallel()
	if p, err := ParsePlace([]byte(`{"host": "h1", "site": "north"}`)); err != nil || p != (Place{"h1", "north"}) {
		t.Errorf("ParsePlace = %v, %v", p, err)
	}
	for _, text := range []string{"", "[]", `{"rack": "1"}`, `{"host": "a b"}`, `{"host": "a", "host": "b"}`, `{"host": "a"}{}`} {
		if p, err := ParsePlace([]byte(text)); err == nil {
			t.Errorf("ParsePlace(%q) = %v", text, p)
		}
	}
}
