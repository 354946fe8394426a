package engine_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"slices"
	"testing"

	upstream "filippo.io/mldsa"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/wire"
)

var mldsaParams = map[tpm2.MLDSASet]upstream.Parameters{tpm2.MLDSA44: upstream.MLDSA44(), tpm2.MLDSA65: upstream.MLDSA65(), tpm2.MLDSA87: upstream.MLDSA87()}

// mldsaTemplate is an ML-DSA key, hashMLDSATemplate one of HashML-DSA.
func mldsaTemplate(set tpm2.MLDSASet, a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgMLDSA, NameAlg: tpm2.AlgSHA256, Attributes: a}
	p.Parameters.MLDSA.ParameterSet = set
	return p
}

func hashMLDSATemplate(set tpm2.MLDSASet, hash tpm2.Alg, a tpm2.ObjectAttributes) tpm2.Public {
	p := mldsaTemplate(set, a)
	p.Type, p.Parameters.MLDSA.HashAlg = tpm2.AlgHashMLDSA, hash
	return p
}

// externalMu has the key sign message representatives.
func externalMu(p tpm2.Public) tpm2.Public {
	p.Parameters.MLDSA.AllowExternalMu = true
	return p
}

// outsideMLDSA is a key of the template that was made without a TPM.
func outsideMLDSA(t testing.TB, template tpm2.Public) *outside {
	t.Helper()
	seed := make([]byte, upstream.PrivateKeySize)
	rand.Read(seed)
	k, err := upstream.NewPrivateKey(mldsaParams[template.Parameters.MLDSA.ParameterSet], seed)
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{public: template, sensitive: tpm2.Sensitive{Type: template.Type, Bits: seed}}
	o.public.Unique.MLDSA = k.PublicKey().Bytes()
	return o
}

// checkMLDSA verifies a signature of a message outside of the TPM: of ML-DSA by another
// implementation, of HashML-DSA by a representative that is laid out here.
func checkMLDSA(t testing.TB, p *tpm2.Public, message, context string, sig *tpm2.Signature) {
	t.Helper()
	set := p.Parameters.MLDSA.ParameterSet
	if sig.SigAlg != p.Type || sig.Hash != p.Parameters.MLDSA.HashAlg {
		t.Errorf("signature by %#x, %#x", sig.SigAlg, sig.Hash)
	}
	var err error
	if p.Type == tpm2.AlgMLDSA {
		var public *upstream.PublicKey
		if public, err = upstream.NewPublicKey(mldsaParams[set], p.Unique.MLDSA); err == nil {
			err = upstream.Verify(public, []byte(message), sig.MLDSA, &upstream.Options{Context: context})
		}
	} else {
		digest := sha256.Sum256([]byte(message)) // the hash of the keys here
		m := append(sha3.SumSHAKE256(p.Unique.MLDSA, 64), 1, byte(len(context)))
		m = append(append(m, context...), "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"...)
		number := map[tpm2.MLDSASet]mldsa.Set{tpm2.MLDSA44: mldsa.MLDSA44, tpm2.MLDSA87: mldsa.MLDSA87}[set]
		err = number.Verify(p.Unique.MLDSA, sha3.SumSHAKE256(append(m, digest[:]...), 64), sig.MLDSA)
	}
	if err != nil {
		t.Errorf("signature of %q with the context %q: %v", message, context, err)
	}
}

// mldsaKeys are a key of each kind and size.
func mldsaKeys() map[string]tpm2.Public {
	return map[string]tpm2.Public{
		"ML-DSA-44":     mldsaTemplate(tpm2.MLDSA44, signing),
		"ML-DSA-65":     externalMu(mldsaTemplate(tpm2.MLDSA65, signing)),
		"ML-DSA-87":     mldsaTemplate(tpm2.MLDSA87, signing),
		"HashML-DSA-44": hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing),
		"HashML-DSA-87": hashMLDSATemplate(tpm2.MLDSA87, tpm2.AlgSHA256, signing),
	}
}

// startSigning and startVerifying start a sequence with a context.
func (m *machine) startSigning(key tpm2.Handle, context string) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{Context: []byte(context)}, nil)
	return m.handle
}

func (m *machine) startVerifying(key tpm2.Handle, context string) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCVerifySequenceStart, handles(key), nil, &command.VerifySequenceStartIn{Context: []byte(context)}, nil)
	return m.handle
}

