package engine_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

func extension(n byte) *command.PCRExtendIn {
	return &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{n}, 32)}}}
}

// extended is SHA-256 of an old value and what it is extended with.
func extended(old, with []byte) []byte { return sum(old, with) }

// Who may extend and reset which PCR is table 7 of the PTP, but that at locality 4
// only _TPM_Hash_Start resets.
func TestLocalitiesOfPCRs(t *testing.T) {
	type sets struct{ extend, reset string }
	want := map[int]sets{
		16: {"01234", "0123"}, 17: {"234", ""}, 18: {"234", ""}, 19: {"23", ""},
		20: {"123", "2"}, 21: {"2", "2"}, 22: {"2", "2"}, 23: {"01234", "0123"},
	}
	m := newMachine(t)
	for pcr := range tpm2.NumPCR {
		w, ok := want[pcr]
		if !ok {
			w = sets{"01234", ""}
		}
		got := sets{}
		for l := range uint8(5) {
			m.locality = l
			h := handles(tpm2.Handle(pcr))
			if rc := m.run(tpm2.CCPCRExtend, h, password(""), extension(1), nil); rc == tpm2.RCSuccess {
				got.extend += fmt.Sprint(l)
			} else if rc != tpm2.RCLocality {
				t.Errorf("PCR_Extend(%d) at locality %d = %v", pcr, l, rc)
			}
			event := m.run(tpm2.CCPCREvent, h, password(""), &command.PCREventIn{}, nil)
			if (event == tpm2.RCSuccess) != bytes.Contains([]byte(got.extend), fmt.Append(nil, l)) {
				t.Errorf("PCR_Event(%d) at locality %d = %v", pcr, l, event)
			}
			if rc := m.run(tpm2.CCPCRReset, h, password(""), nil, nil); rc == tpm2.RCSuccess {
				got.reset += fmt.Sprint(l)
				if v := m.pcr(tpm2.AlgSHA256, pcr); !bytes.Equal(v, zeros()) {
					t.Errorf("PCR %d after its reset is %x", pcr, v)
				}
			} else if rc != tpm2.RCLocality {
				t.Errorf("PCR_Reset(%d) at locality %d = %v", pcr, l, rc)
			}
		}
		if got != w {
			t.Errorf("PCR %d: extend and reset at localities %v, want %v", pcr, got, w)
		}
	}
}

func TestExtending(t *testing.T) {
	m := newMachine(t)
	in := extension(7)
	in.Digests = append(in.Digests, tpm2.DigestValue{HashAlg: tpm2.AlgSHA256, Digest: zeros()}, tpm2.DigestValue{HashAlg: tpm2.AlgSHA3x256, Digest: zeros()})
	m.do(tpm2.CCPCRExtend, handles(7), password(""), in, nil)
	want := extended(extended(zeros(), bytes.Repeat([]byte{7}, 32)), zeros())
	if got := m.pcr(tpm2.AlgSHA256, 7); !bytes.Equal(got, want) {
		t.Errorf("PCR 7 is %x, want %x", got, want)
	}
	if got := m.pcr(tpm2.AlgSHA1, 7); !bytes.Equal(got, make([]byte, 20)) {
		t.Errorf("PCR 7 of the bank that was not named is %x", got)
	}
	m.do(tpm2.CCPCRExtend, handles(tpm2.HandleNull), password(""), in, nil)
	m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCPCRExtend, handles(24), password(""), in)

	var out command.PCREventOut
	m.do(tpm2.CCPCREvent, handles(tpm2.HandleNull), password(""), &command.PCREventIn{EventData: []byte("x")}, &out)
	if len(out.Digests) != 4 || !bytes.Equal(out.Digests[1].Digest, sum([]byte("x"))) {
		t.Errorf("PCR_Event = %+v", out.Digests)
	}
}

func TestEightPCRsAreReadAtOnce(t *testing.T) {
	m := newMachine(t)
	in := &command.PCRReadIn{PCRSelectionIn: tpm2.PCRSelections{
		{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 1, 2, 9, 17, 23)},
		{Hash: tpm2.AlgSHA3x256, Select: tpm2.SelectPCRs(1)},
		{Hash: tpm2.AlgSHA1, Select: tpm2.SelectPCRs(3, 4, 5)},
	}}
	var out command.PCRReadOut
	m.do(tpm2.CCPCRRead, nil, nil, in, &out)
	want := tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 1, 2, 9, 17, 23)}, {Hash: tpm2.AlgSHA3x256}, {Hash: tpm2.AlgSHA1, Select: tpm2.SelectPCRs(3, 4)}}
	if len(out.PCRValues) != 8 || fmt.Sprint(out.PCRSelectionOut) != fmt.Sprint(want) {
		t.Errorf("PCR_Read gave %d values of %v, want 8 of %v", len(out.PCRValues), out.PCRSelectionOut, want)
	}
	if v := out.PCRValues[4]; !bytes.Equal(v, bytes.Repeat([]byte{0xff}, 32)) {
		t.Errorf("PCR 17 is %x, want ones", v)
	}
}

