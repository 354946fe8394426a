package engine_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// withRSA and withECC give a key the scheme that it signs by.
func withRSA(o *outside, scheme tpm2.Alg) *outside {
	return o.of(func(p *tpm2.Public) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: scheme, HashAlg: tpm2.AlgSHA256}
	})
}

func withECC(o *outside, scheme tpm2.Alg) *outside {
	return o.of(func(p *tpm2.Public) {
		p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: scheme, HashAlg: tpm2.AlgSHA256}
	})
}

// messageKeys are keys of each scheme of messages.
func messageKeys(t *testing.T) map[tpm2.Alg]*outside {
	rsaKey, ecc := outsideRSA(t, usable|tpm2.AttrSign), outsideECC(t, usable|tpm2.AttrSign)
	return map[tpm2.Alg]*outside{
		tpm2.AlgRSASSA: withRSA(rsaKey, tpm2.AlgRSASSA), tpm2.AlgRSAPSS: withRSA(rsaKey, tpm2.AlgRSAPSS),
		tpm2.AlgECDSA: withECC(ecc, tpm2.AlgECDSA), tpm2.AlgECSchnorr: withECC(ecc, tpm2.AlgECSchnorr),
		tpm2.AlgHMAC: outsideHMAC(usable|tpm2.AttrSign, "a key"),
	}
}

// signMessage signs a message in parts of which the last goes with the completion.
func (m *machine) signMessage(key tpm2.Handle, parts ...string) tpm2.Signature {
	m.Helper()
	m.do(tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{Auth: []byte("seq")}, nil)
	h := m.handle
	for _, p := range parts[:len(parts)-1] {
		m.update(h, "seq", p)
	}
	var out command.SignSequenceCompleteOut
	m.do(tpm2.CCSignSequenceComplete, handles(h, key), append(password("seq"), password("")...),
		&command.SignSequenceCompleteIn{Buffer: []byte(parts[len(parts)-1])}, &out)
	m.fails(tpm2.RCReferenceH0, tpm2.CCSequenceUpdate, handles(h), password("seq"), &command.SequenceUpdateIn{})
	return out.Signature
}

// verifying starts a sequence of verification over a message.
func (m *machine) verifying(key tpm2.Handle, parts ...string) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCVerifySequenceStart, handles(key), nil, &command.VerifySequenceStartIn{}, nil)
	h := m.handle
	for _, p := range parts {
		m.update(h, "", p)
	}
	return h
}

func TestMessagesAreSignedAndVerified(t *testing.T) {
	m := newPostQuantum(t)
	digest := sha256.Sum256([]byte("a message"))
	for scheme, o := range messageKeys(t) {
		t.Run(scheme.BankName(), func(t *testing.T) {
			m.in(t)
			key := m.external(o)
			defer m.flush(key)
			sig := m.signMessage(key, "a", "", " mess", "age")
			if sig.SigAlg != scheme || sig.Hash != tpm2.AlgSHA256 {
				t.Errorf("signature by %#x, %#x", sig.SigAlg, sig.Hash)
			}
			verify := &command.VerifySequenceCompleteIn{Signature: sig}
			h := m.verifying(key, "a message")
			var got command.VerifySequenceCompleteOut
			m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify, &got)
			if diff := cmp.Diff(tpm2.VerifiedTicket{Tag: tpm2.TagMessageVerified, Hierarchy: tpm2.HandleNull, Digest: []byte{}}, got.Validation); diff != "" {
				t.Errorf("ticket (-want +got):\n%s", diff)
			}
			h = m.verifying(key, "another message")
			m.fails(parameterRC(tpm2.RCSignature, 1), tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify)
			// A failure leaves it as it was.
			verify.Signature = m.signMessage(key, "another message")
			m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify, nil)
			if scheme == tpm2.AlgHMAC {
				want := hmac.New(sha256.New, []byte("a key"))
				want.Write([]byte("a message"))
				if !bytes.Equal(sig.HMAC, want.Sum(nil)) {
					t.Errorf("HMAC = %x, want %x", sig.HMAC, want.Sum(nil))
				}
				return
			}
			m.do(tpm2.CCVerifySignature, handles(key), nil, &command.VerifySignatureIn{Digest: digest[:], Signature: sig}, nil)
			m.digestsAreSigned(key, digest[:])
		})
	}
}