// endSigning ends a sequence by a part of the message.
func (m *machine) endSigning(h, key tpm2.Handle, last string) *tpm2.Signature {
	m.Helper()
	var out command.SignSequenceCompleteOut
	m.do(tpm2.CCSignSequenceComplete, handles(h, key), password("", ""), &command.SignSequenceCompleteIn{Buffer: []byte(last)}, &out)
	return &out.Signature
}

// Keys of all kinds sign messages in parts, and verify them, with a context or none.
func TestMLDSAKeysSignMessages(t *testing.T) {
	for name, template := range mldsaKeys() {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			key := m.primary(tpm2.HandleOwner, template, "")
			public := m.public(key)
			for _, context := range []string{"", string(bytes.Repeat([]byte("c"), 255))} {
				h := m.startSigning(key, context)
				for range 3 {
					m.update(h, "", string(bytes.Repeat([]byte("part "), 200)))
				}
				message := string(bytes.Repeat([]byte("part "), 600)) + "end"
				sig := m.endSigning(h, key, "end")
				checkMLDSA(t, public, message, context, sig)

				h = m.startVerifying(key, context)
				m.update(h, "", message[:1000])
				m.update(h, "", message[1000:2000])
				verify := &command.VerifySequenceCompleteIn{Signature: *sig}
				m.fails(parameterRC(tpm2.RCSignature, 1), tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify)
				m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCSignSequenceComplete, handles(h, key), password("", ""), &command.SignSequenceCompleteIn{})
				m.update(h, "", message[2000:3000])
				m.update(h, "", message[3000:])
				var got command.VerifySequenceCompleteOut
				m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify, &got)
				if v := got.Validation; v.Tag != tpm2.TagMessageVerified || v.Hierarchy != tpm2.HandleOwner || len(v.Digest) != 64 {
					t.Errorf("ticket = %+v", v)
				}
				h = m.startVerifying(key, "another")
				for part := range slices.Chunk([]byte(message), 1000) {
					m.update(h, "", string(part))
				}
				m.fails(parameterRC(tpm2.RCSignature, 1), tpm2.CCVerifySequenceComplete, handles(h, key), password(""), verify)
				m.flush(h)
			}
		})
	}
}

// A key that allows it signs a representative, one of HashML-DSA a digest.
func TestMLDSAKeysSignDigests(t *testing.T) {
	m := newPostQuantum(t)
	null := tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	digest := sha256.Sum256([]byte("message"))
	for name, tc := range map[string]struct {
		template tpm2.Public
		context  string
		digest   func(public []byte) []byte
		ticket   tpm2.VerifiedTicket // without its digest
	}{
		"ML-DSA": {externalMu(mldsaTemplate(tpm2.MLDSA44, signing)), "", func(public []byte) []byte {
			return sha3.SumSHAKE256(append(append(sha3.SumSHAKE256(public, 64), 0, 0), "message"...), 64)
		}, tpm2.VerifiedTicket{Tag: tpm2.TagDigestVerified, Hierarchy: tpm2.HandleNull, DigestAlg: tpm2.AlgNull}},
		"HashML-DSA": {hashMLDSATemplate(tpm2.MLDSA87, tpm2.AlgSHA256, signing), "context", func([]byte) []byte { return digest[:] }, tpm2.VerifiedTicket{Tag: tpm2.TagDigestVerified, Hierarchy: tpm2.HandleEndorsement, DigestAlg: tpm2.AlgSHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.primary(tpm2.HandleEndorsement, tc.template, "")
			defer m.flush(key)
			public := m.public(key)
			in := &command.SignDigestIn{Context: []byte(tc.context), Digest: tc.digest(public.Unique.MLDSA), Validation: null}
			var out command.SignDigestOut
			m.do(tpm2.CCSignDigest, handles(key), password(""), in, &out)
			checkMLDSA(t, public, "message", tc.context, &out.Signature)
			verify := &command.VerifyDigestSignatureIn{Context: in.Context, Digest: in.Digest, Signature: out.Signature}
			var got command.VerifyDigestSignatureOut
			m.do(tpm2.CCVerifyDigestSignature, handles(key), nil, verify, &got)
			size := len(got.Validation.Digest)
			got.Validation.Digest = nil
			if diff := cmp.Diff(tc.ticket, got.Validation); diff != "" || (size == 0) != (tc.ticket.Hierarchy == tpm2.HandleNull) {
				t.Errorf("ticket of %d bytes (-want +got):\n%s", size, diff)
			}
			verify.Digest = bytes.Clone(in.Digest)
			verify.Digest[0] ^= 1
			m.fails(parameterRC(tpm2.RCSignature, 3), tpm2.CCVerifyDigestSignature, handles(key), nil, verify)
		})
	}
}

