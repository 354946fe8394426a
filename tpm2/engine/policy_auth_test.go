package engine_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A signer is a key outside the TPM, of which the TPM has the public part.
type signer struct {
	handle tpm2.Handle
	sign   func(digest []byte) tpm2.Signature
}

// ecdsaSigner loads the public part into the hierarchy.
func (m *machine) ecdsaSigner(h tpm2.Handle) signer {
	m.Helper()
	o := outsideECC(m, tpm2.AttrSign)
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), o.sensitive.Bits)
	if err != nil {
		m.Fatal(err)
	}
	m.do(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: o.public, Hierarchy: h}, nil)
	return signer{m.handle, func(digest []byte) tpm2.Signature {
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			m.Fatal(err)
		}
		return tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: r.Bytes(), S: s.Bytes()}
	}}
}

func (m *machine) rsaSigner() signer {
	m.Helper()
	return signer{m.loadPublic(outsideRSA(m, tpm2.AttrSign).public), func(digest []byte) tpm2.Signature {
		k, err := rsaPrivate()
		if err != nil {
			m.Fatal(err)
		}
		sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest)
		if err != nil {
			m.Fatal(err)
		}
		return tpm2.Signature{SigAlg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256, RSA: sig}
	}}
}

// hmacSigner has an HMAC key, of which the TPM has both parts.
func (m *machine) hmacSigner() signer {
	m.Helper()
	return signer{m.external(outsideHMAC(tpm2.AttrSign, "shared")), func(digest []byte) tpm2.Signature {
		mac := hmac.New(sha256.New, []byte("shared"))
		mac.Write(digest)
		return tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256, HMAC: mac.Sum(nil)}
	}}
}

// toSign is what authorizes a policy by a signature (Part 3, 23.3.1).
func toSign(in *command.PolicySignedIn) []byte {
	return sum(in.NonceTPM, be32(uint32(in.Expiration)), in.CpHashA, in.PolicyRef)
}

// by signs the parameters and returns the assertion.
func (k signer) by(in *command.PolicySignedIn) assertion {
	in.Auth = k.sign(toSign(in))
	return assertion{tpm2.CCPolicySigned, handles(k.handle), in}
}

func TestPolicySignedTakesSignaturesOfAllKinds(t *testing.T) {
	m := newMachine(t)
	for name, make := range map[string]func() signer{
		"ECDSA":  func() signer { return m.ecdsaSigner(tpm2.HandleOwner) },
		"RSASSA": m.rsaSigner, "HMAC": m.hmacSigner,
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			k := make()
			s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
			in := &command.PolicySignedIn{NonceTPM: s.nonceTPM, CpHashA: sum(), PolicyRef: []byte("ref"), Expiration: 60}
			if rc := m.asserts(s, k.by(in)); rc != tpm2.RCSuccess {
				t.Errorf("PolicySigned = %v", rc)
			}
			want := sum(asserted(zeros(), tpm2.CCPolicySigned, m.name(k.handle)), []byte("ref"))
			if got := m.policyDigest(s); !bytes.Equal(got, want) {
				t.Errorf("digest is %x, want %x", got, want)
			}
			// A trial session has no need of a signature that is good.
			trial := m.session(sessionConfig{kind: tpm2.SessionTrial})
			in.NonceTPM, in.Expiration, in.Auth = nil, -1, k.sign(sum())
			var out command.PolicySignedOut
			m.do(tpm2.CCPolicySigned, handles(k.handle, trial.handle), nil, in, &out)
			if got := m.policyDigest(trial); !bytes.Equal(got, want) {
				t.Errorf("digest of the trial is %x, want %x", got, want)
			}
			if len(out.Timeout) != 0 || len(out.PolicyTicket.Digest) != 0 {
				t.Errorf("a trial session gave the ticket %+v", out)
			}
			m.flush(s.handle)
			m.flush(trial.handle)
			m.flush(k.handle)
		})
	}
}

func TestPolicySignedRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(m *machine, in *command.PolicySignedIn) // after the signature
		want   tpm2.RC
	}{
		"nothing": {func(*machine, *command.PolicySignedIn) {}, tpm2.RCSuccess},
		"another nonce": {func(_ *machine, in *command.PolicySignedIn) {
			in.NonceTPM = bytes.Clone(in.NonceTPM)
			in.NonceTPM[0]++
		}, parameterRC(tpm2.RCNonce, 1)},
		"a nonce that was not signed":    {func(_ *machine, in *command.PolicySignedIn) { in.NonceTPM = nil }, parameterRC(tpm2.RCSignature, 5)},
		"a cpHash that was not signed":   {func(_ *machine, in *command.PolicySignedIn) { in.CpHashA = sum([]byte("other")) }, parameterRC(tpm2.RCSignature, 5)},
		"no cpHash":                      {func(_ *machine, in *command.PolicySignedIn) { in.CpHashA = nil }, parameterRC(tpm2.RCSignature, 5)},
		"a short cpHash":                 {func(_ *machine, in *command.PolicySignedIn) { in.CpHashA = in.CpHashA[1:] }, parameterRC(tpm2.RCSize, 2)},
		"a ref that was not signed":      {func(_ *machine, in *command.PolicySignedIn) { in.PolicyRef = nil }, parameterRC(tpm2.RCSignature, 5)},
		"a time that was not signed":     {func(_ *machine, in *command.PolicySignedIn) { in.Expiration++ }, parameterRC(tpm2.RCSignature, 5)},
		"no end, which was not signed":   {func(_ *machine, in *command.PolicySignedIn) { in.Expiration = 0 }, parameterRC(tpm2.RCSignature, 5)},
		"too late":                       {func(m *machine, _ *command.PolicySignedIn) { m.now += 61 * time.Second }, parameterRC(tpm2.RCExpired, 4)},
		"a signature of another message": {func(_ *machine, in *command.PolicySignedIn) { in.Auth.S[5] ^= 1 }, parameterRC(tpm2.RCSignature, 5)},
		"an HMAC of a key that has none": {func(m *machine, in *command.PolicySignedIn) {
			in.Auth = tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256, HMAC: zeros()}
		}, parameterRC(tpm2.RCScheme, 5)},
		"an ECDAA signature": {func(m *machine, in *command.PolicySignedIn) { in.Auth.SigAlg = tpm2.AlgECDAA }, parameterRC(tpm2.RCScheme, 5)},
		"an RSA signature": {func(m *machine, in *command.PolicySignedIn) {
			in.Auth = tpm2.Signature{SigAlg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256, RSA: make([]byte, 256)}
		}, parameterRC(tpm2.RCScheme, 5)},
		"a signature of a zero":    {func(m *machine, in *command.PolicySignedIn) { in.Auth.R, in.Auth.S = []byte{0}, []byte{0} }, parameterRC(tpm2.RCSignature, 5)},
		"a digest by another hash": {func(m *machine, in *command.PolicySignedIn) { in.Auth.Hash = tpm2.AlgSHA384 }, parameterRC(tpm2.RCSignature, 5)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			k := m.ecdsaSigner(tpm2.HandleOwner)
			m.now = time.Minute
			s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
			a := k.by(&command.PolicySignedIn{NonceTPM: s.nonceTPM, CpHashA: sum(), PolicyRef: []byte("ref"), Expiration: 60})
			tc.change(m, a.in.(*command.PolicySignedIn))
			if rc := m.asserts(s, a); rc != tc.want {
				t.Errorf("PolicySigned = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
			if tc.want != tpm2.RCSuccess && !bytes.Equal(m.policyDigest(s), zeros()) {
				t.Error("a refused PolicySigned changed the digest")
			}
		})
	}
}

// Without a nonce the time is that of the TPM, not of the session.
func TestTimesWithoutANonceAreAbsolute(t *testing.T) {
	m := newMachine(t)
	k := m.ecdsaSigner(tpm2.HandleOwner)
	m.now = time.Minute
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	if rc := m.asserts(s, k.by(&command.PolicySignedIn{Expiration: 59})); rc != parameterRC(tpm2.RCExpired, 4) {
		t.Errorf("PolicySigned until second 59, at second 60 = %v", rc)
	}
	for _, until := range []int32{60, -61, 1 << 30, -1 << 31} {
		if rc := m.asserts(s, k.by(&command.PolicySignedIn{Expiration: until})); rc != tpm2.RCSuccess {
			t.Errorf("PolicySigned until second %d, at second 60 = %v", until, rc)
		}
	}
}

