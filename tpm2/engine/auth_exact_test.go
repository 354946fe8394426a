package engine_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// What is here was found by taking each check of auth*.go away: no other test fails
// then.

// One session does all three.
func TestASessionDecryptsEncryptsAndAudits(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{symmetric: aes128()})
	in := &command.HashIn{Data: []byte("data"), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleNull}
	var out command.HashOut
	m.do(tpm2.CCHash, nil, s.with("", tpm2.SessionDecrypt, tpm2.SessionEncrypt, tpm2.SessionAudit), in, &out)
	if want := sha256.Sum256([]byte("data")); !bytes.Equal(out.OutHash, want[:]) {
		t.Errorf("TPM2_Hash = %x, want %x", out.OutHash, want)
	}
	if got := m.sessionAudit(s); !got.ExclusiveSession {
		t.Error("the session did not audit the command")
	}
}

// A session that is not to continue is gone with its command (Part 2, 8.4), of each
// kind and whatever it was used for.
func TestASessionThatIsNotToContinueIsGone(t *testing.T) {
	in := &command.GetRandomIn{BytesRequested: 8}
	for name, cfg := range map[string]sessionConfig{"HMAC": {symmetric: aes128()}, "policy": {kind: tpm2.SessionPolicy, symmetric: aes128()}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.session(cfg)
			m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), in, nil)
			last := s.with("", tpm2.SessionEncrypt)
			last[0].once = true
			m.do(tpm2.CCGetRandom, nil, last, in, nil)
			m.fails(tpm2.RCReferenceS0, tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), in)
		})
	}
}

// auditExclusive wants a session that is exclusive already, or that becomes so by
// this command: a new one, or one that auditReset starts anew (Part 1, 19.6.4).
func TestWhichSessionsMayBeExclusive(t *testing.T) {
	m := newMachine(t)
	in := &command.GetRandomIn{BytesRequested: 8}
	old, exclusive := m.session(sessionConfig{}), tpm2.SessionAudit|tpm2.SessionAuditExclusive
	m.random(old, exclusive)
	next := m.session(sessionConfig{}) // starting it ends that
	m.fails(tpm2.RCExclusive, tpm2.CCGetRandom, nil, old.with("", exclusive), in)
	m.random(next, exclusive)
	m.fails(tpm2.RCExclusive, tpm2.CCGetRandom, nil, old.with("", exclusive), in)
	m.random(old, exclusive, tpm2.SessionAuditReset)
	m.random(old, exclusive)
	m.fails(tpm2.RCExclusive, tpm2.CCGetRandom, nil, next.with("", exclusive), in)
	m.random(next, tpm2.SessionAudit) // what another session audits ends it, too
	m.fails(tpm2.RCExclusive, tpm2.CCGetRandom, nil, old.with("", exclusive), in)
}

// A response says whether the session is exclusive now; it has no auditReset (Part 2,
// 8.4).
func TestAResponseSaysWhetherItsSessionIsExclusive(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{})
	const audit, exclusive = tpm2.SessionAudit, tpm2.SessionAuditExclusive
	for i, tc := range []struct {
		before     bool // another command comes before
		sent, want tpm2.SessionAttributes
	}{
		{false, audit, audit | exclusive},
		{false, audit | exclusive, audit | exclusive},
		{true, audit, audit},
		{false, audit, audit},
		{false, audit | tpm2.SessionAuditReset, audit | exclusive},
		{true, audit | exclusive | tpm2.SessionAuditReset, audit | exclusive},
		{false, 0, 0},
	} {
		if tc.before {
			m.do(tpm2.CCReadClock, nil, nil, nil, nil)
		}
		if tc.sent == 0 { // for a command that it authorizes
			m.do(tpm2.CCClockSet, handles(tpm2.HandleOwner), s.with(""), setClock(anHour).in, nil)
		} else {
			m.random(s, tc.sent)
		}
		if want := tc.want | tpm2.SessionContinue; s.told != want {
			t.Errorf("step %d: the response to %#x has attributes %#x, want %#x", i, tc.sent, s.told, want)
		}
	}
}

