package engine_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

const (
	owner, endorsement, platform, lockout = tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleLockout

	ownerPersistent, platformPersistent = tpm2.Handle(0x81000001), tpm2.Handle(0x81800001)
)

// persist makes an object persistent.
func (m *machine) persist(auth, h, at tpm2.Handle) {
	m.Helper()
	m.do(tpm2.CCEvictControl, handles(auth, h), password(""), &command.EvictControlIn{PersistentHandle: at}, nil)
}

// exists returns the code of TPM2_ReadPublic.
func (m *machine) exists(h tpm2.Handle) tpm2.RC {
	m.Helper()
	return m.run(tpm2.CCReadPublic, handles(h), nil, nil, nil)
}

// defineIndex makes an ordinary NV index.
func (m *machine) defineIndex(auth, index tpm2.Handle, a tpm2.NVAttributes) {
	m.Helper()
	in := &command.NVDefineSpaceIn{PublicInfo: tpm2.NVPublic{NVIndex: index, NameAlg: tpm2.AlgSHA256, Attributes: a | tpm2.NVAuthRead | tpm2.NVAuthWrite, DataSize: 8}}
	m.do(tpm2.CCNVDefineSpace, handles(auth), password(""), in, nil)
}

func (m *machine) indexExists(index tpm2.Handle) tpm2.RC {
	m.Helper()
	return m.run(tpm2.CCNVReadPublic, handles(index), nil, nil, nil)
}

func (m *machine) control(auth, enable tpm2.Handle, state bool) tpm2.RC {
	m.Helper()
	return m.run(tpm2.CCHierarchyControl, handles(auth), password(""), &command.HierarchyControlIn{Enable: enable, State: state}, nil)
}

func TestWhoControlsHierarchies(t *testing.T) {
	for _, tc := range []struct {
		auth, enable tpm2.Handle
		state        bool
		want         tpm2.RC
	}{
		{platform, owner, false, 0},
		{platform, endorsement, false, 0},
		{platform, platform, false, 0},
		{platform, tpm2.HandlePlatformNV, false, 0},
		{platform, owner, true, 0},
		{platform, platform, true, 0},
		{owner, owner, false, 0},
		{owner, owner, true, 0},
		{owner, endorsement, false, tpm2.RCAuthType},
		{owner, platform, false, tpm2.RCAuthType},
		{owner, tpm2.HandlePlatformNV, false, tpm2.RCAuthType},
		{endorsement, endorsement, false, 0},
		{endorsement, endorsement, true, 0},
		{endorsement, owner, false, tpm2.RCAuthType},
		{endorsement, platform, true, tpm2.RCAuthType},
		{endorsement, tpm2.HandlePlatformNV, true, tpm2.RCAuthType},
		{lockout, owner, false, handleRC(tpm2.RCValue, 1)},
	} {
		if got := newMachine(t).control(tc.auth, tc.enable, tc.state); got != tc.want {
			t.Errorf("HierarchyControl(%v, %v, %v) = %v, want %v", tc.auth, tc.enable, tc.state, got, tc.want)
		}
	}
}

func TestADisabledHierarchyIsNotThere(t *testing.T) {
	m := newMachine(t)
	h := m.storage("")
	m.persist(owner, h, ownerPersistent)
	other := m.primary(endorsement, eccTemplate(fixed|ordinary|storageUse), "")
	m.defineIndex(owner, 0x01000001, 0)
	if rc := m.control(owner, owner, false); rc != 0 {
		t.Fatalf("HierarchyControl = %v", rc)
	}
	for what, tc := range map[string]struct{ got, want tpm2.RC }{
		"its loaded object":       {m.exists(h), tpm2.RCReferenceH0},
		"an object of another":    {m.exists(other), 0},
		"its persistent object":   {m.exists(ownerPersistent), handleRC(tpm2.RCHandleValue, 1)},
		"its index":               {m.indexExists(0x01000001), handleRC(tpm2.RCHandleValue, 1)},
		"its authorization":       {m.control(owner, owner, true), handleRC(tpm2.RCHierarchy, 1)},
		"an object from outside":  {m.run(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: *m.public(other), Hierarchy: owner}, nil), parameterRC(tpm2.RCHierarchy, 3)},
		"the platform enables it": {m.control(platform, owner, true), 0},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %v, want %v", what, tc.got, tc.want)
		}
	}
}

