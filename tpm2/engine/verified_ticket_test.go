package engine_test

import (
	"bytes"
	"crypto/sha512"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// digestTicket has the key sign a digest, verifies that, and returns the ticket.
func (m *machine) digestTicket(key tpm2.Handle, digest []byte) tpm2.VerifiedTicket {
	m.Helper()
	var signed command.SignDigestOut
	m.do(tpm2.CCSignDigest, handles(key), password(""), &command.SignDigestIn{Digest: digest, Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}, &signed)
	var out command.VerifyDigestSignatureOut
	m.do(tpm2.CCVerifyDigestSignature, handles(key), nil, &command.VerifyDigestSignatureIn{Digest: digest, Signature: signed.Signature}, &out)
	return out.Validation
}

// messageTicket does so with a message in parts. The sequence of verification is saved
// and loaded between them.
func (m *machine) messageTicket(key tpm2.Handle, parts ...[]byte) tpm2.VerifiedTicket {
	m.Helper()
	verify := &command.VerifySequenceCompleteIn{Signature: m.signMessage(key, string(bytes.Join(parts, nil)))}
	h := m.verifying(key)
	for _, p := range parts {
		saved := m.save(h)
		m.flush(h)
		h = m.loadContext(saved)
		m.update(h, "", string(p))
	}
	var out command.VerifySequenceCompleteOut
	m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify, &out)
	return out.Validation
}

// ecdsaTemplate is a key whose scheme has another hash than its Name.
func ecdsaTemplate(hash tpm2.Alg) tpm2.Public {
	p := eccTemplate(signing)
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: hash}
	return p
}

// hmacTemplate is an HMAC key.
func hmacTemplate() tpm2.Public {
	p := keyedHashTemplate(signing)
	p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}
	return p
}

// Part 3, 1.85, 23.16: TPM2_PolicyAuthorize takes the tickets of all three verifications:
// of a message, of a digest by the hash that the ticket names, and (see
// TestPolicyAuthorizeReplacesAnApprovedPolicy) of one by the hash of the key's Name.
func TestPolicyAuthorizeTakesTicketsOfMessagesAndDigests(t *testing.T) {
	policy, ref := asserted(zeros(), tpm2.CCPolicyAuthValue), []byte("ref")
	long := sha512.Sum384(append(bytes.Clone(policy), ref...))
	message := func(m *machine, key tpm2.Handle) tpm2.VerifiedTicket {
		return m.messageTicket(key, policy[:5], policy[5:], ref)
	}
	digest := func(d []byte) func(*machine, tpm2.Handle) tpm2.VerifiedTicket {
		return func(m *machine, key tpm2.Handle) tpm2.VerifiedTicket { return m.digestTicket(key, d) }
	}
	for name, tc := range map[string]struct {
		template tpm2.Public
		ticket   func(*machine, tpm2.Handle) tpm2.VerifiedTicket
	}{
		"message by ML-DSA":                    {mldsaTemplate(tpm2.MLDSA44, signing), message},
		"message by HashML-DSA":                {hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing), message},
		"message by ECDSA":                     {ecdsaTemplate(tpm2.AlgSHA384), message},
		"message by HMAC":                      {hmacTemplate(), message},
		"digest by HashML-DSA":                 {hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing), digest(sum(policy, ref))},
		"digest by ECDSA":                      {ecdsaTemplate(tpm2.AlgSHA256), digest(sum(policy, ref))},
		"digest by another hash than the Name": {ecdsaTemplate(tpm2.AlgSHA384), digest(long[:])},
	} {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			key := m.primary(tpm2.HandleOwner, tc.template, "")
			in := command.PolicyAuthorizeIn{ApprovedPolicy: policy, PolicyRef: ref, KeySign: m.name(key), CheckTicket: tc.ticket(m, key)}
			for what, change := range map[string]func(in *command.PolicyAuthorizeIn){
				"nothing":           func(*command.PolicyAuthorizeIn) {},
				"another ref":       func(in *command.PolicyAuthorizeIn) { in.PolicyRef = []byte("re") },
				"no ref":            func(in *command.PolicyAuthorizeIn) { in.PolicyRef = nil },
				"another key":       func(in *command.PolicyAuthorizeIn) { in.KeySign = append(be16(uint16(tpm2.AlgSHA256)), sum()...) },
				"a null ticket":     func(in *command.PolicyAuthorizeIn) { in.CheckTicket.Digest = nil },
				"another hierarchy": func(in *command.PolicyAuthorizeIn) { in.CheckTicket.Hierarchy = tpm2.HandleEndorsement },
				"a digest by the hash of the Name": func(in *command.PolicyAuthorizeIn) {
					in.CheckTicket.Tag, in.CheckTicket.DigestAlg = tpm2.TagVerified, 0
				},
				"a message or a digest": func(in *command.PolicyAuthorizeIn) {
					if in.CheckTicket.Tag == tpm2.TagMessageVerified {
						in.CheckTicket.Tag, in.CheckTicket.DigestAlg = tpm2.TagDigestVerified, tpm2.AlgSHA256
					} else {
						in.CheckTicket.Tag = tpm2.TagMessageVerified
					}
				},
				"a digest by another hash": func(in *command.PolicyAuthorizeIn) {
					in.CheckTicket.Tag, in.CheckTicket.DigestAlg = tpm2.TagDigestVerified, tpm2.AlgSHA512
				},
				"a digest by no hash": func(in *command.PolicyAuthorizeIn) {
					in.CheckTicket.Tag, in.CheckTicket.DigestAlg = tpm2.TagDigestVerified, tpm2.AlgNull
				},
			} {
				changed := in
				change(&changed)
				s := m.satisfied(assertion{cc: tpm2.CCPolicyAuthValue})
				want := parameterRC(tpm2.RCValue, 4)
				if what == "nothing" {
					want = tpm2.RCSuccess
				}
				if rc := m.asserts(s, assertion{cc: tpm2.CCPolicyAuthorize, in: &changed}); rc != want {
					t.Errorf("%s changed: PolicyAuthorize = %v (%#x), want %v", what, rc, uint32(rc), want)
				}
				approved := sum(asserted(zeros(), tpm2.CCPolicyAuthorize, bytes.Clone(in.KeySign)), ref)
				if got := m.policyDigest(s); bytes.Equal(got, approved) != (want == tpm2.RCSuccess) {
					t.Errorf("%s changed: digest is %x", what, got)
				}
				m.flush(s.handle)
			}
		})
	}
}