// A restricted key signs digests that the TPM made, and no representative: nothing says
// what that is of.
func TestRestrictedMLDSAKeysSignNoRepresentative(t *testing.T) {
	m := newPostQuantum(t)
	null := tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	mu := make([]byte, mldsa.MuSize)
	key := m.primary(tpm2.HandleOwner, externalMu(mldsaTemplate(tpm2.MLDSA44, signing|tpm2.AttrRestricted)), "")
	var hash command.HashOut
	m.do(tpm2.CCHash, nil, nil, &command.HashIn{Data: []byte("data"), HashAlg: tpm2.AlgSHA512, Hierarchy: tpm2.HandleOwner}, &hash)
	m.fails(parameterRC(tpm2.RCTicket, 3), tpm2.CCSignDigest, handles(key), password(""), &command.SignDigestIn{Digest: mu, Validation: null})
	m.fails(parameterRC(tpm2.RCTicket, 3), tpm2.CCSignDigest, handles(key), password(""), &command.SignDigestIn{Digest: hash.OutHash, Validation: hash.Validation})
	// As with other keys, a message is signed unless it looks like an attestation.
	h := m.startSigning(key, "")
	m.update(h, "", "\xffT")
	m.fails(parameterRC(tpm2.RCValue, 1), tpm2.CCSignSequenceComplete, handles(h, key), password("", ""), &command.SignSequenceCompleteIn{Buffer: []byte("CG")})
	m.endSigning(h, key, "cg")
	m.flush(key)

	key = m.primary(tpm2.HandleOwner, hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA512, signing|tpm2.AttrRestricted), "")
	in := &command.SignDigestIn{Digest: hash.OutHash, Validation: hash.Validation}
	m.do(tpm2.CCSignDigest, handles(key), password(""), in, nil)
	in.Validation = null
	m.fails(parameterRC(tpm2.RCTicket, 3), tpm2.CCSignDigest, handles(key), password(""), in)
}

