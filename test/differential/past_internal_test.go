package differential

import (
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
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

// The first write of a part is one to a PIN index, whatever the stream knows of it.
func TestWhichPINIndicesAreWrittenInParts(t *testing.T) {
	const index, other = tpm2.Handle(0x01000004), tpm2.Handle(0x01000005)
	define := func(h tpm2.Handle, a tpm2.NVAttributes) *Observation {
		b, err := wire.Encode(&command.NVDefineSpaceIn{PublicInfo: tpm2.NVPublic{NVIndex: h, NameAlg: tpm2.AlgSHA256, Attributes: a | tpm2.NVAuthWrite | tpm2.NVAuthRead | tpm2.NVNoDA, DataSize: 8}})
		if err != nil {
			t.Fatal(err)
		}
		return &Observation{Code: tpm2.CCNVDefineSpace, Plain: b}
	}
	write := func(h tpm2.Handle, size byte) *Observation {
		return &Observation{Code: tpm2.CCNVWrite, Handles: []tpm2.Handle{tpm2.HandleOwner, h}, Plain: append(append([]byte{0, size}, make([]byte, size)...), 0, 0)}
	}
	pin, ordinary := tpm2.NVAttributes(tpm2.NVPinFail)<<4, tpm2.NVAttributes(0)
	for name, tc := range map[string]struct {
		did  []*Observation
		want bool
	}{
		"nothing of it":           {[]*Observation{define(index, pin), write(index, 0)}, true},
		"a half":                  {[]*Observation{define(index, pin), write(index, 4)}, true},
		"the whole":               {[]*Observation{define(index, pin), write(index, 8)}, false},
		"another index":           {[]*Observation{define(index, pin), write(other, 4)}, false},
		"an ordinary index":       {[]*Observation{define(index, ordinary), write(index, 4)}, false},
		"one that is defined new": {[]*Observation{define(index, pin), write(index, 4), define(index, ordinary)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var m memory
			for _, o := range tc.did {
				m.remember(o)
			}
			if got := slices.Contains(m.parts, index); got != tc.want {
				t.Errorf("a part was written: %v, want %v", got, tc.want)
			}
		})
	}
}
