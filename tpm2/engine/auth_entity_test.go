package engine_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// What each kind of entity takes for an authorization, as far as taking the checks of
// entity.go and policy_auth.go away left the other tests content.

// A wrong authValue of an index counts, unless the index has TPMA_NV_NO_DA.
func TestGuessesAtAnIndexCount(t *testing.T) {
	for name, tc := range map[string]struct {
		noDA  tpm2.NVAttributes
		want  tpm2.RC
		tries uint32
	}{
		"protected":     {0, sessionRC(tpm2.RCAuthFail, 1), 3},
		"not protected": {tpm2.NVNoDA, sessionRC(tpm2.RCBadAuth, 1), 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.defineNV(index(tpm2.NVAuthRead | tpm2.NVAuthWrite | tc.noDA))
			write := &command.NVWriteIn{Data: make([]byte, 8)}
			for range 3 {
				m.fails(tc.want, tpm2.CCNVWrite, handles(anIndex, anIndex), password("guess"), write)
			}
			if got := m.property(tpm2.PTLockoutCounter); got != tc.tries {
				t.Errorf("%d failures are counted, want %d", got, tc.tries)
			}
			want := tpm2.RCSuccess
			if tc.tries != 0 {
				want = tpm2.RCLockout
			}
			m.fails(want, tpm2.CCNVWrite, handles(anIndex, anIndex), password("pin"), write)
		})
	}
}

// The authValue opens what userWithAuth says, and nothing opens a public area alone.
func TestWhatAnAuthValueOpens(t *testing.T) {
	m := newMachine(t)
	policy := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	satisfied := func() []auth { return policy.with("") }
	closed := eccTemplate(fixed | tpm2.AttrSensitiveDataOrigin | tpm2.AttrSign)
	closed.AuthPolicy = asserted(zeros(), tpm2.CCPolicyAuthValue)
	key := m.primary(tpm2.HandleOwner, closed, "")
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCSign, handles(key), password(""), signIn(sum()))
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCSign, handles(key), m.session(sessionConfig{}).with(""), signIn(sum()))
	m.flush(key)
	open := outsideECC(t, usable|tpm2.AttrSign).public
	open.AuthPolicy = zeros()
	key = m.loadPublic(open)
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCSign, handles(key), password(""), signIn(sum()))
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCSign, handles(key), satisfied(), signIn(sum()))
	h := m.hashSequence(tpm2.AlgSHA256, "")
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCSequenceUpdate, handles(h), satisfied(), &command.SequenceUpdateIn{})
	// Of the PCRs only those with a policy group may be tried by one.
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCPCRReset, handles(20), satisfied(), nil)
	m.fails(sessionRC(tpm2.RCAuthUnavailable, 1), tpm2.CCPCRReset, handles(16), satisfied(), nil)
}

// A persistent object has its policy, too.
func TestAPolicyOpensAPersistentObject(t *testing.T) {
	m := newMachine(t)
	template := eccTemplate(fixed | tpm2.AttrSensitiveDataOrigin | tpm2.AttrSign)
	template.AuthPolicy = asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCSign)))
	m.persist(tpm2.HandleOwner, m.primary(tpm2.HandleOwner, template, ""), ownerPersistent)
	s := m.ofIndex(tpm2.CCSign)
	m.do(tpm2.CCSign, handles(ownerPersistent), s.with(""), signIn(sum()), nil)
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCSign, handles(ownerPersistent), s.with(""), signIn(sum()))
}

// A handle of a session is of its kind, and of one that there is.
func TestHandlesOfPolicySessionsAreOfThose(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{})
	other := s.handle + tpm2.KindPolicySession.First() - tpm2.KindHMACSession.First()
	m.fails(handleRC(tpm2.RCHandleValue, 1), tpm2.CCPolicyGetDigest, handles(other), nil, nil)
	p := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	m.flush(p.handle)
	m.fails(tpm2.RCReferenceH0, tpm2.CCPolicyGetDigest, handles(p.handle), nil, nil)
}

// Of two times at which a session ends the earlier one counts, in whichever order.
func TestTheEarlierOfTwoTimesCounts(t *testing.T) {
	for name, times := range map[string][2]int32{"first": {10, 100}, "last": {100, 10}, "alone": {0, 10}, "before none": {10, 0}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			var policy []assertion
			for i, h := range []tpm2.Handle{tpm2.HandlePlatform, tpm2.HandleEndorsement} {
				policy = append(policy, assertion{tpm2.CCPolicySecret, handles(h), &command.PolicySecretIn{Expiration: times[i]}})
			}
			m.ownerPolicy(policy...)
			s := m.satisfied(policy...)
			m.now += 50 * time.Second
			m.fails(sessionRC(tpm2.RCExpired, 1), tpm2.CCClockSet, handles(tpm2.HandleOwner), s.with(""), setClock(anHour).in)
		})
	}
}

