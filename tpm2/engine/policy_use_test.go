package engine_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// ownerPolicy makes the assertions the owner's policy.
func (m *machine) ownerPolicy(list ...assertion) {
	m.Helper()
	s := m.session(sessionConfig{kind: tpm2.SessionTrial})
	for _, a := range list {
		if rc := m.asserts(s, a); rc != tpm2.RCSuccess {
			m.Fatalf("%s = %v (%#x), want success", commandName(a.cc), rc, uint32(rc))
		}
	}
	in := &command.SetPrimaryPolicyIn{AuthPolicy: m.policyDigest(s), HashAlg: tpm2.AlgSHA256}
	m.do(tpm2.CCSetPrimaryPolicy, handles(tpm2.HandleOwner), password(""), in, nil)
	m.flush(s.handle)
}

// A use is a command that the owner's policy is to authorize.
type use struct {
	cc tpm2.CC
	in wire.Layout
}

// setClock is the use in most tests: its parameters are one number.
func setClock(to uint64) use { return use{tpm2.CCClockSet, &command.ClockSetIn{NewTime: to}} }

const anHour = 3_600_000

// cpHash of a command on the owner's hierarchy, by the book (Part 1, 18.7).
func (u use) cpHash(t testing.TB) []byte {
	return sum(be32(uint32(u.cc)), be32(uint32(tpm2.HandleOwner)), mustEncode(t, u.in))
}

func createUse(template tpm2.Public) use {
	return use{tpm2.CCCreatePrimary, &command.CreatePrimaryIn{InPublic: template}}
}