func TestAnEnabledHierarchyHasItsPersistentThingsAgain(t *testing.T) {
	state := tpm2.StartupState
	for name, enable := range map[string]func(m *machine){
		"by the platform": func(m *machine) { m.control(platform, owner, true) },
		"by TPM Restart":  func(m *machine) { m.restart(&state, tpm2.StartupClear) },
		"not by Resume":   func(m *machine) { m.restart(&state, tpm2.StartupState) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.persist(owner, m.storage(""), ownerPersistent)
			m.defineIndex(owner, 0x01000001, 0)
			m.control(owner, owner, false)
			enable(m)
			want := tpm2.RCSuccess
			if name == "not by Resume" {
				want = handleRC(tpm2.RCHandleValue, 1)
			}
			if got := m.exists(ownerPersistent); got != want {
				t.Errorf("persistent object: %v, want %v", got, want)
			}
			if got := m.indexExists(0x01000001); got != want {
				t.Errorf("index: %v, want %v", got, want)
			}
		})
	}
}

func TestPlatformNVHidesItsIndicesOnly(t *testing.T) {
	m := newMachine(t)
	m.defineIndex(platform, 0x01000001, tpm2.NVPlatformCreate)
	m.defineIndex(owner, 0x01000002, 0)
	h := m.primary(platform, eccTemplate(fixed|ordinary|storageUse), "")
	m.control(platform, tpm2.HandlePlatformNV, false)
	if got, want := m.indexExists(0x01000001), handleRC(tpm2.RCHandleValue, 1); got != want {
		t.Errorf("platform's index: %v, want %v", got, want)
	}
	if a, b := m.indexExists(0x01000002), m.exists(h); a != 0 || b != 0 {
		t.Errorf("owner's index: %v, platform's object: %v", a, b)
	}
}

func TestOnlyAStartupEnablesThePlatform(t *testing.T) {
	m := newMachine(t)
	state := tpm2.StartupState
	m.control(platform, platform, false)
	if got, want := m.control(platform, platform, true), handleRC(tpm2.RCHierarchy, 1); got != want {
		t.Errorf("HierarchyControl = %v, want %v", got, want)
	}
	m.restart(&state, tpm2.StartupState)
	if got := m.control(platform, platform, true); got != 0 {
		t.Errorf("HierarchyControl after TPM Resume = %v", got)
	}
}

// commandOf has for each hierarchy a command that changes nothing and is authorized by it.
func (m *machine) authorizedBy(h tpm2.Handle, auths []auth) tpm2.RC {
	m.Helper()
	if h == lockout {
		return m.run(tpm2.CCDictionaryAttackLockReset, handles(h), auths, nil, nil)
	}
	return m.run(tpm2.CCHierarchyControl, handles(h), auths, &command.HierarchyControlIn{Enable: h, State: true}, nil)
}

