package differential

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// What voids a shutdown in libtpms alone is a value of the platform that does not
// change, not any value, and a session's context that is refused late.
func TestWhatDoesNotChangeAfterAShutdown(t *testing.T) {
	did := func(cc tpm2.CC, h tpm2.Handle, params ...byte) *Observation {
		return &Observation{Code: cc, Handles: []tpm2.Handle{h}, Plain: params}
	}
	const platform, owner = tpm2.HandlePlatform, tpm2.HandleOwner
	start, shutdown := did(tpm2.CCStartup, 0, 0, 0), did(tpm2.CCShutdown, 0, 0, 1)
	auth := did(tpm2.CCHierarchyChangeAuth, platform, 0, 1, 'a')
	load := func(rc tpm2.RC) *Observation { return &Observation{Code: tpm2.CCContextLoad, RC: [2]tpm2.RC{rc, rc}} }
	noPolicy := did(tpm2.CCSetPrimaryPolicy, platform, 0, 0, 0, 0x10)
	for name, tc := range map[string]struct {
		after []*Observation // a startup
		want  bool
	}{
		"the same authValue":            {[]*Observation{auth, shutdown, auth}, true},
		"another authValue":             {[]*Observation{shutdown, auth}, false},
		"before the shutdown":           {[]*Observation{auth, auth, shutdown}, false},
		"no policy, as before":          {[]*Observation{shutdown, noPolicy}, true},
		"a policy":                      {[]*Observation{shutdown, did(tpm2.CCSetPrimaryPolicy, platform, 0, 1, 7, 0, 0x0b)}, false},
		"an authValue of the owner":     {[]*Observation{shutdown, did(tpm2.CCHierarchyChangeAuth, owner, 0, 0)}, false},
		"the platform is disabled":      {[]*Observation{shutdown, did(tpm2.CCHierarchyControl, platform, 0x40, 0, 0, 0x0c, 0)}, true},
		"the owner is disabled":         {[]*Observation{shutdown, did(tpm2.CCHierarchyControl, platform, 0x40, 0, 0, 1, 0)}, false},
		"no room for a context":         {[]*Observation{shutdown, load(tpm2.RCSessionMemory)}, true},
		"before the shutdown, no room":  {[]*Observation{load(tpm2.RCSessionMemory), shutdown}, false},
		"a context that is none":        {[]*Observation{shutdown, load(tpm2.RCIntegrity.Of(tpm2.RCParameter, 1))}, false},
		"an authValue that was cleared": {[]*Observation{auth, start, shutdown, auth}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory
			m.remember(start)
			for _, o := range tc.after {
				m.remember(o)
			}
			if m.same != tc.want {
				t.Errorf("same is %v, want %v", m.same, tc.want)
			}
		})
	}
}

// The order of an allocation is lost by a TPM2_Clear after it, and before it holds.
func TestWhichAllocationsAreCleared(t *testing.T) {
	allocate, clearAll := &Observation{Code: tpm2.CCPCRAllocate}, &Observation{Code: tpm2.CCClear}
	start := &Observation{Code: tpm2.CCStartup, Plain: []byte{0, 0}}
	refused := &Observation{Code: tpm2.CCClear, RC: [2]tpm2.RC{tpm2.RCDisabled, tpm2.RCDisabled}}
	for name, tc := range map[string]struct {
		did  []*Observation
		want bool
	}{
		"cleared":                   {[]*Observation{allocate, clearAll, start}, true},
		"refused":                   {[]*Observation{allocate, refused, start}, false},
		"cleared before":            {[]*Observation{clearAll, allocate, start}, false},
		"cleared when it held":      {[]*Observation{allocate, start, clearAll}, false},
		"ordered once more":         {[]*Observation{allocate, clearAll, allocate, start}, false},
		"nothing but TPM2_Clear":    {[]*Observation{clearAll, start}, false},
		"cleared, and started once": {[]*Observation{allocate, clearAll, start, start}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory
			for _, o := range tc.did {
				m.remember(o)
			}
			if m.cleared != tc.want {
				t.Errorf("cleared is %v, want %v", m.cleared, tc.want)
			}
		})
	}
}

// A mark of a use that no startup counted hides the uses between that startup and the
// next one, unless TPM2_Shutdown takes it away.
func TestWhatHidesUsesOfProtectedObjects(t *testing.T) {
	tries := func(n byte) *Observation { // is the answer to look
		b := append([]byte{0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 2, 0x0e, 0, 0, 0}, n)
		return &Observation{Code: tpm2.CCGetCapability, Params: [2][]byte{b, b}}
	}
	set := func(maxTries, recoveryTime byte) *Observation {
		return &Observation{Code: tpm2.CCDictionaryAttackParameters, Plain: []byte{0, 0, 0, maxTries, 0, 0, 0, recoveryTime, 0, 0, 0, 0}}
	}
	start, shutdown := &Observation{Code: tpm2.CCStartup, Plain: []byte{0, 0}}, &Observation{Code: tpm2.CCShutdown, Plain: []byte{0, 0}}
	erase, reset := &Observation{Code: tpm2.CCClear}, &Observation{Code: tpm2.CCDictionaryAttackLockReset}
	for name, tc := range map[string]struct {
		after []*Observation // a startup, and before another
		want  bool
	}{
		"as manufactured":             {[]*Observation{start, tries(1)}, false},
		"nothing recovers":            {[]*Observation{set(5, 0), start, tries(0), set(5, 1)}, true},
		"nothing may be tried":        {[]*Observation{set(0, 1), start, tries(0), set(5, 1)}, true},
		"it was so":                   {[]*Observation{set(5, 0), set(5, 1), start, tries(0)}, false},
		"it was so before TPM2_Clear": {[]*Observation{set(5, 0), erase, start, tries(0)}, false},
		"too late":                    {[]*Observation{start, tries(0), set(5, 0)}, false},
		"a startup ago":               {[]*Observation{set(5, 0), start, tries(0), set(5, 1), start, tries(0)}, false},
		"in lockout":                  {[]*Observation{set(2, 1), start, tries(2), reset}, true},
		"in lockout, by default":      {[]*Observation{start, tries(3), reset}, true},
		"later in lockout":            {[]*Observation{set(2, 1), start, tries(0), tries(2), reset}, false},
		"a shutdown":                  {[]*Observation{set(5, 0), start, tries(0), set(5, 1), shutdown}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory
			m.remember(start)
			for _, o := range append(tc.after, start) {
				m.remember(o)
			}
			if m.hidden != tc.want {
				t.Errorf("uses are hidden: %v, want %v", m.hidden, tc.want)
			}
		})
	}
}
