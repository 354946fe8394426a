package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

func (m *machine) capability(c tpm2.Capability, property, count uint32) command.GetCapabilityOut {
	m.Helper()
	var out command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: c, Property: property, PropertyCount: count}, &out)
	return out
}

// A list may be asked for in parts, each beginning where the last one ended: the
// parts are the whole, in order.
func TestPartsOfACapabilityAreTheWhole(t *testing.T) {
	numbers := map[tpm2.Capability]func(d *tpm2.CapabilityData) []uint32{
		tpm2.CapAlgs: func(d *tpm2.CapabilityData) (n []uint32) {
			for _, a := range d.Algorithms {
				n = append(n, uint32(a.Alg))
			}
			return n
		},
		tpm2.CapCommands: func(d *tpm2.CapabilityData) (n []uint32) {
			for _, a := range d.Commands {
				n = append(n, uint32(a.Code()))
			}
			return n
		},
		tpm2.CapTPMProperties: func(d *tpm2.CapabilityData) (n []uint32) {
			for _, p := range d.Properties {
				n = append(n, uint32(p.Property))
			}
			return n
		},
		tpm2.CapECCCurves: func(d *tpm2.CapabilityData) (n []uint32) {
			for _, c := range d.ECCCurves {
				n = append(n, uint32(c))
			}
			return n
		},
		tpm2.CapPCRProperties: func(d *tpm2.CapabilityData) (n []uint32) {
			for _, p := range d.PCRProperties {
				n = append(n, uint32(p.Tag))
			}
			return n
		},
	}
	for _, p := range engine.Profiles() {
		m := manufacture(t, p.Name)
		m.startup(tpm2.StartupClear)
		for c, of := range numbers {
			whole := m.capability(c, 0, 1000)
			want := of(&whole.CapabilityData)
			if whole.MoreData || len(want) == 0 || !slices.IsSorted(want) {
				t.Errorf("%s: capability %d is %v, more %v", p.Name, c, want, whole.MoreData)
			}
			var got []uint32
			for next, more := uint32(0), true; more; {
				part := m.capability(c, next, 2)
				got = append(got, of(&part.CapabilityData)...)
				next, more = got[len(got)-1]+1, part.MoreData
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: parts of capability %d are %v, want %v", p.Name, c, got, want)
			}
			if none := m.capability(c, 0, 0); !none.MoreData || len(of(&none.CapabilityData)) != 0 {
				t.Errorf("%s: none of capability %d is %+v", p.Name, c, none)
			}
		}
	}
}

func TestHandlesAreTold(t *testing.T) {
	m := newMachine(t)
	m.keepSomething()
	s := m.session(sessionConfig{})
	m.do(tpm2.CCContextSave, handles(m.session(sessionConfig{kind: tpm2.SessionPolicy}).handle), nil, nil, nil)
	for first, want := range map[tpm2.Handle][]tpm2.Handle{
		0x01000000: {keptIndex, keptCounter},
		0x02000000: {s.handle},
		0x03000000: {0x02000001},
		0x40000000: {tpm2.HandleOwner, tpm2.HandleNull, tpm2.HandlePassword, tpm2.HandleLockout, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandlePlatformNV},
		0x80000000: {keptSequence},
		0x81000000: {keptPersistent},
		0x81000002: {},
	} {
		got := m.capability(tpm2.CapHandles, uint32(first), 100).CapabilityData.Handles
		if !slices.Equal(got, want) {
			t.Errorf("handles from %#x are %#x, want %#x", uint32(first), got, want)
		}
	}
	if got := m.capability(tpm2.CapHandles, 0, 100).CapabilityData.Handles; len(got) != tpm2.NumPCR || got[23] != 23 {
		t.Errorf("PCRs are %v", got)
	}
}

func TestCapabilitiesThatAreNotThere(t *testing.T) {
	m := newMachine(t)
	for name, tc := range map[string]struct {
		c        tpm2.Capability
		property uint32
		want     tpm2.RC
	}{
		"a kind of handle":         {tpm2.CapHandles, 0x05000000, parameterRC(tpm2.RCHandleValue, 2)},
		"a PCR":                    {tpm2.CapPCRs, 1, parameterRC(tpm2.RCValue, 2)},
		"a policy of no hierarchy": {tpm2.CapAuthPolicies, 0x80000000, parameterRC(tpm2.RCValue, 2)},
		"a timer's number":         {tpm2.CapACT, 0x40000120, parameterRC(tpm2.RCValue, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(tc.want, tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tc.c, Property: tc.property, PropertyCount: 1})
		})
	}
	m.in(t)
	if got := m.capability(tpm2.CapACT, uint32(tpm2.HandleACT0), 9).CapabilityData; fmt.Sprint(got) != fmt.Sprint(tpm2.CapabilityData{Capability: tpm2.CapACT}) {
		t.Errorf("timers are %+v, want none", got)
	}
}