func policyUses(t *testing.T) map[string]struct {
	policy []assertion
	change func(m *machine) // between the assertions and the use
	use    use
	want   tpm2.RC
} {
	one := func(cc tpm2.CC, in wire.Layout) []assertion { return []assertion{{cc: cc, in: in}} }
	command10 := one(tpm2.CCPolicyCommandCode, &command.PolicyCommandCodeIn{Code: tpm2.CCClockSet})
	at := func(l uint8) func(m *machine) { return func(m *machine) { m.locality = l } }
	local := func(l tpm2.Locality) []assertion {
		return one(tpm2.CCPolicyLocality, &command.PolicyLocalityIn{Locality: l})
	}
	present := one(tpm2.CCPolicyPhysicalPresence, nil)
	cpHash := one(tpm2.CCPolicyCpHash, &command.PolicyCpHashIn{CpHashA: setClock(anHour).cpHash(t)})
	names := func(h tpm2.Handle) []assertion {
		return one(tpm2.CCPolicyNameHash, &command.PolicyNameHashIn{NameHash: sum(be32(uint32(h)))})
	}
	parameters := one(tpm2.CCPolicyParameters, &command.PolicyParametersIn{
		PHash: sum(be32(uint32(tpm2.CCClockSet)), mustEncode(t, setClock(anHour).in)),
	})
	key, data := eccTemplate(signing), keyedHashTemplate(signing)
	template := one(tpm2.CCPolicyTemplate, &command.PolicyTemplateIn{TemplateHash: sum(mustEncode(t, &key))})
	pcr := one(tpm2.CCPolicyPCR, &command.PolicyPCRIn{PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(3)}}})
	extend := func(pcr tpm2.Handle) func(m *machine) {
		return func(m *machine) {
			in := &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: sum()}}}
			m.do(tpm2.CCPCRExtend, handles(pcr), password(""), in, nil)
		}
	}
	secret := []assertion{{tpm2.CCPolicySecret, handles(tpm2.HandlePlatform), &command.PolicySecretIn{Expiration: 10}}}
	wait := func(d time.Duration) func(m *machine) { return func(m *machine) { m.now += d } }
	endless := []assertion{{tpm2.CCPolicySecret, handles(tpm2.HandlePlatform), &command.PolicySecretIn{}}}
	limited := []assertion{{tpm2.CCPolicySecret, handles(tpm2.HandlePlatform), &command.PolicySecretIn{CpHashA: setClock(anHour).cpHash(t)}}}
	fail := sessionRC(tpm2.RCPolicyFail, 1)
	type row = struct {
		policy []assertion
		change func(m *machine)
		use    use
		want   tpm2.RC
	}
	return map[string]row{
		"the command":                   {command10, nil, setClock(anHour), tpm2.RCSuccess},
		"another command":               {command10, nil, createUse(key), sessionRC(tpm2.RCPolicyCC, 1)},
		"at one of the localities":      {local(3), at(1), setClock(anHour), tpm2.RCSuccess},
		"at another locality":           {local(3), at(2), setClock(anHour), tpm2.RCLocality},
		"at the extended locality":      {local(40), at(40), setClock(anHour), tpm2.RCSuccess},
		"at another extended locality":  {local(40), at(41), setClock(anHour), tpm2.RCLocality},
		"at an ordinary locality":       {local(40), at(3), setClock(anHour), tpm2.RCLocality},
		"at a locality that is none":    {local(31), at(7), setClock(anHour), tpm2.RCLocality},
		"somebody is there":             {present, func(m *machine) { m.tpm.SetPhysicalPresence(true) }, setClock(anHour), tpm2.RCSuccess},
		"nobody is there":               {present, nil, setClock(anHour), sessionRC(tpm2.RCPP, 1)},
		"the cpHash":                    {cpHash, nil, setClock(anHour), tpm2.RCSuccess},
		"another cpHash":                {cpHash, nil, setClock(anHour + 1), fail},
		"the Names":                     {names(tpm2.HandleOwner), nil, setClock(anHour), tpm2.RCSuccess},
		"other Names":                   {names(tpm2.HandlePlatform), nil, setClock(anHour), fail},
		"the parameters":                {parameters, nil, setClock(anHour), tpm2.RCSuccess},
		"other parameters":              {parameters, nil, setClock(anHour + 1), fail},
		"the template":                  {template, nil, createUse(key), tpm2.RCSuccess},
		"another template":              {template, nil, createUse(data), fail},
		"a template, but no creation":   {template, nil, setClock(anHour), fail},
		"not an index":                  {one(tpm2.CCPolicyNvWritten, &command.PolicyNvWrittenIn{}), nil, setClock(anHour), fail},
		"the PCRs are as they were":     {pcr, nil, setClock(anHour), tpm2.RCSuccess},
		"a PCR has changed":             {pcr, extend(3), setClock(anHour), tpm2.RCPCRChanged},
		"another PCR has changed":       {pcr, extend(5), setClock(anHour), tpm2.RCPCRChanged},
		"a debug PCR has changed":       {pcr, extend(16), setClock(anHour), tpm2.RCSuccess},
		"in time":                       {secret, wait(10 * time.Second), setClock(anHour), tpm2.RCSuccess},
		"too late":                      {secret, wait(10*time.Second + time.Millisecond), setClock(anHour), sessionRC(tpm2.RCExpired, 1)},
		"without an end":                {endless, wait(24 * time.Hour), setClock(48 * anHour), tpm2.RCSuccess},
		"authorized for the cpHash":     {limited, nil, setClock(anHour), tpm2.RCSuccess},
		"authorized for another cpHash": {limited, nil, setClock(anHour + 1), fail},
	}
}

func TestAPolicyAuthorizesWhatItAsserts(t *testing.T) {
	for name, tc := range policyUses(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.ownerPolicy(tc.policy...)
			s := m.satisfied(tc.policy...)
			if tc.change != nil {
				tc.change(m)
			}
			rc := m.run(tc.use.cc, handles(tpm2.HandleOwner), s.with(""), tc.use.in, nil)
			if rc != tc.want {
				t.Errorf("%s = %v (%#x), want %v", commandName(tc.use.cc), rc, uint32(rc), tc.want)
			}
			if tc.want != tpm2.RCSuccess {
				return
			}
			if got := m.policyDigest(s); !bytes.Equal(got, zeros()) {
				t.Errorf("digest after use is %x, want that of a new session", got)
			}
			m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCClockSet, handles(tpm2.HandleOwner), s.with(""), setClock(50*anHour).in)
		})
	}
}