// Only a first session that authorizes vouches for the nonces of those that encrypt
// (Part 1, 19.6.5).
func TestAFirstSessionThatAuthorizesNothingVouchesForNoNonce(t *testing.T) {
	m := newMachine(t)
	first := m.session(sessionConfig{bind: tpm2.HandleOwner, salt: m.storage("")})
	second := m.session(sessionConfig{symmetric: aes128()})
	for range 2 {
		m.do(tpm2.CCGetRandom, nil, append(first.with("", tpm2.SessionAudit), second.with("", tpm2.SessionEncrypt)...), &command.GetRandomIn{BytesRequested: 8}, nil)
	}
}

// An empty parameter is decrypted, too.
func TestAnEmptyParameterIsDecrypted(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{symmetric: aes128()})
	m.do(tpm2.CCStirRandom, nil, s.with("", tpm2.SessionDecrypt), &command.StirRandomIn{}, nil)
}

// A parameter of several blocks is decrypted as a chain.
func TestALongParameterIsDecrypted(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{symmetric: aes128()})
	in := &command.HashIn{Data: bytes.Repeat([]byte("data"), 20), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleNull}
	var out command.HashOut
	m.do(tpm2.CCHash, nil, s.with("", tpm2.SessionDecrypt), in, &out)
	if !bytes.Equal(out.OutHash, sum(in.Data)) {
		t.Errorf("TPM2_Hash = %x, want %x", out.OutHash, sum(in.Data))
	}
}

// encryptUnbound uses a session that is bound to nothing.
func encryptUnbound(x *guessing) tpm2.RC {
	s := x.session(sessionConfig{symmetric: aes128()})
	defer x.flush(s.handle)
	return x.run(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), &command.GetRandomIn{BytesRequested: 8}, nil)
}

// A policy without an authValue gives nothing to guess at: it works in lockout, and
// a power loss after it counts for nothing (Part 1, 19.8.1).
func TestWhatNobodyCanGuessAtIsNotLockedOut(t *testing.T) {
	for name, use := range map[string]func(m *guessing) func() tpm2.RC{
		"a policy": func(x *guessing) func() tpm2.RC {
			code := assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCUnseal}}
			template := keyedHashTemplate(fixed | tpm2.AttrUserWithAuth)
			template.AuthPolicy = asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCUnseal)))
			item := x.child(x.storage(""), template, "value", "secret")
			return func() tpm2.RC {
				return x.run(tpm2.CCUnseal, handles(item), x.satisfied(code).with(""), nil, nil)
			}
		},
		"a session bound to nothing": func(x *guessing) func() tpm2.RC {
			return func() tpm2.RC { return encryptUnbound(x) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newGuessing(t)
			tries := x.property(tpm2.PTLockoutCounter)
			run := use(x)
			if rc := run(); rc != tpm2.RCSuccess {
				t.Errorf("use = %v, want success", rc)
			}
			x.restart(nil, tpm2.StartupClear)
			if got := x.property(tpm2.PTLockoutCounter); got != tries {
				t.Errorf("a power loss after it counts: %d failures, want %d", got, tries)
			}
			run = use(x)
			for range 3 {
				useSecret("wrong")(x)
			}
			if rc := useSecret("right")(x); rc != tpm2.RCLockout {
				t.Fatalf("use of the secret = %v, want TPM_RC_LOCKOUT", rc)
			}
			if rc := run(); rc != tpm2.RCSuccess {
				t.Errorf("use in lockout = %v, want success", rc)
			}
		})
	}
}

// A policy without the authValue of a PIN index neither meets its limit nor counts:
// a success would set a PIN fail index back, and use up one try of a PIN pass index
// (Part 2, 13.3).
func TestAPolicyWithoutThePINDoesNotCount(t *testing.T) {
	for name, tc := range map[string]struct {
		kind  tpm2.NVType
		count byte
	}{"PIN fail": {tpm2.NVPinFail, 1}, "PIN fail at its limit": {tpm2.NVPinFail, 2}, "PIN pass": {tpm2.NVPinPass, 1}, "PIN pass at its limit": {tpm2.NVPinPass, 2}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			p := index(tc.kind.Attributes() | tpm2.NVNoDA | byOwner | tpm2.NVPolicyRead)
			p.AuthPolicy = asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCNVRead)))
			m.defineNV(p)
			m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, pinData(tc.count, 2))
			s := m.satisfied(assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCNVRead}})
			m.do(tpm2.CCNVRead, handles(anIndex, anIndex), s.with(""), &command.NVReadIn{Size: 8}, nil)
			if got, want := m.content(8), pinData(tc.count, 2).Data; !bytes.Equal(got, want) {
				t.Errorf("the index holds %x, want %x", got, want)
			}
		})
	}
}