// What no ML-DSA key does, and what is wrong with parameters, each with its code.
func TestMLDSACommandsAreRefused(t *testing.T) {
	m := newPostQuantum(t)
	null := tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	plain, open := outsideMLDSA(t, mldsaTemplate(tpm2.MLDSA44, usable|tpm2.AttrSign)), outsideMLDSA(t, externalMu(mldsaTemplate(tpm2.MLDSA44, usable|tpm2.AttrSign)))
	hashed := outsideMLDSA(t, hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, usable|tpm2.AttrSign))
	x509 := open.of(func(p *tpm2.Public) { p.Attributes |= tpm2.AttrX509Sign })
	mu, digest := make([]byte, 64), make([]byte, 32)
	sig := tpm2.Signature{SigAlg: tpm2.AlgMLDSA, MLDSA: make([]byte, 2420)}
	hashSig := tpm2.Signature{SigAlg: tpm2.AlgHashMLDSA, Hash: tpm2.AlgSHA256, MLDSA: make([]byte, 2420)}
	otherSig := hashSig
	otherSig.Hash = tpm2.AlgSHA512
	context := []byte("context")
	sign := func(context, digest []byte) wire.Layout {
		return &command.SignDigestIn{Context: context, Digest: digest, Validation: null}
	}
	verify := func(context, digest []byte, s tpm2.Signature) wire.Layout {
		return &command.VerifyDigestSignatureIn{Context: context, Digest: digest, Signature: s}
	}
	for name, tc := range map[string]keyCheck{
		"a representative that is not allowed":         {plain, tpm2.CCSignDigest, sign(nil, mu), handleRC(tpm2.RCAttributes, 1)},
		"to verify one that is not allowed":            {plain, tpm2.CCVerifyDigestSignature, verify(nil, mu, sig), handleRC(tpm2.RCAttributes, 1)},
		"a representative by a key for certificates":   {x509, tpm2.CCSignDigest, sign(nil, mu), handleRC(tpm2.RCAttributes, 1)},
		"a context beside a representative":            {open, tpm2.CCSignDigest, sign(context, mu), parameterRC(tpm2.RCValue, 1)},
		"to verify a context beside a representative":  {open, tpm2.CCVerifyDigestSignature, verify(context, mu, sig), parameterRC(tpm2.RCValue, 1)},
		"a short representative":                       {open, tpm2.CCSignDigest, sign(nil, mu[1:]), parameterRC(tpm2.RCSize, 2)},
		"to verify a short representative":             {open, tpm2.CCVerifyDigestSignature, verify(nil, mu[1:], sig), parameterRC(tpm2.RCSize, 2)},
		"a representative as a digest":                 {hashed, tpm2.CCSignDigest, sign(nil, mu), parameterRC(tpm2.RCSize, 2)},
		"to verify a representative as a digest":       {hashed, tpm2.CCVerifyDigestSignature, verify(context, mu, hashSig), parameterRC(tpm2.RCSize, 2)},
		"a signature of the other kind":                {open, tpm2.CCVerifyDigestSignature, verify(nil, mu, hashSig), parameterRC(tpm2.RCScheme, 3)},
		"a signature by another hash":                  {hashed, tpm2.CCVerifyDigestSignature, verify(nil, digest, otherSig), parameterRC(tpm2.RCScheme, 3)},
		"a wrong signature":                            {open, tpm2.CCVerifyDigestSignature, verify(nil, mu, sig), parameterRC(tpm2.RCSignature, 3)},
		"a wrong signature of a digest":                {hashed, tpm2.CCVerifyDigestSignature, verify(context, digest, hashSig), parameterRC(tpm2.RCSignature, 3)},
		"TPM2_Sign":                                    {open, tpm2.CCSign, &command.SignIn{Digest: mu, InScheme: noScheme(), Validation: null}, parameterRC(tpm2.RCScheme, 2)},
		"TPM2_Sign by HashML-DSA":                      {hashed, tpm2.CCSign, &command.SignIn{Digest: digest, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgHashMLDSA}, Validation: null}, parameterRC(tpm2.RCScheme, 2)},
		"TPM2_VerifySignature":                         {open, tpm2.CCVerifySignature, &command.VerifySignatureIn{Digest: mu, Signature: sig}, parameterRC(tpm2.RCScheme, 2)},
		"TPM2_Encapsulate":                             {open, tpm2.CCEncapsulate, nil, handleRC(tpm2.RCKey, 1)},
		"a quote by another scheme":                    {open, tpm2.CCQuote, &command.QuoteIn{InScheme: tpm2.SigScheme{Scheme: tpm2.AlgHashMLDSA}}, parameterRC(tpm2.RCScheme, 2)},
		"a quote by the scheme of another type of key": {open, tpm2.CCQuote, &command.QuoteIn{InScheme: tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}}, parameterRC(tpm2.RCScheme, 2)},
		"a quote by a key without a Name":              {open.of(unnamed), tpm2.CCQuote, &command.QuoteIn{InScheme: noScheme()}, parameterRC(tpm2.RCScheme, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.external(tc.key)
			defer m.flush(key)
			var auths []auth
			if info, _ := command.Lookup(tc.cc); info.Auths() > 0 {
				auths = password("")
			}
			m.fails(tc.want, tc.cc, handles(key), auths, tc.in)
		})
	}
	m.in(t)
	key := m.external(x509)
	if _, rc := m.certifyX509(key, key, noScheme(), mustDER(t, *newPartial(usage(m, 0x80)))); rc != parameterRC(tpm2.RCScheme, 2) {
		t.Errorf("TPM2_CertifyX509 by an ML-DSA key = %v, want TPM_RC_SCHEME", rc)
	}
	m.fails(parameterRC(tpm2.RCValue, 2), tpm2.CCVerifySequenceStart, handles(key), nil, &command.VerifySequenceStartIn{Hint: []byte("hint")})
}