// A policy over PCRs of two moments is of none.
func TestPolicyPCRTwiceIsOfOneMoment(t *testing.T) {
	m := newMachine(t)
	a := assertion{cc: tpm2.CCPolicyPCR, in: &command.PolicyPCRIn{PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(3)}}}}
	s := m.satisfied(a, a)
	in := &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: sum()}}}
	m.do(tpm2.CCPCRExtend, handles(4), password(""), in, nil)
	if rc := m.asserts(s, a); rc != tpm2.RCPCRChanged {
		t.Errorf("PolicyPCR after another PCR changed = %v, want TPM_RC_PCR_CHANGED", rc)
	}
}

// Without its assertions, or with those of another hash, a session authorizes nothing.
func TestTheDigestAndItsHashMustBeThePolicys(t *testing.T) {
	m := newMachine(t)
	s := m.satisfied()
	use := setClock(anHour)
	fails := func(want tpm2.RC, s *session) {
		t.Helper()
		m.fails(sessionRC(want, 1), use.cc, handles(tpm2.HandleOwner), s.with(""), use.in)
	}
	fails(tpm2.RCAuthUnavailable, s) // no policy
	m.ownerPolicy(assertion{cc: tpm2.CCPolicyPassword})
	fails(tpm2.RCPolicyFail, s)
	// The digest of nothing is the same by all hashes of a size.
	m.do(tpm2.CCSetPrimaryPolicy, handles(tpm2.HandleOwner), password(""), &command.SetPrimaryPolicyIn{AuthPolicy: zeros(), HashAlg: tpm2.AlgSHA3x256}, nil)
	fails(tpm2.RCPolicyFail, s)
	fails(tpm2.RCAttributes, m.session(sessionConfig{kind: tpm2.SessionTrial}))
	s = m.session(sessionConfig{kind: tpm2.SessionPolicy, hash: tpm2.AlgSHA3x256})
	m.do(use.cc, handles(tpm2.HandleOwner), s.with(""), use.in, nil)
	// An object without a policy: there is one to try, but no session has its digest.
	key := m.primary(tpm2.HandleEndorsement, eccTemplate(signing), "")
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCSign, handles(key), s.with(""), signIn(sum()))
}

func signIn(digest []byte) *command.SignIn {
	return &command.SignIn{
		Digest: digest, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256},
		Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull},
	}
}

// PolicyAuthValue and PolicyPassword ask for the authValue, and wrong ones count.
func TestPoliciesAskForTheAuthValue(t *testing.T) {
	for name, tc := range map[string]struct {
		cc     tpm2.CC
		noDA   tpm2.ObjectAttributes
		value  string
		want   tpm2.RC
		locked bool
	}{
		"AuthValue":            {tpm2.CCPolicyAuthValue, 0, "right", tpm2.RCSuccess, false},
		"AuthValue, wrong":     {tpm2.CCPolicyAuthValue, 0, "wrong", sessionRC(tpm2.RCAuthFail, 1), true},
		"AuthValue, no limit":  {tpm2.CCPolicyAuthValue, tpm2.AttrNoDA, "wrong", sessionRC(tpm2.RCBadAuth, 1), false},
		"Password":             {tpm2.CCPolicyPassword, 0, "right", tpm2.RCSuccess, false},
		"Password, zeros":      {tpm2.CCPolicyPassword, 0, "right\x00\x00", tpm2.RCSuccess, false},
		"Password, wrong":      {tpm2.CCPolicyPassword, 0, "wrong", sessionRC(tpm2.RCAuthFail, 1), true},
		"Password, prefix":     {tpm2.CCPolicyPassword, 0, "righ", sessionRC(tpm2.RCAuthFail, 1), true},
		"Password, no limit":   {tpm2.CCPolicyPassword, tpm2.AttrNoDA, "", sessionRC(tpm2.RCBadAuth, 1), false},
		"AuthValue, none sent": {tpm2.CCPolicyAuthValue, tpm2.AttrNoDA, "", sessionRC(tpm2.RCBadAuth, 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			template := keyedHashTemplate(fixed | tc.noDA)
			template.AuthPolicy = asserted(zeros(), tpm2.CCPolicyAuthValue)
			item := m.child(m.storage(""), template, "right", "secret")
			for range 4 {
				s := m.satisfied(assertion{cc: tc.cc})
				s.withAuthValue, s.withPassword = tc.cc == tpm2.CCPolicyAuthValue, tc.cc == tpm2.CCPolicyPassword
				rc := m.run(tpm2.CCUnseal, handles(item), s.with(tc.value), nil, nil)
				if rc == tpm2.RCLockout && tc.locked {
					return
				}
				if rc != tc.want {
					t.Errorf("Unseal = %v (%#x), want %v", rc, uint32(rc), tc.want)
				}
				m.flush(s.handle)
			}
			if tc.locked {
				t.Error("four wrong authValues did not lock the TPM")
			}
		})
	}
}