// Another key's signature of the right message is not the key's.
func TestPolicySignedByAnotherKey(t *testing.T) {
	m := newMachine(t)
	one, two := m.ecdsaSigner(tpm2.HandleOwner), m.ecdsaSigner(tpm2.HandleOwner)
	a := one.by(&command.PolicySignedIn{})
	a.before = handles(two.handle)
	if rc := m.asserts(m.satisfied(), a); rc != parameterRC(tpm2.RCSignature, 5) {
		t.Errorf("PolicySigned = %v, want TPM_RC_SIGNATURE (parameter 5)", rc)
	}
}

// A ticketed assertion, and the ticket that the TPM gave for it.
type ticketed struct {
	digest []byte // of the session in which it was made
	in     command.PolicyTicketIn
}

// signedTicket gets a ticket for ten seconds from now.
func (m *machine) signedTicket(k signer, nonce bool) ticketed {
	m.Helper()
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	in := &command.PolicySignedIn{CpHashA: setClock(anHour).cpHash(m), PolicyRef: []byte("ref"), Expiration: -int32(m.now/time.Second) - 10}
	if nonce {
		in.NonceTPM, in.Expiration = s.nonceTPM, -10
	}
	in.Auth = k.sign(toSign(in))
	var out command.PolicySignedOut
	m.do(tpm2.CCPolicySigned, handles(k.handle, s.handle), nil, in, &out)
	t := ticketed{m.policyDigest(s), command.PolicyTicketIn{
		Timeout: out.Timeout, CpHashA: in.CpHashA, PolicyRef: in.PolicyRef, AuthName: m.name(k.handle), Ticket: out.PolicyTicket,
	}}
	m.flush(s.handle)
	return t
}

// secretTicket is signedTicket by the owner's authValue.
func (m *machine) secretTicket() ticketed {
	m.Helper()
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	in := &command.PolicySecretIn{NonceTPM: s.nonceTPM, CpHashA: setClock(anHour).cpHash(m), PolicyRef: []byte("ref"), Expiration: -10}
	var out command.PolicySecretOut
	m.do(tpm2.CCPolicySecret, handles(tpm2.HandleOwner, s.handle), password(""), in, &out)
	t := ticketed{m.policyDigest(s), command.PolicyTicketIn{
		Timeout: out.Timeout, CpHashA: in.CpHashA, PolicyRef: in.PolicyRef, AuthName: be32(uint32(tpm2.HandleOwner)), Ticket: out.PolicyTicket,
	}}
	m.flush(s.handle)
	return t
}

func TestTicketsStandForTheirAssertion(t *testing.T) {
	for name, get := range map[string]func(m *machine) ticketed{
		"Signed":         func(m *machine) ticketed { return m.signedTicket(m.ecdsaSigner(tpm2.HandleOwner), true) },
		"Signed, time":   func(m *machine) ticketed { return m.signedTicket(m.ecdsaSigner(tpm2.HandleOwner), false) },
		"Signed, null":   func(m *machine) ticketed { return m.signedTicket(m.ecdsaSigner(tpm2.HandleNull), true) },
		"Signed by HMAC": func(m *machine) ticketed { return m.signedTicket(m.hmacSigner(), true) },
		"Secret":         (*machine).secretTicket,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = time.Minute
			ticket := get(m)
			m.do(tpm2.CCSetPrimaryPolicy, handles(tpm2.HandleOwner), password(""), &command.SetPrimaryPolicyIn{AuthPolicy: ticket.digest, HashAlg: tpm2.AlgSHA256}, nil)
			a := assertion{cc: tpm2.CCPolicyTicket, in: &ticket.in}
			s := m.satisfied(a)
			if got := m.policyDigest(s); !bytes.Equal(got, ticket.digest) {
				t.Errorf("digest is %x, want that of the assertion, %x", got, ticket.digest)
			}
			// What the assertion was limited to limits the ticket.
			m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCClockSet, handles(tpm2.HandleOwner), s.with(""), setClock(anHour+1).in)
			late := m.satisfied(a)
			m.do(tpm2.CCClockSet, handles(tpm2.HandleOwner), s.with(""), setClock(anHour).in, nil)
			m.now += 10*time.Second + time.Millisecond
			m.fails(sessionRC(tpm2.RCExpired, 1), tpm2.CCClockSet, handles(tpm2.HandleOwner), late.with(""), setClock(anHour).in)
			if rc := m.asserts(s, a); rc != parameterRC(tpm2.RCExpired, 1) {
				t.Errorf("PolicyTicket after its time = %v", rc)
			}
		})
	}
}