// A ticket of a message is of the whole message, however long: neither of its beginning,
// nor of its digest.
func TestTicketsOfMessagesAreOfWholeMessages(t *testing.T) {
	m := newPostQuantum(t)
	key := m.primary(tpm2.HandleOwner, ecdsaTemplate(tpm2.AlgSHA512), "")
	trial := m.session(sessionConfig{kind: tpm2.SessionPolicy, hash: tpm2.AlgSHA512})
	policy := m.policyDigest(trial)
	ref := bytes.Repeat([]byte("r"), 64)
	most := append(bytes.Clone(policy), ref...) // that TPM2_PolicyAuthorize takes
	digest := sha512.Sum512(most)
	for name, tc := range map[string]struct {
		message []byte
		in      command.PolicyAuthorizeIn
		want    tpm2.RC
	}{
		"the longest":             {most, command.PolicyAuthorizeIn{PolicyRef: ref}, tpm2.RCSuccess},
		"the longest and a byte":  {append(bytes.Clone(most), 'r'), command.PolicyAuthorizeIn{PolicyRef: ref}, parameterRC(tpm2.RCValue, 4)},
		"the beginning":           {most[:127], command.PolicyAuthorizeIn{PolicyRef: ref}, parameterRC(tpm2.RCValue, 4)},
		"what has it as a digest": {most, command.PolicyAuthorizeIn{PolicyRef: digest[:]}, parameterRC(tpm2.RCValue, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			in := tc.in
			in.ApprovedPolicy, in.KeySign, in.CheckTicket = policy, m.name(key), m.messageTicket(key, tc.message)
			s := m.session(sessionConfig{kind: tpm2.SessionPolicy, hash: tpm2.AlgSHA512})
			defer m.flush(s.handle)
			if rc := m.asserts(s, assertion{cc: tpm2.CCPolicyAuthorize, in: &in}); rc != tc.want {
				t.Errorf("PolicyAuthorize = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
	m.in(t)
	one, other := bytes.Repeat([]byte("m"), 300), bytes.Repeat([]byte("m"), 301)
	if a, b := m.messageTicket(key, one), m.messageTicket(key, other); bytes.Equal(a.Digest, b.Digest) || len(a.Digest) != 64 {
		t.Errorf("tickets of two long messages: %x, %x", a.Digest, b.Digest)
	}
}

// A profile without version 1.85 has no such tickets, in trial sessions neither.
func TestTicketsOfLaterVersionsAreNone(t *testing.T) {
	m := newMachine(t)
	for _, kind := range []tpm2.SessionType{tpm2.SessionPolicy, tpm2.SessionTrial} {
		s := m.session(sessionConfig{kind: kind})
		for _, tag := range []tpm2.Tag{tpm2.TagMessageVerified, tpm2.TagDigestVerified} {
			in := &command.PolicyAuthorizeIn{ApprovedPolicy: zeros(), KeySign: append(be16(uint16(tpm2.AlgSHA256)), sum()...)}
			in.CheckTicket = tpm2.VerifiedTicket{Tag: tag, Hierarchy: tpm2.HandleNull, DigestAlg: tpm2.AlgSHA256}
			m.fails(parameterRC(tpm2.RCTag, 4), tpm2.CCPolicyAuthorize, handles(s.handle), nil, in)
		}
	}
}