// The last of PolicyAuthValue and PolicyPassword counts.
func TestPasswordTakesThePlaceOfAuthValue(t *testing.T) {
	m := newMachine(t)
	template := keyedHashTemplate(fixed)
	template.AuthPolicy = asserted(asserted(zeros(), tpm2.CCPolicyAuthValue), tpm2.CCPolicyAuthValue)
	item := m.child(m.storage(""), template, "right", "secret")
	s := m.satisfied(assertion{cc: tpm2.CCPolicyAuthValue}, assertion{cc: tpm2.CCPolicyPassword})
	s.withPassword = true
	m.do(tpm2.CCUnseal, handles(item), s.with("right"), nil, nil)
	s.withPassword = false
	for _, a := range []assertion{{cc: tpm2.CCPolicyPassword}, {cc: tpm2.CCPolicyAuthValue}} {
		if rc := m.asserts(s, a); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
	}
	s.withAuthValue = true
	m.do(tpm2.CCUnseal, handles(item), s.with("right"), nil, nil)
}

// The ADMIN role of an object with adminWithPolicy wants a policy that names the command.
func TestAdminWantsAPolicyThatNamesTheCommand(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	named := assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCObjectChangeAuth}}
	any := assertion{cc: tpm2.CCPolicyPhysicalPresence}
	m.tpm.SetPhysicalPresence(true)
	for _, tc := range []struct {
		policy assertion
		want   tpm2.RC
	}{{named, tpm2.RCSuccess}, {any, sessionRC(tpm2.RCPolicyFail, 1)}} {
		template := keyedHashTemplate(fixed | tpm2.AttrUserWithAuth | tpm2.AttrAdminWithPolicy)
		s := m.satisfied(tc.policy)
		template.AuthPolicy = m.policyDigest(s)
		item := m.child(srk, template, "", "secret")
		in := &command.ObjectChangeAuthIn{NewAuth: []byte("new")}
		m.fails(sessionRC(tpm2.RCAuthType, 1), tpm2.CCObjectChangeAuth, handles(item, srk), password(""), in)
		if rc := m.run(tpm2.CCObjectChangeAuth, handles(item, srk), s.with(""), in, nil); rc != tc.want {
			t.Errorf("ObjectChangeAuth = %v, want %v", rc, tc.want)
		}
		m.flush(item)
		m.flush(s.handle)
	}
}

// PolicySecret proves knowledge of an authValue, so that a policy that asks for
// none cannot authorize it.
func TestPolicySecretByAPolicyWithoutAuthValue(t *testing.T) {
	m := newMachine(t)
	code := assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCPolicySecret}}
	m.ownerPolicy(code)
	target, s := m.satisfied(), m.satisfied(code)
	owner := handles(tpm2.HandleOwner, target.handle)
	m.fails(sessionRC(tpm2.RCMode, 1), tpm2.CCPolicySecret, owner, s.with(""), &command.PolicySecretIn{})
	m.ownerPolicy(code, assertion{cc: tpm2.CCPolicyAuthValue})
	if rc := m.asserts(s, assertion{cc: tpm2.CCPolicyAuthValue}); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	s.withAuthValue = true
	m.do(tpm2.CCPolicySecret, owner, s.with(""), &command.PolicySecretIn{}, nil)
}

