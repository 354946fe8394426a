package machine

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/tpm2"
)

// A recorded boot stands for the prediction of it, but for registers that no disk
// determines.
type recorded map[int][]byte

func (r recorded) PCR(_ tpm2.Alg, pcr int) ([]byte, bool) {
	v, ok := r[pcr]
	return v, ok && slices.Contains([]int{4, 5, 7, 8, 9, 11}, pcr)
}

func (r recorded) Unknown(int) []evidence.Reason {
	return []evidence.Reason{{Code: "launch.by-firmware", Message: "the firmware makes it"}}
}

func TestWhatTheNextBootWillShowOtherwise(t *testing.T) {
	t.Parallel()
	inspect := func(scenario string) *eventlog.Inspected {
		l, err := eventlog.Parse(evidencetest.File(t, scenario+"/eventlog.bin"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Inspect(integrity.Bank)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := &integrity.Version{Number: 3, Baseline: baseline.From(inspect("good-uki"), baseline.Shape{})}
	for scenario, want := range map[string][]int{
		"good-uki":         nil,
		"good-uki-update":  {4, 11},
		"bad-uki-cmdline":  {4, 9, 11},
		"bad-db-extra-key": {7},
	} {
		f := foresee(recorded(inspect(scenario).Late()), v, baseline.Default())
		var changes []int
		for _, r := range f.Registers {
			switch {
			case r.State == ForeseenChanges:
				changes = append(changes, r.PCR)
				if r.Old == r.New || !r.Judged {
					t.Errorf("%s: %+v", scenario, r)
				}
			case r.State == ForeseenUnknown && (r.New != "" || len(r.Reasons) == 0):
				t.Errorf("%s: %+v", scenario, r)
			case r.State == ForeseenSame && r.Old != r.New:
				t.Errorf("%s: %+v", scenario, r)
			}
		}
		if diff := cmp.Diff(want, changes); diff != "" {
			t.Errorf("%s: registers that change (-want +got):\n%s", scenario, diff)
		}
		if f.Changes() != (len(want) > 0) || f.Baseline != 3 || f.Bank != "sha256" {
			t.Errorf("%s: Changes = %v of baseline %d in %s", scenario, f.Changes(), f.Baseline, f.Bank)
		}
	}
}

func TestNothingIsForeseenWithoutABaseline(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if _, _, err := h.root.Foresee(t.Context(), "web-1"); !errors.Is(err, ErrNoBaseline) {
		t.Errorf("Foresee = %v", err)
	}
	h.run(boot(t, "good-uki"))
	if _, _, err := h.root.Foresee(t.Context(), "web-1"); !errors.Is(err, ErrNoDisk) {
		t.Errorf("Foresee = %v", err)
	}
}