// What the TPM says of its state is its state.
func TestPropertiesTellTheState(t *testing.T) {
	m := newMachine(t)
	orderly := uint32(tpm2.StartupClearOrderly)
	if got := m.property(tpm2.PTStartupClear); got&orderly == 0 {
		t.Errorf("TPMA_STARTUP_CLEAR of a new TPM is %#x, want it orderly", got)
	}
	m.cycle(cycles[0])
	if got := m.property(tpm2.PTStartupClear); got&orderly != 0 {
		t.Errorf("TPMA_STARTUP_CLEAR after a power loss is %#x", got)
	}
	m.keepSomething()
	m.session(sessionConfig{})
	m.do(tpm2.CCHierarchyChangeAuth, handles(tpm2.HandleLockout), []auth{{}}, &command.HierarchyChangeAuthIn{NewAuth: []byte("x")}, nil)
	for p, want := range map[tpm2.PT]uint32{
		tpm2.PTPermanent: 1<<10 | 1<<2, tpm2.PTHRNVIndex: 2, tpm2.PTHRLoaded: 1, tpm2.PTHRLoadedAvail: 2, tpm2.PTHRActive: 1, tpm2.PTHRActiveAvail: 63,
		tpm2.PTHRTransientAvail: 2, tpm2.PTHRPersistent: 1, tpm2.PTHRPersistentAvail: 63, tpm2.PTNVCounters: 1,
		tpm2.PTTotalCommands: uint32(len(m.capability(tpm2.CapCommands, 0, 1000).CapabilityData.Commands)),
	} {
		if got := m.property(p); got != want {
			t.Errorf("property %#x is %#x, want %#x", uint32(p), got, want)
		}
	}
}

// TPM_PT_NV_COUNTERS_AVAIL counters can be defined, and no more.
func TestCountersThatAreToldAvailableAre(t *testing.T) {
	m := newMachine(t)
	for i := range tpm2.Handle(31) {
		p := tpm2.NVPublic{NVIndex: 0x01800000 + i, NameAlg: tpm2.AlgSHA256, Attributes: byOwner, DataSize: 2048}
		m.defineNV(p)
	}
	m.defineNV(tpm2.NVPublic{NVIndex: 0x01800040, NameAlg: tpm2.AlgSHA256, Attributes: byOwner, DataSize: 2048 - 24})
	if got := m.property(tpm2.PTNVCountersAvail); got != 3 {
		t.Fatalf("with room for 24 bytes %d counters are told available", got)
	}
	counter := tpm2.NVPublic{NVIndex: 0x01900000, NameAlg: tpm2.AlgSHA256, Attributes: byOwner | tpm2.NVCounter.Attributes(), DataSize: 8}
	for range 3 {
		m.defineNV(counter)
		counter.NVIndex++
	}
	m.fails(tpm2.RCNVSpace, tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: counter})
}

// TPM_PT_MAX_OBJECT_CONTEXT is enough for the largest object that may be saved.
func TestASavedContextIsNoLargerThanTold(t *testing.T) {
	large := rsaTemplate(signing)
	large.Parameters.RSA.KeyBits = 4096
	for name, tc := range map[string]struct {
		m        *machine
		template tpm2.Public
	}{
		"RSA-4096":  {newMachine(t), large},
		"ML-DSA-87": {newPostQuantum(t), mldsaTemplate(tpm2.MLDSA87, signing)},
	} {
		x := tc.m.save(tc.m.primary(tpm2.HandleOwner, tc.template, ""))
		if told := tc.m.property(tpm2.PTMaxObjectContext); len(x.ContextBlob) > int(told) {
			t.Errorf("%s: a saved context has %d bytes, told are at most %d", name, len(x.ContextBlob), told)
		}
	}
}

// From version 1.85 on TPM_PT_DAY_OF_YEAR tells the version of the errata, and
// TPM_PT_YEAR is 0 (Part 2, 1.85, 6.13).
func TestTheVersionOfTheSpecification(t *testing.T) {
	for m, want := range map[*machine][3]uint32{
		newMachine(t): {183, 25, 2024}, newPostQuantum(t): {185, 1, 0},
	} {
		if got := [3]uint32{m.property(tpm2.PTRevision), m.property(tpm2.PTDayOfYear), m.property(tpm2.PTYear)}; got != want {
			t.Errorf("revision, day and year are %v, want %v", got, want)
		}
	}
}