// TPM2_PolicySecret may be authorized by a policy with TPM2_PolicyPassword, too.
func TestPolicySecretByAPolicyWithPassword(t *testing.T) {
	m := newMachine(t)
	code := assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCPolicySecret}}
	m.ownerPolicy(code, assertion{cc: tpm2.CCPolicyPassword})
	target, s := m.satisfied(), m.satisfied(code, assertion{cc: tpm2.CCPolicyPassword})
	s.withPassword = true
	m.do(tpm2.CCPolicySecret, handles(tpm2.HandleOwner, target.handle), s.with(""), &command.PolicySecretIn{}, nil)
}

// A policy that is true of every command allows no duplication (Part 1, 19.2).
func TestDuplicationWantsAPolicyThatNamesIt(t *testing.T) {
	m := newMachine(t)
	here := assertion{cc: tpm2.CCPolicyLocality, in: &command.PolicyLocalityIn{Locality: 1}}
	s := m.satisfied(here)
	template := keyedHashTemplate(ordinary | tpm2.AttrSign)
	template.AuthPolicy = m.policyDigest(s)
	key := m.primary(tpm2.HandleOwner, template, "")
	in := &command.DuplicateIn{SymmetricAlg: noSymmetric}
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCDuplicate, handles(key, tpm2.HandleNull), s.with(""), in)
}

// Each command that makes an object from a template is held to it, and no other
// command has one: not even that whose hash is of nothing (Part 3, 23.21).
func TestAPolicyTemplateBindsAllCommandsThatCreate(t *testing.T) {
	good, bad := eccTemplate(signing), keyedHashTemplate(signing)
	hash := sum(mustEncode(t, &good))
	for name, tc := range map[string]struct {
		cc tpm2.CC
		in func(p tpm2.Public) wire.Layout
	}{
		"Create":       {tpm2.CCCreate, func(p tpm2.Public) wire.Layout { return &command.CreateIn{InPublic: p} }},
		"CreateLoaded": {tpm2.CCCreateLoaded, func(p tpm2.Public) wire.Layout { return &command.CreateLoadedIn{InPublic: mustEncode(t, &p)} }},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			parent := eccTemplate(storing)
			parent.AuthPolicy = asserted(zeros(), tpm2.CCPolicyTemplate, hash)
			h := m.primary(tpm2.HandleOwner, parent, "")
			template := assertion{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: hash}}
			m.do(tc.cc, handles(h), m.satisfied(template).with(""), tc.in(good), nil)
			m.fails(sessionRC(tpm2.RCPolicyFail, 1), tc.cc, handles(h), m.satisfied(template).with(""), tc.in(bad))
		})
	}
	m := newMachine(t)
	nothing := assertion{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: sum()}}
	m.ownerPolicy(nothing)
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCClockSet, handles(tpm2.HandleOwner), m.satisfied(nothing).with(""), setClock(anHour).in)
	// A creation whose template is cut off has none, either.
	for _, cut := range []raw{{0, 9}, {0, 4, 0, 0, 0, 0}} {
		m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), m.satisfied(nothing).with(""), &cut)
	}
}

// TPM2_Clear sets both counts back (Part 3, 24.6).
func TestClearBeginsTheCountsAnew(t *testing.T) {
	m := newMachine(t)
	state := tpm2.StartupState
	m.restart(&state, state)
	if got := m.clock().ClockInfo.RestartCount; got != 1 {
		t.Errorf("after a TPM Resume restartCount is %d, want 1", got)
	}
	m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil)
	if got := m.clock().ClockInfo; got.RestartCount != 0 || got.ResetCount != 0 {
		t.Errorf("after TPM2_Clear the counts are %d and %d, want zero", got.ResetCount, got.RestartCount)
	}
}