// digestsAreSigned signs and verifies a digest by the commands for that.
func (m *machine) digestsAreSigned(key tpm2.Handle, digest []byte) {
	m.Helper()
	null := tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	var out command.SignDigestOut
	m.do(tpm2.CCSignDigest, handles(key), password(""), &command.SignDigestIn{Digest: digest, Validation: null}, &out)
	verify := &command.VerifyDigestSignatureIn{Digest: digest, Signature: out.Signature}
	var got command.VerifyDigestSignatureOut
	m.do(tpm2.CCVerifyDigestSignature, handles(key), nil, verify, &got)
	if diff := cmp.Diff(tpm2.VerifiedTicket{Tag: tpm2.TagDigestVerified, Hierarchy: tpm2.HandleNull, DigestAlg: tpm2.AlgSHA256, Digest: []byte{}}, got.Validation); diff != "" {
		m.Errorf("ticket (-want +got):\n%s", diff)
	}
	verify.Digest = bytes.Clone(digest)
	verify.Digest[5] ^= 1
	m.fails(parameterRC(tpm2.RCSignature, 3), tpm2.CCVerifyDigestSignature, handles(key), nil, verify)
}

// A key of a hierarchy gets a ticket, which binds what it is for.
func TestTicketsOfMessagesAndDigests(t *testing.T) {
	m := newPostQuantum(t)
	p := eccTemplate(signing)
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	key := m.primary(tpm2.HandleEndorsement, p, "")
	digest := sha256.Sum256([]byte("message"))
	sig := m.signMessage(key, "message")
	h := m.verifying(key, "message")
	var message command.VerifySequenceCompleteOut
	m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), &command.VerifySequenceCompleteIn{Signature: sig}, &message)
	var one command.VerifyDigestSignatureOut
	m.do(tpm2.CCVerifyDigestSignature, handles(key), nil, &command.VerifyDigestSignatureIn{Digest: digest[:], Signature: sig}, &one)
	var old command.VerifySignatureOut
	m.do(tpm2.CCVerifySignature, handles(key), nil, &command.VerifySignatureIn{Digest: digest[:], Signature: sig}, &old)
	for _, ticket := range []tpm2.VerifiedTicket{message.Validation, one.Validation, old.Validation} {
		if ticket.Hierarchy != tpm2.HandleEndorsement || len(ticket.Digest) != 64 {
			t.Errorf("ticket = %+v, want one of the endorsement hierarchy", ticket)
		}
	}
	if bytes.Equal(message.Validation.Digest, one.Validation.Digest) || bytes.Equal(message.Validation.Digest, old.Validation.Digest) || bytes.Equal(one.Validation.Digest, old.Validation.Digest) {
		t.Error("tickets of different kinds are equal")
	}
}

