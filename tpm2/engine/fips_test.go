package engine_test

import (
	"crypto/fips140"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// TPM_PT_MODES says FIPS 140-3 just where the validated module computes for a profile
// of approved algorithms, and FIPS 140-2 never: also for a TPM that comes out of its
// state. The run in FIPS 140-3 mode has the other half of the cases.
func TestModesTellTheValidatedModule(t *testing.T) {
	for _, p := range engine.NewestProfiles() {
		want := tpm2.ModeAttributes(0)
		if p.Name == "fips" && fips140.Enabled() {
			want = tpm2.ModeFIPS140v3
		}
		m := manufacture(t, p.Name)
		m.startup(tpm2.StartupClear)
		if got := tpm2.ModeAttributes(m.property(tpm2.PTModes)); got != want {
			t.Errorf("profile %s, FIPS 140-3 mode %t: TPM_PT_MODES is %#x, want %#x", p.Name, fips140.Enabled(), got, want)
		}
		m.cycle(cycles[0])
		if got := tpm2.ModeAttributes(m.property(tpm2.PTModes)); got != want {
			t.Errorf("profile %s, FIPS 140-3 mode %t: TPM_PT_MODES of the TPM out of its state is %#x, want %#x", p.Name, fips140.Enabled(), got, want)
		}
	}
}

// A TPM that nobody chose a profile for is of the approved one where the validated
// module computes, and there the others are what somebody is to be told of.
func TestTheDefaultProfileIsApprovedWithTheModule(t *testing.T) {
	p, err := engine.FindProfile(engine.DefaultProfile(), 0)
	if err != nil || p.FIPS != fips140.Enabled() {
		t.Errorf("FIPS 140-3 mode %t: the default profile is %q, %v", fips140.Enabled(), engine.DefaultProfile(), err)
	}
	for _, p := range engine.NewestProfiles() {
		if got, want := p.Unapproved(), fips140.Enabled() && p.Name != "fips"; got != want {
			t.Errorf("FIPS 140-3 mode %t: Unapproved of %s = %t, want %t", fips140.Enabled(), p.Name, got, want)
		}
	}
}