func TestPrimaryPolicies(t *testing.T) {
	clearing := tpm2.StartupClear
	for _, h := range []tpm2.Handle{owner, endorsement, platform, lockout} {
		t.Run(h.String(), func(t *testing.T) {
			m := newMachine(t)
			assert := m.policyCommand(tpm2.CCHierarchyControl)
			if h == lockout {
				assert = m.policyCommand(tpm2.CCDictionaryAttackLockReset)
			}
			use := func() tpm2.RC {
				s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
				defer m.flush(s.handle)
				assert(s)
				return m.authorizedBy(h, s.with(""))
			}
			if got, want := use(), sessionRC(tpm2.RCAuthUnavailable, 1); got != want {
				t.Errorf("use without a policy: %v, want %v", got, want)
			}
			in := &command.SetPrimaryPolicyIn{AuthPolicy: m.trial(assert), HashAlg: tpm2.AlgSHA256}
			m.do(tpm2.CCSetPrimaryPolicy, handles(h), password(""), in, nil)
			if got := use(); got != 0 {
				t.Errorf("use with the policy: %v", got)
			}
			m.restart(&clearing, clearing)
			want := tpm2.RCSuccess
			if h == platform { // Part 3, 9.3
				want = sessionRC(tpm2.RCAuthUnavailable, 1)
			}
			if got := use(); got != want {
				t.Errorf("use after TPM Reset: %v, want %v", got, want)
			}
			m.do(tpm2.CCSetPrimaryPolicy, handles(h), password(""), &command.SetPrimaryPolicyIn{HashAlg: tpm2.AlgNull}, nil)
			if got, want := use(), sessionRC(tpm2.RCAuthUnavailable, 1); got != want {
				t.Errorf("use once the policy is gone: %v, want %v", got, want)
			}
		})
	}
}

func TestAPrimaryPolicyIsADigest(t *testing.T) {
	m := newMachine(t)
	for _, in := range []command.SetPrimaryPolicyIn{
		{AuthPolicy: make([]byte, 31), HashAlg: tpm2.AlgSHA256},
		{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA384},
		{HashAlg: tpm2.AlgSHA256},
		{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgNull},
	} {
		m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCSetPrimaryPolicy, handles(owner), password(""), &in)
	}
}

// changing is a TPM with something of every hierarchy.
type changing struct {
	*machine
	key    tpm2.Public // of each hierarchy
	before map[tpm2.Handle][]byte
}

func newChanging(t *testing.T) *changing {
	t.Helper()
	x := &changing{machine: newMachine(t), key: eccTemplate(fixed | ordinary | storageUse), before: map[tpm2.Handle][]byte{}}
	for _, h := range []tpm2.Handle{owner, endorsement, platform} {
		x.before[h] = x.primaryName(h)
	}
	x.persist(owner, x.primary(owner, x.key, ""), 0x81000001)
	x.persist(owner, x.primary(endorsement, x.key, ""), 0x81000002)
	x.persist(platform, x.primary(platform, x.key, ""), platformPersistent)
	x.defineIndex(owner, 0x01000001, 0)
	x.defineIndex(platform, 0x01000002, tpm2.NVPlatformCreate)
	return x
}

func (x *changing) primaryName(h tpm2.Handle) []byte {
	x.Helper()
	x.primary(h, x.key, "")
	defer x.flush(x.handle)
	return x.name(x.handle)
}

// changes checks what of all is left, and which hierarchies have new seeds.
func (x *changing) changes(want map[string]bool) {
	x.Helper()
	got := map[string]bool{}
	for h, name := range map[tpm2.Handle]string{0x80000000: "owner loaded", 0x80000001: "endorsement loaded", 0x80000002: "platform loaded", 0x81000001: "owner persistent", 0x81000002: "endorsement persistent", platformPersistent: "platform persistent"} {
		got[name] = x.exists(h) == 0
	}
	got["owner index"], got["platform index"] = x.indexExists(0x01000001) == 0, x.indexExists(0x01000002) == 0
	for h := range tpm2.Handle(3) {
		_ = x.run(tpm2.CCFlushContext, nil, nil, &command.FlushContextIn{FlushHandle: 0x80000000 + h}, nil)
	}
	for h, name := range map[tpm2.Handle]string{owner: "owner seed", endorsement: "endorsement seed", platform: "platform seed"} {
		got[name] = bytes.Equal(x.primaryName(h), x.before[h])
	}
	for name, kept := range got {
		if lost := !want[name]; kept == lost {
			x.Errorf("%s: kept is %v", name, kept)
		}
	}
}

func all(without ...string) map[string]bool {
	out := map[string]bool{}
	for _, s := range []string{"loaded", "persistent", "seed"} {
		for _, h := range []string{"owner ", "endorsement ", "platform "} {
			out[h+s] = true
		}
	}
	out["owner index"], out["platform index"] = true, true
	for _, s := range without {
		out[s] = false
	}
	return out
}