func TestChangedTicketsAreRefused(t *testing.T) {
	bad := parameterRC(tpm2.RCTicket, 5)
	for name, tc := range map[string]struct {
		change func(in *command.PolicyTicketIn)
		want   tpm2.RC
	}{
		"nothing":         {func(*command.PolicyTicketIn) {}, tpm2.RCSuccess},
		"a longer time":   {func(in *command.PolicyTicketIn) { in.Timeout[4]++ }, bad},
		"no end":          {func(in *command.PolicyTicketIn) { clear(in.Timeout) }, bad},
		"another end":     {func(in *command.PolicyTicketIn) { in.Timeout[0] ^= 0x80 }, bad},
		"an earlier time": {func(in *command.PolicyTicketIn) { binary.BigEndian.PutUint64(in.Timeout, 1) }, parameterRC(tpm2.RCExpired, 1)},
		"a short time":    {func(in *command.PolicyTicketIn) { in.Timeout = in.Timeout[1:] }, parameterRC(tpm2.RCSize, 1)},
		"no time":         {func(in *command.PolicyTicketIn) { in.Timeout = nil }, parameterRC(tpm2.RCSize, 1)},
		"another cpHash":  {func(in *command.PolicyTicketIn) { in.CpHashA = sum() }, bad},
		"no cpHash":       {func(in *command.PolicyTicketIn) { in.CpHashA = nil }, bad},
		"a short cpHash":  {func(in *command.PolicyTicketIn) { in.CpHashA = in.CpHashA[1:] }, parameterRC(tpm2.RCSize, 2)},
		"another ref":     {func(in *command.PolicyTicketIn) { in.PolicyRef = nil }, bad},
		"another name":    {func(in *command.PolicyTicketIn) { in.AuthName = be32(uint32(tpm2.HandlePlatform)) }, bad},
		"the ref's byte in the name": {func(in *command.PolicyTicketIn) {
			in.AuthName = append([]byte{in.PolicyRef[2]}, in.AuthName...)
			in.PolicyRef = in.PolicyRef[:2]
		}, bad},
		"another hierarchy": {func(in *command.PolicyTicketIn) { in.Ticket.Hierarchy = tpm2.HandleEndorsement }, bad},
		"no hierarchy":      {func(in *command.PolicyTicketIn) { in.Ticket.Hierarchy = tpm2.HandleNull }, bad},
		"another assertion": {func(in *command.PolicyTicketIn) { in.Ticket.Tag ^= tpm2.TagAuthSecret ^ tpm2.TagAuthSigned }, bad},
		"another digest":    {func(in *command.PolicyTicketIn) { in.Ticket.Digest[7]++ }, bad},
		"no digest":         {func(in *command.PolicyTicketIn) { in.Ticket.Digest = nil }, bad},
	} {
		for kind, get := range map[string]func(m *machine) ticketed{
			"Signed": func(m *machine) ticketed { return m.signedTicket(m.ecdsaSigner(tpm2.HandleOwner), true) },
			"Secret": (*machine).secretTicket,
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				m := newMachine(t)
				m.now = time.Minute
				ticket := get(m)
				tc.change(&ticket.in)
				s := m.satisfied()
				if rc := m.asserts(s, assertion{cc: tpm2.CCPolicyTicket, in: &ticket.in}); rc != tc.want {
					t.Errorf("PolicyTicket = %v (%#x), want %v", rc, uint32(rc), tc.want)
				}
				if tc.want != tpm2.RCSuccess && !bytes.Equal(m.policyDigest(s), zeros()) {
					t.Error("a refused ticket changed the digest")
				}
			})
		}
	}
}

