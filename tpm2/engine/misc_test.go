package engine_test

import (
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// presenceList returns what TPM_CAP_PP_COMMANDS tells.
func (m *machine) presenceList() []tpm2.CC {
	m.Helper()
	var out command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapPPCommands, PropertyCount: 255}, &out)
	return out.CapabilityData.CommandCodes
}

func TestPhysicalPresence(t *testing.T) {
	m := newMachine(t)
	set := func(set, clr []tpm2.CC) tpm2.RC {
		return m.run(tpm2.CCPPCommands, handles(platform), password(""), &command.PPCommandsIn{SetList: set, ClearList: clr}, nil)
	}
	evict := func() tpm2.RC { return m.control(platform, owner, true) }
	if got := set([]tpm2.CC{tpm2.CCHierarchyControl}, nil); got != sessionRC(tpm2.RCPP, 1) {
		t.Errorf("PP_Commands without presence = %v, want TPM_RC_PP of session 1", got)
	}
	m.tpm.SetPhysicalPresence(true)
	// Codes of commands that cannot need presence, or are none, are passed over.
	if got := set([]tpm2.CC{tpm2.CCHierarchyControl, tpm2.CCGetRandom, tpm2.CCStartup, 0x1ff, 0x7fffffff}, nil); got != 0 {
		t.Errorf("PP_Commands = %v", got)
	}
	if got, want := m.presenceList(), []tpm2.CC{tpm2.CCHierarchyControl, tpm2.CCPPCommands}; !slices.Equal(got, want) {
		t.Errorf("commands that need presence are %v, want %v", got, want)
	}
	if got := evict(); got != 0 {
		t.Errorf("HierarchyControl with presence = %v", got)
	}
	m.tpm.SetPhysicalPresence(false)
	if got := evict(); got != sessionRC(tpm2.RCPP, 1) {
		t.Errorf("HierarchyControl without presence = %v, want TPM_RC_PP of session 1", got)
	}
	if got := m.control(owner, owner, true); got != 0 {
		t.Errorf("HierarchyControl by the owner = %v: only the platform needs presence", got)
	}
	clearing := tpm2.StartupClear
	m.restart(&clearing, clearing)
	if got := evict(); got != sessionRC(tpm2.RCPP, 1) {
		t.Errorf("HierarchyControl after TPM Reset = %v, want TPM_RC_PP of session 1", got)
	}
	m.tpm.SetPhysicalPresence(true)
	set(nil, []tpm2.CC{tpm2.CCHierarchyControl, tpm2.CCPPCommands})
	if got, want := m.presenceList(), []tpm2.CC{tpm2.CCPPCommands}; !slices.Equal(got, want) {
		t.Errorf("commands that need presence are %v, want %v", got, want)
	}
}

// Part 3, 26.2: a code in both lists does not need presence in the end.
func TestPresenceIsSetAndThenCleared(t *testing.T) {
	m := newMachine(t)
	m.tpm.SetPhysicalPresence(true)
	both := []tpm2.CC{tpm2.CCClear}
	m.do(tpm2.CCPPCommands, handles(platform), password(""), &command.PPCommandsIn{SetList: both, ClearList: both}, nil)
	if got, want := m.presenceList(), []tpm2.CC{tpm2.CCPPCommands}; !slices.Equal(got, want) {
		t.Errorf("commands that need presence are %v, want %v", got, want)
	}
}

func TestTheAlgorithmSetIsKeptAndTold(t *testing.T) {
	m := newMachine(t)
	clearing := tpm2.StartupClear
	if got := m.property(tpm2.PTAlgorithmSet); got != 0 {
		t.Errorf("algorithm set is %d, want 0", got)
	}
	m.do(tpm2.CCSetAlgorithmSet, handles(platform), password(""), &command.SetAlgorithmSetIn{AlgorithmSet: 7}, nil)
	m.restart(&clearing, clearing)
	if got := m.property(tpm2.PTAlgorithmSet); got != 7 {
		t.Errorf("algorithm set is %d, want 7", got)
	}
	m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCSetAlgorithmSet, handles(owner), password(""), &command.SetAlgorithmSetIn{})
}