// A restricted key signs any message but one that looks like an attestation, and
// of digests those that the TPM made.
func TestRestrictedKeysSignMessages(t *testing.T) {
	m := newPostQuantum(t)
	key := m.restrictedSigner()
	for name, tc := range map[string]struct {
		parts []string
		want  tpm2.RC
	}{
		"data":                   {[]string{"some ", "data"}, tpm2.RCSuccess},
		"nothing":                {[]string{""}, tpm2.RCSuccess},
		"less than the magic":    {[]string{"\xffT", "C"}, tpm2.RCSuccess},
		"the magic":              {[]string{"\xffTCG", ""}, parameterRC(tpm2.RCValue, 1)},
		"the magic at once":      {[]string{"\xffTCG"}, parameterRC(tpm2.RCValue, 1)},
		"the magic in parts":     {[]string{"", "\xff", "TC", "G data"}, parameterRC(tpm2.RCValue, 1)},
		"the magic further back": {[]string{"data", "\xffTCG"}, tpm2.RCSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.do(tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{}, nil)
			h := m.handle
			for _, p := range tc.parts[:len(tc.parts)-1] {
				m.update(h, "", p)
			}
			in := &command.SignSequenceCompleteIn{Buffer: []byte(tc.parts[len(tc.parts)-1])}
			m.fails(tc.want, tpm2.CCSignSequenceComplete, handles(h, key), append(password(""), password("")...), in)
			if tc.want != tpm2.RCSuccess {
				m.flush(h)
			}
		})
	}
	m.in(t)
	var hash command.HashOut
	m.do(tpm2.CCHash, nil, nil, &command.HashIn{Data: []byte("data"), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleOwner}, &hash)
	in := &command.SignDigestIn{Digest: hash.OutHash, Validation: hash.Validation}
	m.do(tpm2.CCSignDigest, handles(key), password(""), in, nil)
	in.Validation = tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	m.fails(parameterRC(tpm2.RCTicket, 3), tpm2.CCSignDigest, handles(key), password(""), in)
}

func TestMessageSequencesAreRefused(t *testing.T) {
	m := newPostQuantum(t)
	ecdsa := withECC(outsideECC(t, usable|tpm2.AttrSign), tpm2.AlgECDSA)
	for name, tc := range map[string]struct {
		key  *outside
		want tpm2.RC
	}{
		"a decryption key":          {outsideECC(t, usable|tpm2.AttrDecrypt), handleRC(tpm2.RCKey, 1)},
		"an AES key":                {outsideCipher(t, tpm2.AlgCMAC, aesKey128, usable|tpm2.AttrSign), handleRC(tpm2.RCKey, 1)},
		"a key without a scheme":    {outsideECC(t, usable|tpm2.AttrSign), handleRC(tpm2.RCScheme, 1)},
		"an ECDAA key":              {withECC(ecdsa, tpm2.AlgECDAA), handleRC(tpm2.RCScheme, 1)},
		"a key without a Name":      {ecdsa.of(unnamed), handleRC(tpm2.RCKey, 1)},
		"an ML-KEM key":             {outsideMLKEM(t, usable|tpm2.AttrDecrypt), handleRC(tpm2.RCKey, 1)},
		"an HMAC key and no secret": {nil, handleRC(tpm2.RCKey, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			var key tpm2.Handle
			if tc.key == nil {
				key = m.loadPublic(outsideHMAC(usable|tpm2.AttrSign, "key").public)
			} else {
				key = m.external(tc.key)
			}
			defer m.flush(key)
			m.fails(tc.want, tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{})
			m.fails(tc.want, tpm2.CCVerifySequenceStart, handles(key), nil, &command.VerifySequenceStartIn{})
		})
	}
	m.in(t)
	key := m.external(ecdsa)
	long := bytes.Repeat([]byte{1}, 33)
	for _, tc := range []struct {
		cc   tpm2.CC
		in   wire.Layout
		want tpm2.RC
	}{
		{tpm2.CCSignSequenceStart, &command.SignSequenceStartIn{Auth: long}, parameterRC(tpm2.RCSize, 1)},
		{tpm2.CCSignSequenceStart, &command.SignSequenceStartIn{Context: []byte("context")}, parameterRC(tpm2.RCValue, 2)},
		{tpm2.CCVerifySequenceStart, &command.VerifySequenceStartIn{Auth: long}, parameterRC(tpm2.RCSize, 1)},
		{tpm2.CCVerifySequenceStart, &command.VerifySequenceStartIn{Hint: []byte("hint")}, parameterRC(tpm2.RCValue, 2)},
		{tpm2.CCVerifySequenceStart, &command.VerifySequenceStartIn{Context: []byte("context")}, parameterRC(tpm2.RCValue, 3)},
	} {
		m.fails(tc.want, tc.cc, handles(key), nil, tc.in)
	}
}