func TestTicketsAreOfOneTPMAndOneTime(t *testing.T) {
	state := tpm2.StartupState
	bad := parameterRC(tpm2.RCTicket, 5)
	for name, tc := range map[string]struct {
		change func(m *machine)
		want   tpm2.RC
	}{
		"nothing":     {func(*machine) {}, tpm2.RCSuccess},
		"Resume":      {func(m *machine) { m.restart(&state, tpm2.StartupState) }, bad},
		"Restart":     {func(m *machine) { m.restart(&state, tpm2.StartupClear) }, bad},
		"Reset":       {func(m *machine) { m.restart(nil, tpm2.StartupClear) }, bad},
		"Clear":       {func(m *machine) { m.do(tpm2.CCClear, handles(tpm2.HandleLockout), password(""), nil, nil) }, bad},
		"another TPM": {func(m *machine) { m.tpm.SetProof(tpm2.HandleOwner, bytes.Repeat([]byte{1}, 64)) }, bad},
	} {
		for _, nonce := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				m := newMachine(t)
				m.now = time.Second
				ticket := m.signedTicket(m.ecdsaSigner(tpm2.HandleOwner), nonce)
				tc.change(m)
				if rc := m.asserts(m.satisfied(), assertion{cc: tpm2.CCPolicyTicket, in: &ticket.in}); rc != tc.want {
					t.Errorf("PolicyTicket = %v (%#x), want %v", rc, uint32(rc), tc.want)
				}
			})
		}
	}
	m := newMachine(t)
	ticket := m.secretTicket()
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCPolicyTicket, handles(m.session(sessionConfig{kind: tpm2.SessionTrial}).handle), nil, &ticket.in)
}

// approve gets the ticket that the key signed the policy.
func (m *machine) approve(k signer, policy []byte, ref string) *command.PolicyAuthorizeIn {
	m.Helper()
	digest := sum(policy, []byte(ref))
	in := &command.VerifySignatureIn{Digest: digest, Signature: k.sign(digest)}
	var out command.VerifySignatureOut
	m.do(tpm2.CCVerifySignature, handles(k.handle), nil, in, &out)
	return &command.PolicyAuthorizeIn{ApprovedPolicy: policy, PolicyRef: []byte(ref), KeySign: m.name(k.handle), CheckTicket: out.Validation}
}