func TestChangePPSEndsThePlatformsObjects(t *testing.T) {
	x := newChanging(t)
	x.locality = 3 // which may extend PCR 20
	policy := &command.SetPrimaryPolicyIn{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256}
	x.do(tpm2.CCSetPrimaryPolicy, handles(platform), password(""), policy, nil)
	x.do(tpm2.CCPCRSetAuthPolicy, handles(platform), password(""), &command.PCRSetAuthPolicyIn{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256, PCRNum: 20}, nil)
	x.fails(sessionRC(tpm2.RCAuthType, 1), tpm2.CCPCRExtend, handles(20), password(""), &command.PCRExtendIn{})
	x.do(tpm2.CCHierarchyChangeAuth, handles(platform), password(""), &command.HierarchyChangeAuthIn{NewAuth: []byte("p")}, nil)
	x.do(tpm2.CCChangePPS, handles(platform), password("p"), nil, nil)
	if got := x.policies()[platform].HashAlg; got != tpm2.AlgNull {
		t.Errorf("platform's policy is of %v, want none", got)
	}
	x.do(tpm2.CCPCRExtend, handles(20), password(""), &command.PCRExtendIn{}, nil) // without a policy
	x.do(tpm2.CCHierarchyChangeAuth, handles(platform), password("p"), &command.HierarchyChangeAuthIn{}, nil)
	x.changes(all("platform loaded", "platform persistent", "platform seed"))
}

// policies returns what TPM_CAP_AUTH_POLICIES tells.
func (m *machine) policies() map[tpm2.Handle]tpm2.HA {
	m.Helper()
	var out command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapAuthPolicies, Property: uint32(owner), PropertyCount: 20}, &out)
	got := map[tpm2.Handle]tpm2.HA{}
	for _, p := range out.CapabilityData.AuthPolicies {
		got[p.Handle] = p.PolicyHash
	}
	return got
}

func TestChangeEPSEndsTheEndorsementsObjects(t *testing.T) {
	x := newChanging(t)
	x.do(tpm2.CCHierarchyChangeAuth, handles(endorsement), password(""), &command.HierarchyChangeAuthIn{NewAuth: []byte("e")}, nil)
	x.do(tpm2.CCSetPrimaryPolicy, handles(endorsement), password("e"), &command.SetPrimaryPolicyIn{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256}, nil)
	x.control(platform, endorsement, false)
	x.do(tpm2.CCChangeEPS, handles(platform), password(""), nil, nil)
	if got := x.policies()[endorsement].HashAlg; got != tpm2.AlgNull {
		t.Errorf("endorsement's policy is of %v, want none", got)
	}
	x.changes(all("endorsement loaded", "endorsement persistent", "endorsement seed"))
}

func TestClearEndsWhatTheOwnerHas(t *testing.T) {
	for _, by := range []tpm2.Handle{platform, lockout} {
		t.Run(by.String(), func(t *testing.T) {
			x := newChanging(t)
			for _, h := range []tpm2.Handle{owner, endorsement, lockout} {
				x.do(tpm2.CCSetPrimaryPolicy, handles(h), password(""), &command.SetPrimaryPolicyIn{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256}, nil)
				x.do(tpm2.CCHierarchyChangeAuth, handles(h), password(""), &command.HierarchyChangeAuthIn{NewAuth: []byte("a")}, nil)
			}
			x.do(tpm2.CCPCRSetAuthValue, handles(20), password(""), &command.PCRSetAuthValueIn{Auth: []byte("a")}, nil)
			x.do(tpm2.CCDictionaryAttackParameters, handles(lockout), password("a"), &command.DictionaryAttackParametersIn{NewMaxTries: 7, NewRecoveryTime: 8, LockoutRecovery: 9}, nil)
			x.do(tpm2.CCClockSet, handles(platform), password(""), &command.ClockSetIn{NewTime: 1 << 40}, nil)
			x.control(platform, owner, false)
			counter := x.pcrCounter()
			auth := password("")
			if by == lockout {
				auth = password("a")
			}
			x.do(tpm2.CCClear, handles(by), auth, nil, nil)
			x.checkCleared(counter)
			x.changes(all("owner loaded", "owner persistent", "owner seed", "owner index", "endorsement loaded", "endorsement persistent"))
		})
	}
}