func TestMessageCompletionsAreRefused(t *testing.T) {
	m := newPostQuantum(t)
	ecdsa := withECC(outsideECC(t, usable|tpm2.AttrSign), tpm2.AlgECDSA)
	key, other := m.external(ecdsa), m.external(withECC(outsideECC(t, usable|tpm2.AttrSign), tpm2.AlgECDSA))
	two := append(password(""), password("")...)
	sign := &command.SignSequenceCompleteIn{Buffer: []byte("message")}
	sig := m.signMessage(key, "message")
	verify := &command.VerifySequenceCompleteIn{Signature: sig}

	h := m.verifying(key, "message")
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCSignSequenceComplete, handles(h, key), two, sign)
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCSequenceComplete, handles(h), password(""), &command.SequenceCompleteIn{Hierarchy: tpm2.HandleNull})
	m.fails(handleRC(tpm2.RCMode, 2), tpm2.CCEventSequenceComplete, handles(16, h), two, &command.EventSequenceCompleteIn{})
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCVerifySequenceComplete, handles(key, key), password(""), verify)
	m.fails(handleRC(tpm2.RCSignContext, 2), tpm2.CCVerifySequenceComplete, handles(h, other), password(""), verify)
	m.fails(handleRC(tpm2.RCKey, 2), tpm2.CCVerifySequenceComplete, handles(h, h), password(""), verify)
	schnorr, hash := sig, sig
	schnorr.SigAlg, hash.Hash = tpm2.AlgECSchnorr, tpm2.AlgSHA384
	m.fails(parameterRC(tpm2.RCScheme, 1), tpm2.CCVerifySequenceComplete, handles(h, key), password(""), &command.VerifySequenceCompleteIn{Signature: schnorr})
	m.fails(parameterRC(tpm2.RCScheme, 1), tpm2.CCVerifySequenceComplete, handles(h, key), password(""), &command.VerifySequenceCompleteIn{Signature: hash})
	m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify, nil) // no failure changed it

	m.do(tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{}, nil)
	h = m.handle
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify)
	m.fails(handleRC(tpm2.RCSignContext, 2), tpm2.CCSignSequenceComplete, handles(h, other), two, sign)
	m.flush(other)
	x509 := m.external(ecdsa.of(func(p *tpm2.Public) { p.Attributes |= tpm2.AttrX509Sign }))
	m.fails(handleRC(tpm2.RCSignContext, 2), tpm2.CCSignSequenceComplete, handles(h, x509), two, sign)
	m.flush(h)
	m.do(tpm2.CCSignSequenceStart, handles(x509), nil, &command.SignSequenceStartIn{}, nil)
	m.fails(handleRC(tpm2.RCAttributes, 2), tpm2.CCSignSequenceComplete, handles(m.handle, x509), two, sign)
}