// Only a session that is real gets a ticket, and only for a negative expiration: in a
// trial session nobody proved anything (Part 3, 23.3 and 23.4).
func TestWhoGetsATicket(t *testing.T) {
	for name, tc := range map[string]struct {
		kind       tpm2.SessionType
		expiration int32
		want       bool
	}{
		"asked for": {tpm2.SessionPolicy, -10, true},
		"not asked": {tpm2.SessionPolicy, 10, false},
		"no end":    {tpm2.SessionPolicy, 0, false},
		"a trial":   {tpm2.SessionTrial, -10, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			k := m.ecdsaSigner(tpm2.HandleOwner)
			m.now = 1500 * time.Millisecond // no end is not the end of this second
			in := &command.PolicySignedIn{Expiration: tc.expiration}
			s := m.session(sessionConfig{kind: tc.kind})
			var secret command.PolicySecretOut
			m.do(tpm2.CCPolicySecret, handles(tpm2.HandleOwner, s.handle), password(""), &command.PolicySecretIn{Expiration: tc.expiration}, &secret)
			in.Auth = k.sign(toSign(in))
			var signed command.PolicySignedOut
			m.do(tpm2.CCPolicySigned, handles(k.handle, s.handle), nil, in, &signed)
			for _, ticket := range []tpm2.AuthTicket{secret.PolicyTicket, signed.PolicyTicket} {
				if got := len(ticket.Digest) != 0 && ticket.Hierarchy == tpm2.HandleOwner; got != tc.want {
					t.Errorf("ticket %+v, want one: %v", ticket, tc.want)
				}
			}
			if got := len(secret.Timeout) != 0 && len(signed.Timeout) != 0; got != tc.want {
				t.Errorf("timeouts %x and %x, want some: %v", secret.Timeout, signed.Timeout, tc.want)
			}
		})
	}
}

// An authorization for one cpHash is none for another that the session is bound to,
// nor for a session that is bound otherwise.
func TestAnAuthorizationDoesNotChangeWhatASessionIsBoundTo(t *testing.T) {
	bound := &command.PolicySecretIn{CpHashA: setClock(anHour).cpHash(t)}
	for name, tc := range map[string]struct {
		first assertion
		want  tpm2.RC
	}{
		"the same":       {assertion{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: bound.CpHashA}}, 0},
		"another cpHash": {assertion{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: sum()}}, tpm2.RCCPHash},
		"Names":          {assertion{cc: tpm2.CCPolicyNameHash, in: &command.PolicyNameHashIn{NameHash: bound.CpHashA}}, tpm2.RCCPHash},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.satisfied(tc.first)
			before := m.policyDigest(s)
			m.fails(tc.want, tpm2.CCPolicySecret, handles(tpm2.HandleOwner, s.handle), password(""), bound)
			if changed := !bytes.Equal(before, m.policyDigest(s)); changed != (tc.want == 0) {
				t.Errorf("the digest changed: %v", changed)
			}
		})
	}
}

// What time forgives is kept, too.
func TestForgivenTriesAreKept(t *testing.T) {
	for name, fail := range map[string]func(x *guessing) tpm2.RC{"a secret": useSecret("wrong"), "the lockout authority": useLockout("wrong")} {
		t.Run(name, func(t *testing.T) {
			x := newGuessing(t)
			fail(x)
			x.tpm.MustPermanent()
			x.now += 1000 * time.Second
			x.do(tpm2.CCReadClock, nil, nil, nil, nil)
			if !x.tpm.Changed() {
				t.Error("the permanent state has not changed")
			}
		})
	}
}

// In read-only mode TPM2_PolicySecret takes what counts nothing.
func TestPolicySecretInReadOnlyMode(t *testing.T) {
	m := newMachine(t)
	m.defineNV(index(byOwner | byAuth))
	pin := index(tpm2.NVPinFail.Attributes() | tpm2.NVNoDA | byOwner | tpm2.NVAuthRead)
	pin.NVIndex = anOther
	m.defineNV(pin)
	m.do(tpm2.CCNVWrite, handles(tpm2.HandleOwner, anOther), password(""), pinData(0, 5), nil)
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, &command.NVWriteIn{Data: make([]byte, 8)})
	m.do(tpm2.CCReadOnlyControl, handles(tpm2.HandlePlatform), password(""), &command.ReadOnlyControlIn{State: true}, nil)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	in := &command.PolicySecretIn{}
	m.do(tpm2.CCPolicySecret, handles(tpm2.HandleOwner, s.handle), password(""), in, nil)
	m.do(tpm2.CCPolicySecret, handles(anIndex, s.handle), password("pin"), in, nil)
	m.fails(tpm2.RCReadOnly, tpm2.CCPolicySecret, handles(anOther, s.handle), password("pin"), in)
}

// A wrong HMAC of a policy session without the authValue is no guess at it.
func TestAWrongHMACWithoutTheAuthValueDoesNotCount(t *testing.T) {
	m := newMachine(t)
	template := keyedHashTemplate(fixed | tpm2.AttrUserWithAuth)
	template.AuthPolicy = asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCUnseal)))
	srk := m.storage("")
	item := m.child(srk, template, "value", "secret")
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy, salt: srk})
	m.policyCommand(tpm2.CCUnseal)(s)
	wrong := s.with("")
	wrong[0].hmac = make([]byte, 32)
	m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCUnseal, handles(item), wrong, nil)
	if got := m.property(tpm2.PTLockoutCounter); got != 0 {
		t.Errorf("%d failures are counted, want none", got)
	}
}