func (m *machine) pcrCounter() uint32 {
	m.Helper()
	var out command.PCRReadOut
	m.do(tpm2.CCPCRRead, nil, nil, &command.PCRReadIn{}, &out)
	return out.PCRUpdateCounter
}

// checkCleared checks policies, authValues, parameters and clock after TPM2_Clear.
func (m *machine) checkCleared(pcrCounter uint32) {
	m.Helper()
	for _, h := range []tpm2.Handle{owner, endorsement, lockout} {
		if got := m.authorizedBy(h, password("")); got != 0 {
			m.Errorf("empty authValue of %v: %v", h, got)
		}
		if got := m.policies()[h].HashAlg; got != tpm2.AlgNull {
			m.Errorf("policy of %v is of %v, want none", h, got)
		}
	}
	m.locality = 3 // which may extend PCR 20
	m.do(tpm2.CCPCRExtend, handles(20), password(""), &command.PCRExtendIn{}, nil)
	var clock command.ReadClockOut
	m.do(tpm2.CCReadClock, nil, nil, nil, &clock)
	want := tpm2.ClockInfo{Safe: true}
	if d := cmp.Diff(want, clock.CurrentTime.ClockInfo); d != "" {
		m.Errorf("clock (-want +got):\n%s", d)
	}
	if got := m.pcrCounter(); got != pcrCounter+1 {
		m.Errorf("PCR update counter is %d, want %d", got, pcrCounter+1)
	}
	for p, want := range map[tpm2.PT]uint32{tpm2.PTMaxAuthFail: 3, tpm2.PTLockoutInterval: 1000, tpm2.PTLockoutRecovery: 1000, tpm2.PTLockoutCounter: 0} {
		if got := m.property(p); got != want {
			m.Errorf("property %#x is %d, want %d", uint32(p), got, want)
		}
	}
}

// property returns one that TPM2_GetCapability tells.
func (m *machine) property(p tpm2.PT) uint32 {
	m.Helper()
	var out command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(p), PropertyCount: 1}, &out)
	l := out.CapabilityData.Properties
	if len(l) != 1 || l[0].Property != p {
		m.Fatalf("property %#x: got %v", uint32(p), l)
	}
	return l[0].Value
}

func TestClearControl(t *testing.T) {
	m := newMachine(t)
	set := func(by tpm2.Handle, disable bool) tpm2.RC {
		return m.run(tpm2.CCClearControl, handles(by), password(""), &command.ClearControlIn{Disable: disable}, nil)
	}
	for i, tc := range []struct{ got, want tpm2.RC }{
		{set(lockout, false), tpm2.RCAuthFail},
		{set(lockout, true), 0},
		{m.run(tpm2.CCClear, handles(platform), password(""), nil, nil), tpm2.RCDisabled},
		{m.run(tpm2.CCClear, handles(lockout), password(""), nil, nil), tpm2.RCDisabled},
		{set(lockout, false), tpm2.RCAuthFail},
		{set(platform, false), 0},
		{m.run(tpm2.CCClear, handles(lockout), password(""), nil, nil), 0},
	} {
		if tc.got != tc.want {
			t.Errorf("step %d: %v, want %v", i, tc.got, tc.want)
		}
	}
}