func TestMLDSATemplatesAreRefused(t *testing.T) {
	m := newPostQuantum(t)
	for name, tc := range map[string]struct {
		template tpm2.Public
		want     tpm2.RC
	}{
		"decrypting":     {mldsaTemplate(tpm2.MLDSA44, decrypting), tpm2.RCAttributes},
		"decrypting too": {mldsaTemplate(tpm2.MLDSA44, signing|tpm2.AttrDecrypt), tpm2.RCAttributes},
		"no use":         {mldsaTemplate(tpm2.MLDSA44, fixed|ordinary), tpm2.RCAttributes},
		"by SHA-1":       {hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA1, signing), tpm2.RCHash},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(parameterRC(tc.want, 2), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), &command.CreatePrimaryIn{InPublic: tc.template})
		})
	}
	m.in(t)
	p, err := engine.FindProfile("post-quantum", 1)
	if err != nil {
		t.Fatal(err)
	}
	m = manufactureBy(t, p)
	m.startup(tpm2.StartupClear)
	m = m.snapshot() // a TPM keeps its version
	m.fails(parameterRC(tpm2.RCType, 2), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), &command.CreatePrimaryIn{InPublic: mldsaTemplate(tpm2.MLDSA44, signing)})
	if got := m.property(tpm2.PTMLParameterSets); got != 6 {
		t.Errorf("version 1 tells the parameter sets %#x, want 6", got)
	}
}

func TestOutsideMLDSAKeys(t *testing.T) {
	m := newPostQuantum(t)
	good, other := outsideMLDSA(t, mldsaTemplate(tpm2.MLDSA44, usable|tpm2.AttrSign)), outsideMLDSA(t, mldsaTemplate(tpm2.MLDSA44, usable|tpm2.AttrSign))
	for name, tc := range map[string]struct {
		spoil func(in *command.LoadExternalIn)
		want  tpm2.RC
	}{
		"short public": {func(in *command.LoadExternalIn) { in.InPublic.Unique.MLDSA = good.public.Unique.MLDSA[1:] }, parameterRC(tpm2.RCKey, 2)},
		"short public only": {func(in *command.LoadExternalIn) {
			in.InPublic.Unique.MLDSA, in.InPrivate.Sensitive = good.public.Unique.MLDSA[1:], nil
		}, parameterRC(tpm2.RCKey, 2)},
		"another's set":    {func(in *command.LoadExternalIn) { in.InPublic.Parameters.MLDSA.ParameterSet = tpm2.MLDSA65 }, parameterRC(tpm2.RCKey, 2)},
		"another's public": {func(in *command.LoadExternalIn) { in.InPublic.Unique = other.public.Unique }, tpm2.RCBinding},
		"short seed":       {func(in *command.LoadExternalIn) { in.InPrivate.Sensitive.Bits = good.sensitive.Bits[1:] }, parameterRC(tpm2.RCKeySize, 1)},
		"another type":     {func(in *command.LoadExternalIn) { in.InPrivate.Sensitive.Type = tpm2.AlgHashMLDSA }, parameterRC(tpm2.RCType, 1)},
		"public without a use": {func(in *command.LoadExternalIn) {
			in.InPublic.Attributes &^= tpm2.AttrSign
			in.InPrivate.Sensitive = nil
		}, parameterRC(tpm2.RCAttributes, 2)},
		"public that decrypts": {func(in *command.LoadExternalIn) {
			in.InPublic.Attributes ^= tpm2.AttrSign | tpm2.AttrDecrypt
			in.InPrivate.Sensitive = nil
		}, parameterRC(tpm2.RCAttributes, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			in := good.clone().external()
			tc.spoil(in)
			m.fails(tc.want, tpm2.CCLoadExternal, nil, nil, in)
		})
	}
	m.in(t)
	key, public := m.external(good), m.loadPublic(good.public)
	sig := m.endSigning(m.startSigning(key, ""), key, "message")
	checkMLDSA(t, &good.public, "message", "", sig)
	m.flush(key)
	h := m.startVerifying(public, "")
	m.update(h, "", "message")
	m.do(tpm2.CCVerifySequenceComplete, handles(h, public), password(""), &command.VerifySequenceCompleteIn{Signature: *sig}, nil)
	// A sequence may be started for a public key; to sign it does not end.
	h = m.startSigning(public, "")
	m.fails(tpm2.RCAuthUnavailable.Of(tpm2.RCSession, 2), tpm2.CCSignSequenceComplete, handles(h, public), password("", ""), &command.SignSequenceCompleteIn{})
}

