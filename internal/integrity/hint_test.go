package integrity

import (
	"testing"

	"github.com/assay-project/assay/eventlog"
)

// A name that nobody proved changes no verdict: package baseline looks at kinds.
func TestAHintNamesAndDecidesNothing(t *testing.T) {
	hint := func(int, []byte) (Name, bool) { return Name{Kind: eventlog.KindBootEntry, Name: "hint"}, true }
	plain, hinted := NewWatch(Bank, nil), NewWatch(Bank, hint)
	for _, r := range journalOf(t, "good-uki") {
		plain.Take(r)
		hinted.Take(r)
	}
	was, is := plain.Boot().Components(), hinted.Boot().Components()
	named := 0
	for i := range was {
		if was[i].Proven {
			if is[i].Name != was[i].Name || !is[i].Proven {
				t.Errorf("event %d: %q was known as %q", i, is[i].Name, was[i].Name)
			}
			continue
		}
		named++
		if is[i].Name != "hint" || is[i].Proven {
			t.Errorf("event %d is %+v", i, is[i])
		}
		if is[i].Kind != was[i].Kind && was[i].Kind != eventlog.KindOther {
			t.Errorf("event %d: kind %s was %s", i, is[i].Kind, was[i].Kind)
		}
	}
	if named == 0 {
		t.Error("nothing was named")
	}
}