func TestHierarchyChangeAuth(t *testing.T) {
	clearing := tpm2.StartupClear
	for _, h := range []tpm2.Handle{owner, endorsement, platform, lockout} {
		t.Run(h.String(), func(t *testing.T) {
			m := newMachine(t)
			change := func(old []auth, to string) {
				t.Helper()
				m.do(tpm2.CCHierarchyChangeAuth, handles(h), old, &command.HierarchyChangeAuthIn{NewAuth: []byte(to)}, nil)
			}
			s := m.session(sessionConfig{symmetric: aes128()})
			after := "second"
			first := s.with("", tpm2.SessionDecrypt)
			first[0].after = &after // the response has the HMAC of the new authValue
			change(first, "second\x00\x00")
			want := sessionRC(tpm2.RCBadAuth, 1)
			if h == lockout {
				want = sessionRC(tpm2.RCAuthFail, 1)
			}
			if got := m.authorizedBy(h, password("second")); got != 0 {
				t.Errorf("new authValue without its trailing zeros: %v", got)
			}
			m.restart(&clearing, clearing)
			if h == platform { // Part 3, 9.3
				change(password(""), "second")
			}
			if got := m.authorizedBy(h, password("")); got != want {
				t.Errorf("old authValue: %v, want %v", got, want)
			}
		})
	}
}

func TestHierarchyAuthsAreNoLongerThanADigest(t *testing.T) {
	m := newMachine(t)
	long := bytes.Repeat([]byte{1}, tpm2.MaxDigest)
	m.do(tpm2.CCHierarchyChangeAuth, handles(owner), password(""), &command.HierarchyChangeAuthIn{NewAuth: long}, nil)
	in := raw(append([]byte{0, tpm2.MaxDigest + 1}, bytes.Repeat([]byte{1}, tpm2.MaxDigest+1)...))
	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCHierarchyChangeAuth, handles(owner), password(string(long)), &in)
}

func TestReadOnlyModeRefusesWhatLasts(t *testing.T) {
	m := newMachine(t)
	attributes := tpm2.NVOrderly | tpm2.NVClearSTClear
	m.defineIndex(owner, 0x01000001, 0)
	m.defineIndex(owner, 0x01000002, attributes)
	m.do(tpm2.CCReadOnlyControl, handles(platform), password(""), &command.ReadOnlyControlIn{State: true}, nil)
	for _, info := range command.All() {
		if !info.ChangesState() {
			continue
		}
		// Nothing else is looked at.
		if got := m.run(info.Code, nil, nil, nil, nil); got != tpm2.RCReadOnly {
			t.Errorf("%s = %v, want TPM_RC_READ_ONLY", info.Name, got)
		}
	}
	write := func(index tpm2.Handle, cc tpm2.CC, in wire.Layout) tpm2.RC {
		return m.run(cc, handles(index, index), password(""), in, nil)
	}
	data := &command.NVWriteIn{Data: []byte{1}}
	if got := write(0x01000001, tpm2.CCNVWrite, data); got != tpm2.RCReadOnly {
		t.Errorf("NV_Write of an index that lasts = %v, want TPM_RC_READ_ONLY", got)
	}
	if got := write(0x01000001, tpm2.CCNVReadLock, nil); got != tpm2.RCReadOnly {
		t.Errorf("NV_ReadLock of an index that lasts = %v, want TPM_RC_READ_ONLY", got)
	}
	if got := write(0x01000002, tpm2.CCNVWrite, data); got != 0 {
		t.Errorf("NV_Write of an index that does not last = %v", got)
	}
	m.do(tpm2.CCPCRExtend, handles(0), password(""), &command.PCRExtendIn{}, nil)
	m.do(tpm2.CCReadOnlyControl, handles(platform), password(""), &command.ReadOnlyControlIn{}, nil)
	m.storage("")
}

func TestARestartEndsReadOnlyMode(t *testing.T) {
	m := newMachine(t)
	state := tpm2.StartupState
	m.do(tpm2.CCReadOnlyControl, handles(platform), password(""), &command.ReadOnlyControlIn{State: true}, nil)
	m.restart(&state, state)
	m.fails(tpm2.RCReadOnly, tpm2.CCClear, handles(platform), password(""), nil)
	m.restart(&state, tpm2.StartupClear)
	m.do(tpm2.CCClear, handles(platform), password(""), nil, nil)
}