func TestAllocating(t *testing.T) {
	all := tpm2.PCRSelect{0xff, 0xff, 0xff}
	off := func(algs ...tpm2.Alg) (s tpm2.PCRSelections) {
		for _, a := range algs {
			s = append(s, tpm2.PCRSelection{Hash: a})
		}
		return s
	}
	allocate := func(m *machine, s tpm2.PCRSelections) (out command.PCRAllocateOut, rc tpm2.RC) {
		rc = m.run(tpm2.CCPCRAllocate, handles(tpm2.HandlePlatform), password(""), &command.PCRAllocateIn{PCRAllocation: s}, &out)
		return out, rc
	}
	m := newMachine(t)
	three := off(tpm2.AlgSHA1, tpm2.AlgSHA384, tpm2.AlgSHA512)
	for name, sel := range map[string]tpm2.PCRSelect{"nothing": {}, "no PCR 0": tpm2.SelectPCRs(17), "no PCR 17": tpm2.SelectPCRs(0)} {
		if _, rc := allocate(m, append(three, tpm2.PCRSelection{Hash: tpm2.AlgSHA256, Select: sel})); rc != tpm2.RCPCR {
			t.Errorf("allocation of %s = %v, want TPM_RC_PCR", name, rc)
		}
	}
	if _, rc := allocate(m, off(tpm2.AlgSHA256)); rc != tpm2.RCSuccess {
		t.Fatalf("allocation without SHA-256 = %v", rc)
	}
	// The second counts from what there is, not from what the first asked for.
	out, rc := allocate(m, off(tpm2.AlgSHA1))
	if want := (command.PCRAllocateOut{AllocationSuccess: true, MaxPCR: 24, SizeNeeded: 24 * (32 + 48 + 64), SizeAvailable: 24 * (20 + 32 + 48 + 64)}); rc != tpm2.RCSuccess || out != want {
		t.Errorf("allocation without SHA-1 = %+v, %v, want %+v", out, rc, want)
	}
	if m.pcr(tpm2.AlgSHA1, 0) == nil {
		t.Error("the bank of SHA-1 is gone before _TPM_Init")
	}
	m.fails(parameterRC(tpm2.RCType, 1), tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState})
	m.cycle(cycles[1])
	var banks command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapPCRs, PropertyCount: 1}, &banks)
	want := tpm2.PCRSelections{{Hash: tpm2.AlgSHA1}, {Hash: tpm2.AlgSHA256, Select: all}, {Hash: tpm2.AlgSHA384, Select: all}, {Hash: tpm2.AlgSHA512, Select: all}}
	if got := banks.CapabilityData.AssignedPCR; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("allocated PCRs are %v, want %v", got, want)
	}
	if m.pcr(tpm2.AlgSHA1, 0) != nil || m.pcr(tpm2.AlgSHA256, 0) == nil {
		t.Error("the banks are not those that were allocated")
	}
}

func TestPCRAuthorizations(t *testing.T) {
	m := newMachine(t)
	setAuth := func(pcr tpm2.Handle) tpm2.RC {
		return m.run(tpm2.CCPCRSetAuthValue, handles(pcr), password(""), &command.PCRSetAuthValueIn{Auth: []byte("pcr")}, nil)
	}
	if rc := setAuth(0); rc != tpm2.RCValue {
		t.Errorf("PCR_SetAuthValue(0) = %v, want TPM_RC_VALUE", rc)
	}
	if rc := setAuth(21); rc != tpm2.RCSuccess {
		t.Errorf("PCR_SetAuthValue(21) = %v", rc)
	}
	m.locality = 2
	m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCPCRReset, handles(20), password("no"), nil)
	m.do(tpm2.CCPCRReset, handles(20), password("pcr"), nil, nil)
	policy := func(want tpm2.RC, in *command.PCRSetAuthPolicyIn) {
		t.Helper()
		m.fails(want, tpm2.CCPCRSetAuthPolicy, handles(tpm2.HandlePlatform), password(""), in)
	}
	policy(parameterRC(tpm2.RCSize, 1), &command.PCRSetAuthPolicyIn{AuthPolicy: []byte{1}, HashAlg: tpm2.AlgSHA256, PCRNum: 20})
	policy(parameterRC(tpm2.RCValue, 3), &command.PCRSetAuthPolicyIn{AuthPolicy: zeros(), HashAlg: tpm2.AlgSHA256, PCRNum: 16})
	policy(tpm2.RCSuccess, &command.PCRSetAuthPolicyIn{AuthPolicy: zeros(), HashAlg: tpm2.AlgSHA256, PCRNum: 22})
	m.fails(sessionRC(tpm2.RCAuthType, 1).Base(), tpm2.CCPCRReset, handles(20), password("pcr"), nil)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	m.do(tpm2.CCPCRReset, handles(20), s.with(""), nil, nil)
}