// An index policy may depend on whether the index is written.
func TestAnIndexPolicyKnowsWhetherItIsWritten(t *testing.T) {
	m := newMachine(t)
	unwritten := assertion{cc: tpm2.CCPolicyNvWritten, in: &command.PolicyNvWrittenIn{}}
	m.define(tpm2.NVPolicyWrite, 4, asserted(zeros(), tpm2.CCPolicyNvWritten, []byte{0}))
	index := handles(policyIndex, policyIndex)
	m.do(tpm2.CCNVWrite, index, m.satisfied(unwritten).with(""), &command.NVWriteIn{Data: []byte("once")}, nil)
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCNVWrite, index, m.satisfied(unwritten).with(""), &command.NVWriteIn{Data: []byte("more")})
	// It has POLICYWRITE only.
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCNVRead, index, m.satisfied().with(""), &command.NVReadIn{Size: 4})
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCNVRead, index, password(""), &command.NVReadIn{Size: 4})
}

// A policy session whose key has an authValue in it lets nobody guess at it
// without being counted.
func TestABoundPolicySessionCountsGuesses(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleOwner, eccTemplate(signing), "right")
	in := &command.GetRandomIn{BytesRequested: 8}
	good := m.session(sessionConfig{kind: tpm2.SessionPolicy, bind: key, bindAuth: "right", symmetric: aes128()})
	m.do(tpm2.CCGetRandom, nil, good.with("", tpm2.SessionEncrypt), in, nil)
	for range 3 {
		s := m.session(sessionConfig{kind: tpm2.SessionPolicy, bind: key, bindAuth: "guess", symmetric: aes128()})
		m.fails(sessionRC(tpm2.RCAuthFail, 1), tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), in)
		m.flush(s.handle)
	}
	m.fails(tpm2.RCLockout, tpm2.CCGetRandom, nil, good.with("", tpm2.SessionEncrypt), in)
}

// With its nonce a policy session's assertions end, whatever it was used for.
func TestAPolicySessionThatEncryptsStartsAnew(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy, symmetric: aes128(), bind: tpm2.HandleOwner})
	if rc := m.asserts(s, assertion{cc: tpm2.CCPolicyAuthValue}); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), &command.GetRandomIn{BytesRequested: 8}, nil)
	if got := m.policyDigest(s); !bytes.Equal(got, zeros()) {
		t.Errorf("digest is %x, want that of a new session", got)
	}
}

// What was asserted in a session that was saved does not outlive what it said.
func TestASavedPolicySessionAfterAStartup(t *testing.T) {
	pcr := assertion{cc: tpm2.CCPolicyPCR, in: &command.PolicyPCRIn{PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(3)}}}}
	timed := assertion{tpm2.CCPolicySecret, handles(tpm2.HandlePlatform), &command.PolicySecretIn{Expiration: 100}}
	present := assertion{cc: tpm2.CCPolicyPhysicalPresence}
	state := tpm2.StartupState
	for name, tc := range map[string]struct {
		policy assertion
		up     tpm2.StartupType
		want   tpm2.RC
	}{
		"PCRs, Resume":      {pcr, tpm2.StartupState, tpm2.RCPCRChanged}, // some are not saved
		"PCRs, Restart":     {pcr, tpm2.StartupClear, tpm2.RCPCRChanged},
		"time, Resume":      {timed, tpm2.StartupState, sessionRC(tpm2.RCExpired, 1)},
		"time, Restart":     {timed, tpm2.StartupClear, sessionRC(tpm2.RCExpired, 1)},
		"presence, Resume":  {present, tpm2.StartupState, tpm2.RCSuccess},
		"presence, Restart": {present, tpm2.StartupClear, tpm2.RCSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = 50 * time.Second
			m.tpm.SetPhysicalPresence(true)
			m.ownerPolicy(tc.policy)
			s := m.satisfied(tc.policy)
			x := m.save(s.handle)
			m.restart(&state, tc.up)
			m.loadContext(x)
			use := setClock(anHour)
			if rc := m.run(use.cc, handles(tpm2.HandleOwner), s.with(""), use.in, nil); rc != tc.want {
				t.Errorf("ClockSet = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
}

// The authValue of a PIN index counts its uses, and a use as PolicySecret gives no
// ticket.
func TestPolicySecretOfAPIN(t *testing.T) {
	m := newMachine(t)
	p := tpm2.NVPublic{
		NVIndex: policyIndex, NameAlg: tpm2.AlgSHA256, DataSize: 8,
		Attributes: tpm2.NVPinPass.Attributes() | tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVNoDA,
	}
	m.do(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{Auth: []byte("pin"), PublicInfo: p}, nil)
	s := m.satisfied()
	target := handles(policyIndex, s.handle)
	in := &command.PolicySecretIn{Expiration: -10}
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCPolicySecret, target, password("pin"), in)
	limit := append(be32(0), be32(2)...)
	m.do(tpm2.CCNVWrite, handles(tpm2.HandleOwner, policyIndex), password(""), &command.NVWriteIn{Data: limit}, nil)
	var out command.PolicySecretOut
	m.do(tpm2.CCPolicySecret, target, password("pin"), in, &out)
	if len(out.Timeout) != 0 || len(out.PolicyTicket.Digest) != 0 || out.PolicyTicket.Tag != tpm2.TagAuthSecret || out.PolicyTicket.Hierarchy != tpm2.HandleNull {
		t.Errorf("PolicySecret of a PIN gave %+v", out)
	}
	m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCPolicySecret, target, password("pan"), in)
	m.do(tpm2.CCReadOnlyControl, handles(tpm2.HandlePlatform), password(""), &command.ReadOnlyControlIn{State: true}, nil)
	m.fails(tpm2.RCReadOnly, tpm2.CCPolicySecret, target, password("pin"), in)
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCPolicySecret, target, password("pin"), in)
}

