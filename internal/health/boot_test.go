package health

import (
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
)

// A machine whose first baseline waits for a person is compared with nothing, and is not
// healthy for want of it; what its TPM proves against it counts all the same.
func TestNoBootIsHealthyForWantOfABaseline(t *testing.T) {
	for scenario, want := range map[string]State{good: Unknown, "bad-uki-cmdline": Unknown, "persist/boot4": Departed} {
		t.Run(scenario, func(t *testing.T) {
			i := &issuer{nonce: make([]byte, 32)}
			inBubble(t, func(f *fixture) {
				f.cfg.Reference = func() (*baseline.Baseline, baseline.Profile) { return nil, baseline.Default() }
				f.cfg.Issuer = i
				f.guest.Boot(scenarioNamed(t, scenario), bootID)
			}, func(f *fixture) {
				f.start(f.guest.Agent())
				f.wait(time.Second)
				if a := f.last(1); a.State != want || a.Token != "" || want == Unknown && a.Reasons[0].Code != codeNoBaseline {
					t.Errorf("%q with token %q: %+v", a.State, a.Token, a.Reasons)
				}
			})
		})
	}
}