// A key is created under a parent, loaded, made persistent, saved and duplicated, and
// signs the same each time: signatures are deterministic.
func TestMLDSAKeysAreKept(t *testing.T) {
	for name, template := range map[string]tpm2.Public{
		"ML-DSA-87":     mldsaTemplate(tpm2.MLDSA87, signing),
		"HashML-DSA-44": hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing),
	} {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			parent := m.storage("")
			template.Attributes &^= fixed
			key := m.child(parent, m.duplicable(template), "", "")
			want := m.endSigning(m.startSigning(key, "c"), key, "message")
			checkMLDSA(t, m.public(key), "message", "c", want)
			same := func(what string, h tpm2.Handle) {
				t.Helper()
				if diff := cmp.Diff(want, m.endSigning(m.startSigning(h, "c"), h, "message")); diff != "" {
					t.Errorf("%s: the signature is another", what)
				}
			}
			saved := m.save(key)
			m.flush(key)
			key = m.loadContext(saved)
			same("saved", key)
			var out command.DuplicateOut
			if rc := m.duplicate(key, parent, &command.DuplicateIn{}, &out); rc != tpm2.RCSuccess {
				t.Fatalf("TPM2_Duplicate = %v", rc)
			}
			public := *m.public(key)
			m.flush(key)
			key = m.imports(parent, &command.ImportIn{ObjectPublic: public, Duplicate: out.Duplicate, InSymSeed: out.OutSymSeed})
			same("imported", key)
			m.flush(key)
			m.persist(tpm2.HandleOwner, m.primary(tpm2.HandleOwner, mldsaTemplate(tpm2.MLDSA44, signing), ""), 0x81000001)
			m.endSigning(m.startSigning(0x81000001, ""), 0x81000001, "message")
			again := m.snapshot()
			again.endSigning(again.startSigning(0x81000001, ""), 0x81000001, "message")
		})
	}
}

// A sequence goes on when its context was saved after each byte, and when the TPM was.
func TestSavedMLDSASequencesGoOn(t *testing.T) {
	for name, template := range map[string]tpm2.Public{
		"ML-DSA":     mldsaTemplate(tpm2.MLDSA44, signing),
		"HashML-DSA": hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing),
	} {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			key := m.primary(tpm2.HandleOwner, template, "")
			message := string(bytes.Repeat([]byte("0123456789abc"), 11)) // more than a block of SHAKE256
			h := m.startSigning(key, "context")
			for i := range message {
				saved := m.save(h)
				if saved.SavedHandle != tpm2.SavedSequenceObject {
					t.Fatalf("saved handle = %v", saved.SavedHandle)
				}
				m.flush(h)
				h = m.loadContext(saved)
				m.update(h, "", message[i:i+1])
			}
			again := m.snapshot()
			for _, m := range []*machine{m, again} {
				sig := m.endSigning(h, key, "end")
				checkMLDSA(t, m.public(key), message+"end", "context", sig)
				v := m.startVerifying(key, "context")
				m.update(v, "", message)
				saved := m.save(v)
				m.flush(v)
				v = m.loadContext(saved)
				m.update(v, "", "end")
				m.do(tpm2.CCVerifySequenceComplete, handles(v, key), password(""), &command.VerifySequenceCompleteIn{Signature: *sig}, nil)
			}
		})
	}
}