// hashed does _TPM_Hash_Start, _Data and _End.
func (m *machine) hashed(data string) {
	m.platform(func(t *engine.TPM) {
		t.HashStart(4)
		t.HashData([]byte(data))
		t.HashEnd()
	})
}

func TestHCRTMAndDRTM(t *testing.T) {
	m := manufacture(t, "default")
	m.tpm.HashData([]byte("before the start"))
	m.tpm.HashEnd()
	m.hashed("hcrtm")
	if m.tpm.Established() {
		t.Error("an H-CRTM sets the established flag")
	}
	m.startup(tpm2.StartupClear)
	event := sha256.Sum256([]byte("hcrtm"))
	if got, want := m.pcr(tpm2.AlgSHA256, 0), extended(append(make([]byte, 31), 4), event[:]); !bytes.Equal(got, want) {
		t.Errorf("PCR 0 after an H-CRTM is %x, want %x", got, want)
	}
	m.hashed("drtm")
	event = sha256.Sum256([]byte("drtm"))
	if got, want := m.pcr(tpm2.AlgSHA256, 17), extended(zeros(), event[:]); !bytes.Equal(got, want) {
		t.Errorf("PCR 17 after a DRTM is %x, want %x", got, want)
	}
	if got := m.pcr(tpm2.AlgSHA256, 18); !bytes.Equal(got, zeros()) {
		t.Errorf("PCR 18 after a DRTM is %x, want zeros", got)
	}
	for l, want := range []bool{false, false, false, true, true} {
		if got := m.tpm.ResetEstablished(uint8(l)); got != want {
			t.Errorf("ResetEstablished(%d) = %v, want %v", l, got, want)
		}
		if got := m.tpm.Established(); got == want {
			t.Errorf("Established() after a reset from locality %d = %v", l, got)
		}
	}
}

// A startup comes from locality 0 or 3, unless H-CRTM came first; a resume is as the startup before.
func TestLocalitiesOfStartup(t *testing.T) {
	type start struct {
		hcrtm    bool
		locality uint8
	}
	value := parameterRC(tpm2.RCValue, 1)
	for name, tc := range map[string]struct {
		first, second start
		want, resume  tpm2.RC
	}{
		"0":                    {start{false, 0}, start{false, 0}, 0, 0},
		"3":                    {start{false, 3}, start{false, 3}, 0, 0},
		"1":                    {start{false, 1}, start{}, tpm2.RCLocality, 0},
		"4":                    {start{false, 4}, start{}, tpm2.RCLocality, 0},
		"0 then 3":             {start{false, 0}, start{false, 3}, 0, tpm2.RCLocality},
		"3 then 0":             {start{false, 3}, start{false, 0}, 0, tpm2.RCLocality},
		"H-CRTM":               {start{true, 0}, start{true, 0}, 0, 0},
		"H-CRTM then none":     {start{true, 0}, start{false, 0}, 0, value},
		"none, then an H-CRTM": {start{false, 0}, start{true, 0}, 0, value},
	} {
		t.Run(name, func(t *testing.T) {
			m := manufacture(t, "default")
			begin := func(s start, kind tpm2.StartupType) tpm2.RC {
				if s.hcrtm {
					m.hashed("hcrtm")
				}
				m.locality = s.locality
				return m.run(tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: kind}, nil)
			}
			if rc := begin(tc.first, tpm2.StartupClear); rc != tc.want {
				t.Fatalf("Startup(CLEAR) = %v, want %v", rc, tc.want)
			} else if rc != tpm2.RCSuccess {
				return
			}
			m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}, nil)
			m.powerLoss()
			if rc := begin(tc.second, tpm2.StartupState); rc != tc.resume {
				t.Errorf("Startup(STATE) = %v, want %v", rc, tc.resume)
			}
		})
	}
}