func TestDigestSignaturesAreRefused(t *testing.T) {
	m := newPostQuantum(t)
	ecdsa := withECC(outsideECC(t, usable|tpm2.AttrSign), tpm2.AlgECDSA)
	x509 := ecdsa.of(func(p *tpm2.Public) { p.Attributes |= tpm2.AttrX509Sign })
	digest, null := make([]byte, 32), tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	sig := tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: digest, S: digest}
	pss := tpm2.Signature{SigAlg: tpm2.AlgRSAPSS, Hash: tpm2.AlgSHA256}
	other := sig
	other.Hash = tpm2.AlgSHA384
	sign := func(context, digest []byte, v tpm2.HashCheckTicket) wire.Layout {
		return &command.SignDigestIn{Context: context, Digest: digest, Validation: v}
	}
	verify := func(context, digest []byte, s tpm2.Signature) wire.Layout {
		return &command.VerifyDigestSignatureIn{Context: context, Digest: digest, Signature: s}
	}
	for name, tc := range map[string]keyCheck{
		"sign by a decryption key":          {outsideECC(t, usable|tpm2.AttrDecrypt), tpm2.CCSignDigest, sign(nil, digest, null), handleRC(tpm2.RCKey, 1)},
		"sign without a scheme":             {outsideECC(t, usable|tpm2.AttrSign), tpm2.CCSignDigest, sign(nil, digest, null), handleRC(tpm2.RCScheme, 1)},
		"sign by an HMAC key":               {outsideHMAC(usable|tpm2.AttrSign, "key"), tpm2.CCSignDigest, sign(nil, digest, null), handleRC(tpm2.RCScheme, 1)},
		"sign by a key for certificates":    {x509, tpm2.CCSignDigest, sign(nil, digest, null), handleRC(tpm2.RCAttributes, 1)},
		"sign with a context":               {ecdsa, tpm2.CCSignDigest, sign([]byte("c"), digest, null), parameterRC(tpm2.RCValue, 1)},
		"sign a short digest":               {ecdsa, tpm2.CCSignDigest, sign(nil, digest[1:], null), parameterRC(tpm2.RCSize, 2)},
		"sign with a wrong ticket":          {ecdsa, tpm2.CCSignDigest, sign(nil, digest, tpm2.HashCheckTicket{Hierarchy: tpm2.HandleOwner, Digest: digest}), parameterRC(tpm2.RCTicket, 3)},
		"verify by a decryption key":        {outsideECC(t, usable|tpm2.AttrDecrypt), tpm2.CCVerifyDigestSignature, verify(nil, digest, sig), handleRC(tpm2.RCKey, 1)},
		"verify without a scheme":           {outsideECC(t, usable|tpm2.AttrSign), tpm2.CCVerifyDigestSignature, verify(nil, digest, sig), handleRC(tpm2.RCScheme, 1)},
		"verify by an HMAC key":             {outsideHMAC(usable|tpm2.AttrSign, "key"), tpm2.CCVerifyDigestSignature, verify(nil, digest, sig), handleRC(tpm2.RCScheme, 1)},
		"verify with a context":             {ecdsa, tpm2.CCVerifyDigestSignature, verify([]byte("c"), digest, sig), parameterRC(tpm2.RCValue, 1)},
		"verify a signature by another way": {ecdsa, tpm2.CCVerifyDigestSignature, verify(nil, digest, pss), parameterRC(tpm2.RCScheme, 3)},
		"verify a signature of more":        {ecdsa, tpm2.CCVerifyDigestSignature, verify(nil, digest, other), parameterRC(tpm2.RCScheme, 3)},
		"verify a short digest":             {ecdsa, tpm2.CCVerifyDigestSignature, verify(nil, digest[1:], sig), parameterRC(tpm2.RCSize, 2)},
		"verify a wrong signature":          {ecdsa, tpm2.CCVerifyDigestSignature, verify(nil, digest, sig), parameterRC(tpm2.RCSignature, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.external(tc.key)
			defer m.flush(key)
			var auths []auth
			if tc.cc == tpm2.CCSignDigest {
				auths = password("")
			}
			m.fails(tc.want, tc.cc, handles(key), auths, tc.in)
		})
	}
}

// TPM2_Quote signs by an HMAC key the HMAC of the digest of what it attests. A message
// that is such a digest would have the same signature: restricted HMAC keys sign none,
// as in TPM2_HMAC and TPM2_HMAC_Start. They verify, which tells nothing.
func TestRestrictedHMACKeysSignNoMessage(t *testing.T) {
	m := newPostQuantum(t)
	template := keyedHashTemplate(ordinary | fixed | tpm2.AttrSign | tpm2.AttrRestricted)
	template.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}
	key := m.primary(tpm2.HandleEndorsement, template, "")
	var q command.QuoteOut
	m.do(tpm2.CCQuote, handles(key), password(""), &command.QuoteIn{InScheme: noScheme()}, &q)
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{})
	h := m.verifying(key, string(sum(q.Quoted)))
	m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), &command.VerifySequenceCompleteIn{Signature: q.Signature}, nil)
}