// Attestations are signed as whole messages, with the hash of the key's Name inside.
func TestMLDSAKeysAttest(t *testing.T) {
	for name, template := range map[string]tpm2.Public{
		"ML-DSA-87":     mldsaTemplate(tpm2.MLDSA87, signing|tpm2.AttrRestricted),
		"HashML-DSA-44": hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing|tpm2.AttrRestricted),
	} {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			template.NameAlg = tpm2.AlgSHA512
			key := m.primary(tpm2.HandleEndorsement, template, "")
			public := m.public(key)
			for _, scheme := range []tpm2.SigScheme{noScheme(), {Scheme: template.Type}} {
				var quoted command.QuoteOut
				m.do(tpm2.CCQuote, handles(key), password(""), &command.QuoteIn{QualifyingData: []byte("nonce"), InScheme: scheme, PCRSelect: selection(tpm2.AlgSHA256, 0, 7)}, &quoted)
				checkMLDSA(t, public, string(quoted.Quoted), "", &quoted.Signature)
				attest, err := tpm2.ParseAttest(quoted.Quoted)
				if err != nil {
					t.Fatal(err)
				}
				want := sha512.Sum512(append(m.pcr(tpm2.AlgSHA256, 0), m.pcr(tpm2.AlgSHA256, 7)...))
				if got := attest.Attested.Quote.PCRDigest; !bytes.Equal(got, want[:]) || string(attest.ExtraData) != "nonce" {
					t.Errorf("digest of the PCRs = %x, want %x", got, want)
				}
			}
			var certified command.CertifyOut
			m.do(tpm2.CCCertify, handles(key, key), password("", ""), &command.CertifyIn{InScheme: noScheme()}, &certified)
			checkMLDSA(t, public, string(certified.CertifyInfo), "", &certified.Signature)
			in := m.bigIndex()
			m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, in)
			var index command.NVCertifyOut
			m.do(tpm2.CCNVCertify, handles(key, tpm2.HandleOwner, anIndex), password("", ""), &command.NVCertifyIn{InScheme: noScheme()}, &index)
			checkMLDSA(t, public, string(index.CertifyInfo), "", &index.Signature)
			attest, err := tpm2.ParseAttest(index.CertifyInfo)
			if err != nil {
				t.Fatal(err)
			}
			if want := sha512.Sum512(in.Data); !bytes.Equal(attest.Attested.NVDigest.NVDigest, want[:]) {
				t.Errorf("digest of the index = %x, want %x", attest.Attested.NVDigest.NVDigest, want)
			}
			ecc := m.primary(tpm2.HandleOwner, ecdsaKey(), "")
			m.do(tpm2.CCCertify, handles(key, ecc), password("", ""), &command.CertifyIn{InScheme: noScheme()}, nil)
		})
	}
}

// Of a signature that does not fit into the buffer in front of the TPM nothing is made.
func TestMLDSASignaturesFitTheBuffer(t *testing.T) {
	const crb = 3968 // of a machine's TPM interface
	for _, tc := range []struct {
		set  tpm2.MLDSASet
		want tpm2.RC
	}{{tpm2.MLDSA44, tpm2.RCSuccess}, {tpm2.MLDSA65, tpm2.RCSuccess}, {tpm2.MLDSA87, tpm2.RCNoResult}} {
		m := newPostQuantum(t)
		m.tpm.SetBufferSize(crb)
		key := m.primary(tpm2.HandleOwner, mldsaTemplate(tc.set, signing|tpm2.AttrRestricted), "")
		h := m.startSigning(key, "")
		m.fails(tc.want, tpm2.CCSignSequenceComplete, handles(h, key), password("", ""), &command.SignSequenceCompleteIn{Buffer: []byte("message")})
		m.fails(tc.want, tpm2.CCQuote, handles(key), password(""), &command.QuoteIn{InScheme: noScheme(), PCRSelect: selection(tpm2.AlgSHA256, 0)})
		if tc.set == tpm2.MLDSA65 { // what is attested counts
			m.tpm.SetBufferSize(3600)
			m.fails(tpm2.RCSuccess, tpm2.CCQuote, handles(key), password(""), &command.QuoteIn{InScheme: noScheme(), PCRSelect: selection(tpm2.AlgSHA256, 0)})
			m.fails(tpm2.RCNoResult, tpm2.CCQuote, handles(key), password(""), &command.QuoteIn{QualifyingData: make([]byte, 50), InScheme: noScheme(), PCRSelect: selection(tpm2.AlgSHA256, 0)})
		}
	}
}

// A derived key has for its seed what its parent gives.
func TestMLDSAKeysAreDerived(t *testing.T) {
	m := newPostQuantum(t)
	parent := m.deriver()
	secret := m.tpm.Sensitive(parent).Bits
	out := m.createLoaded(parent, deriveTemplate(mldsaTemplate(tpm2.MLDSA65, derived|tpm2.AttrSign), "label", "context"), nil)
	if got, want := m.tpm.Sensitive(m.handle).Bits, derivedSecret(secret, "label", "context", 0, 32); !bytes.Equal(got, want) {
		t.Errorf("seed = %x, want %x", got, want)
	}
	checkMLDSA(t, &out.OutPublic, "message", "", m.endSigning(m.startSigning(m.handle, ""), 0x80000001, "message"))
}
