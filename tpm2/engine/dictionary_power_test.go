package engine_test

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// A try that was answered is in the permanent state, which the owner of the TPM keeps
// before the answer leaves: whoever takes the power away, or kills the process, at any
// moment has it counted, or learns nothing from it. The reference, which may answer
// before its memory is written, has TPM_RC_RETRY for that: it notes the use first and
// has the caller come again (Part 1, 19.8.7).
func TestATryIsKeptBeforeItsAnswer(t *testing.T) {
	const right, wrong = "right", "wrong"
	for name, tc := range map[string]struct {
		tries []string
		last  bool   // the last one changes the permanent state
		want  uint32 // failures that are counted once the power was lost
	}{
		"none":                        {nil, false, 0},
		"the first use":               {[]string{right}, true, 1},
		"another use":                 {[]string{right, right}, false, 1},
		"the first try is wrong":      {[]string{wrong}, true, 2},
		"a wrong try after a use":     {[]string{right, wrong}, true, 2},
		"wrong tries, one by one":     {[]string{wrong, wrong}, true, 3},
		"a use after a wrong try":     {[]string{wrong, right}, false, 2},
		"no more than there can be":   {[]string{wrong, wrong, wrong}, true, 3},
		"what is refused in lockout":  {[]string{wrong, wrong, wrong, right}, false, 3},
		"what is guessed in lockout":  {[]string{wrong, wrong, wrong, wrong}, false, 3},
		"the third after a right one": {[]string{wrong, right, wrong}, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			x := newGuessing(t)
			orderly := tpm2.StartupClear
			x.restart(&orderly, tpm2.StartupClear)
			x.written = x.tpm.MustPermanent()
			for i, value := range tc.tries {
				useSecret(value)(x)
				changed := x.tpm.Changed()
				if last := i == len(tc.tries)-1; last && changed != tc.last {
					t.Errorf("the permanent state has changed: %v, want %v", changed, tc.last)
				}
				if changed {
					x.written = x.tpm.MustPermanent()
				}
			}
			x.powerLoss()
			x.startup(tpm2.StartupClear)
			if got := x.property(tpm2.PTLockoutCounter); got != tc.want {
				t.Errorf("%d failures are counted, want %d", got, tc.want)
			}
		})
	}
}