func TestPolicyAuthorizeReplacesAnApprovedPolicy(t *testing.T) {
	password := assertion{cc: tpm2.CCPolicyPassword}
	policy := asserted(zeros(), tpm2.CCPolicyAuthValue)
	for name, tc := range map[string]struct {
		change func(m *machine, in *command.PolicyAuthorizeIn)
		want   tpm2.RC
	}{
		"nothing":        {func(*machine, *command.PolicyAuthorizeIn) {}, tpm2.RCSuccess},
		"another policy": {func(m *machine, in *command.PolicyAuthorizeIn) { in.ApprovedPolicy = sum() }, parameterRC(tpm2.RCValue, 1)},
		"another ref":    {func(m *machine, in *command.PolicyAuthorizeIn) { in.PolicyRef = []byte("other") }, parameterRC(tpm2.RCValue, 4)},
		"another key": {func(m *machine, in *command.PolicyAuthorizeIn) {
			in.KeySign = m.name(m.ecdsaSigner(tpm2.HandleOwner).handle)
		}, parameterRC(tpm2.RCValue, 4)},
		"a name of one byte": {func(m *machine, in *command.PolicyAuthorizeIn) { in.KeySign = in.KeySign[:1] }, parameterRC(tpm2.RCHash, 3)},
		"no hash":            {func(m *machine, in *command.PolicyAuthorizeIn) { in.KeySign[1] = 0x10 }, parameterRC(tpm2.RCHash, 3)},
		"another hash":       {func(m *machine, in *command.PolicyAuthorizeIn) { in.KeySign[1] = 0x0c }, parameterRC(tpm2.RCSize, 3)},
		"a short name":       {func(m *machine, in *command.PolicyAuthorizeIn) { in.KeySign = in.KeySign[:33] }, parameterRC(tpm2.RCSize, 3)},
		"a changed ticket":   {func(m *machine, in *command.PolicyAuthorizeIn) { in.CheckTicket.Digest[3]++ }, parameterRC(tpm2.RCValue, 4)},
		"a null ticket":      {func(m *machine, in *command.PolicyAuthorizeIn) { in.CheckTicket.Digest = nil }, parameterRC(tpm2.RCValue, 4)},
		"another hierarchy":  {func(m *machine, in *command.PolicyAuthorizeIn) { in.CheckTicket.Hierarchy = tpm2.HandleNull }, parameterRC(tpm2.RCValue, 4)},
		"another kind":       {func(m *machine, in *command.PolicyAuthorizeIn) { in.CheckTicket.Tag = tpm2.TagMessageVerified }, parameterRC(tpm2.RCTag, 4)},
		"another TPM":        {func(m *machine, _ *command.PolicyAuthorizeIn) { m.tpm.SetProof(tpm2.HandleOwner, zeros()) }, parameterRC(tpm2.RCValue, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			k := m.ecdsaSigner(tpm2.HandleOwner)
			in := m.approve(k, policy, "ref")
			want := sum(asserted(zeros(), tpm2.CCPolicyAuthorize, bytes.Clone(in.KeySign)), []byte("ref"))
			tc.change(m, in)
			s := m.satisfied(password)
			a := assertion{cc: tpm2.CCPolicyAuthorize, in: in}
			if rc := m.asserts(s, a); rc != tc.want {
				t.Errorf("PolicyAuthorize = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
			if tc.want != tpm2.RCSuccess {
				want = policy
			}
			if got := m.policyDigest(s); !bytes.Equal(got, want) {
				t.Errorf("digest is %x, want %x", got, want)
			}
		})
	}
	// What was to be checked later still is: here the password.
	m := newMachine(t)
	k := m.ecdsaSigner(tpm2.HandleOwner)
	in := m.approve(k, policy, "ref")
	template := keyedHashTemplate(fixed | tpm2.AttrNoDA)
	template.AuthPolicy = sum(asserted(zeros(), tpm2.CCPolicyAuthorize, in.KeySign), []byte("ref"))
	item := m.child(m.storage(""), template, "right", "secret")
	for value, want := range map[string]tpm2.RC{"right": tpm2.RCSuccess, "wrong": sessionRC(tpm2.RCBadAuth, 1)} {
		s := m.satisfied(password, assertion{cc: tpm2.CCPolicyAuthorize, in: in})
		s.withPassword = true
		if rc := m.run(tpm2.CCUnseal, handles(item), s.with(value), nil, nil); rc != want {
			t.Errorf("Unseal = %v, want %v", rc, want)
		}
		m.flush(s.handle)
	}
	// A trial session needs no ticket.
	trial := m.session(sessionConfig{kind: tpm2.SessionTrial})
	in.CheckTicket.Digest, in.ApprovedPolicy = nil, nil
	m.do(tpm2.CCPolicyAuthorize, handles(trial.handle), nil, in, nil)
	if got := m.policyDigest(trial); !bytes.Equal(got, template.AuthPolicy) {
		t.Errorf("digest of the trial is %x, want %x", got, template.AuthPolicy)
	}
}

// A ticket is under the proof of the hierarchy to which what authorized belongs.
func TestTicketsNameTheHierarchyOfTheirEntity(t *testing.T) {
	m := newMachine(t)
	m.filled([]byte("owner's"))
	platforms := tpm2.NVPublic{
		NVIndex: policyIndex + 1, NameAlg: tpm2.AlgSHA256, DataSize: 1,
		Attributes: tpm2.NVPlatformCreate | tpm2.NVAuthRead | tpm2.NVAuthWrite,
	}
	m.do(tpm2.CCNVDefineSpace, handles(tpm2.HandlePlatform), password(""), &command.NVDefineSpaceIn{PublicInfo: platforms}, nil)
	key := m.primary(tpm2.HandleEndorsement, eccTemplate(signing), "")
	for h, want := range map[tpm2.Handle]tpm2.Handle{
		tpm2.HandleOwner: tpm2.HandleOwner, tpm2.HandleLockout: tpm2.HandleOwner, tpm2.HandleEndorsement: tpm2.HandleEndorsement,
		tpm2.HandlePlatform: tpm2.HandlePlatform, policyIndex: tpm2.HandleOwner, policyIndex + 1: tpm2.HandlePlatform,
		key: tpm2.HandleEndorsement, 7: tpm2.HandleOwner,
	} {
		s := m.satisfied()
		var out command.PolicySecretOut
		m.do(tpm2.CCPolicySecret, handles(h, s.handle), password(""), &command.PolicySecretIn{NonceTPM: s.nonceTPM, Expiration: -10}, &out)
		if out.PolicyTicket.Hierarchy != want {
			t.Errorf("ticket of %v is of %v, want %v", h, out.PolicyTicket.Hierarchy, want)
		}
		m.flush(s.handle)
	}
}