func TestPCRsOverPowerCycles(t *testing.T) {
	for i, c := range cycles {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			for _, pcr := range []tpm2.Handle{0, 15, 16} {
				m.do(tpm2.CCPCRExtend, handles(pcr), password(""), extension(3), nil)
			}
			m.cycle(c)
			want := zeros()
			if resumed := i == 3; resumed {
				want = extended(zeros(), bytes.Repeat([]byte{3}, 32))
			}
			for _, pcr := range []int{0, 15} {
				if got := m.pcr(tpm2.AlgSHA256, pcr); !bytes.Equal(got, want) {
					t.Errorf("PCR %d is %x, want %x", pcr, got, want)
				}
			}
			if got := m.pcr(tpm2.AlgSHA256, 16); !bytes.Equal(got, zeros()) {
				t.Errorf("PCR 16 is %x, want zeros", got)
			}
		})
	}
}

// What changes state that a shutdown saved voids it; what does not, does not.
func TestWhatVoidsAShutdown(t *testing.T) {
	for name, tc := range map[string]struct {
		do    func(m *machine)
		voids bool
	}{
		"nothing":         {func(*machine) {}, false},
		"reading":         {func(m *machine) { m.pcr(tpm2.AlgSHA256, 0) }, false},
		"a saved PCR":     {func(m *machine) { m.do(tpm2.CCPCRExtend, handles(7), password(""), extension(1), nil) }, true},
		"PCR 16":          {func(m *machine) { m.do(tpm2.CCPCRExtend, handles(16), password(""), extension(1), nil) }, false},
		"a session":       {func(m *machine) { m.session(sessionConfig{}) }, false},
		"a saved session": {func(m *machine) { m.do(tpm2.CCContextSave, handles(m.session(sessionConfig{}).handle), nil, nil, nil) }, true},
		"an EC commitment": {func(m *machine) {
			m.do(tpm2.CCECEphemeral, nil, nil, &command.ECEphemeralIn{CurveID: tpm2.CurveNISTP256}, nil)
		}, true},
		"TPM2_Clear": {func(m *machine) { m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil) }, true},
		"a hierarchy": {func(m *machine) {
			m.do(tpm2.CCHierarchyControl, handles(tpm2.HandlePlatform), password(""), &command.HierarchyControlIn{Enable: tpm2.HandleEndorsement}, nil)
		}, true},
		"an allocation": {func(m *machine) {
			m.do(tpm2.CCPCRAllocate, handles(tpm2.HandlePlatform), password(""), &command.PCRAllocateIn{}, nil)
		}, true},
		"a failed command": {func(m *machine) { m.run(tpm2.CCPCRReset, handles(0), password(""), nil, nil) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}, nil)
			m.guarded()
			tc.do(m)
			m.guarded()
			m.powerLoss()
			want := tpm2.RCSuccess
			if tc.voids {
				want = parameterRC(tpm2.RCValue, 1)
			}
			m.fails(want, tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: tpm2.StartupState})
		})
	}
}

// A command ends a measurement that has not ended, and no PCR changes (Part 1, 34.1):
// what comes after it is not what was measured before it.
func TestACommandEndsAMeasurement(t *testing.T) {
	m := newMachine(t)
	before := m.pcr(tpm2.AlgSHA256, 17)
	m.tpm.HashStart(4)
	m.tpm.HashData([]byte("root"))
	m.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 8}, nil)
	m.tpm.HashData([]byte(" of trust"))
	m.tpm.HashEnd()
	if after := m.pcr(tpm2.AlgSHA256, 17); !bytes.Equal(before, after) || m.tpm.Established() {
		t.Errorf("PCR 17 went from %x to %x, established: %v", before, after, m.tpm.Established())
	}

	// TPM2_Startup ends an H-CRTM, too: the boot has none.
	n := manufacture(t, "default")
	n.tpm.HashStart(4)
	n.tpm.HashData([]byte("core"))
	n.locality = 1
	n.fails(tpm2.RCLocality, tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: tpm2.StartupClear})
	n.locality = 0
	n.tpm.HashStart(4)
	n.startup(tpm2.StartupClear)
	if got := n.pcr(tpm2.AlgSHA256, 0); !bytes.Equal(got, zeros()) {
		t.Errorf("PCR 0 is %x without an H-CRTM", got)
	}
}