// Part 2, 7.4 has handles of authorizations and timers that this TPM has not got.
func TestPermanentHandlesThatAreNotThere(t *testing.T) {
	m := newMachine(t)
	s := m.satisfied()
	for _, h := range []tpm2.Handle{tpm2.HandleAuth00, tpm2.HandleAuthFF} {
		m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCPolicySecret, handles(h, s.handle), password(""), &command.PolicySecretIn{})
	}
	m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCSetPrimaryPolicy, handles(tpm2.HandleACT0), password(""), &command.SetPrimaryPolicyIn{HashAlg: tpm2.AlgNull})
}

func TestHandlesThatNameNothingUsable(t *testing.T) {
	m := newMachine(t)
	s, mac := m.satisfied(), m.session(sessionConfig{})
	m.fails(tpm2.RCReferenceH0, tpm2.CCPolicyRestart, handles(s.handle+9), nil, nil)
	m.fails(handleRC(tpm2.RCHandleValue, 1), tpm2.CCPolicyRestart, handles(tpm2.KindPolicySession.First()+tpm2.Handle(mac.handle.Index())), nil, nil)
	m.fails(handleRC(tpm2.RCHandleValue, 2), tpm2.CCPolicyNV, handles(tpm2.HandleOwner, policyIndex, s.handle), password(""), &command.PolicyNVIn{})
	m.fails(tpm2.RCReferenceH0, tpm2.CCPolicySecret, handles(0x80000000, s.handle), password(""), &command.PolicySecretIn{})
	m.fails(tpm2.RCReferenceH0+1, tpm2.CCPolicySecret, handles(tpm2.HandleOwner, s.handle+9), password(""), &command.PolicySecretIn{})
	// An index without AUTHWRITE is read by its authValue, not written.
	m.filled([]byte("data"))
	index := handles(policyIndex, policyIndex)
	m.do(tpm2.CCNVRead, index, password(""), &command.NVReadIn{Size: 4}, nil)
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCNVWrite, index, password(""), &command.NVWriteIn{Data: []byte("more")})
	// Disabled hierarchies authorize nothing.
	for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform} {
		m.do(tpm2.CCHierarchyControl, handles(tpm2.HandlePlatform), password(""), &command.HierarchyControlIn{Enable: h}, nil)
		m.fails(handleRC(tpm2.RCHierarchy, 1), tpm2.CCPolicySecret, handles(h, s.handle), password(""), &command.PolicySecretIn{})
	}
}
