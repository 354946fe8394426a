package tpm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// A vector is one fault in evidence that is good otherwise, and what it must be
// refused for: these codes and no others.
type vector struct {
	name string
	// make returns the bundle's text; m is the test's own.
	make func(t *testing.T, m *evidencetest.TPM) []byte
	want []evidence.Code
}

// signed is a vector whose TPM signs what change makes of a good quote.
func signed(name string, want evidence.Code, change func(m *evidencetest.TPM, a *tpm2.Attest)) vector {
	return vector{name, func(t *testing.T, m *evidencetest.TPM) []byte {
		a := m.Attest(nonce)
		change(m, a)
		return m.Bundle(nonce, m.Sign(a)).JSON(t)
	}, []evidence.Code{want}}
}

// selecting is a vector whose TPM quotes other PCRs.
func selecting(name string, want evidence.Code, selections ...tpm2.PCRSelection) vector {
	return vector{name, func(t *testing.T, m *evidencetest.TPM) []byte {
		a := m.Attest(nonce, append([]tpm2.PCRSelection{}, selections...)...)
		if selections == nil {
			a.Attested.Quote.PCRSelect, a.Attested.Quote.PCRDigest = nil, m.Digest(nil)
		}
		return m.Bundle(nonce, m.Sign(a)).JSON(t)
	}, []evidence.Code{want}}
}

// sent is a vector in which a good bundle was changed after signing.
func sent(name string, want evidence.Code, change func(p *evidencetest.Parts)) vector {
	return vector{name, func(t *testing.T, m *evidencetest.TPM) []byte {
		p := m.Bundle(nonce)
		change(&p)
		return p.JSON(t)
	}, []evidence.Code{want}}
}

// shaped is a vector with another JSON value for a member; nil leaves it out.
func shaped(name, member string, value any, want evidence.Code) vector {
	return vector{name, func(t *testing.T, m *evidencetest.TPM) []byte { return edit(t, m.Bundle(nonce), member, value) }, []evidence.Code{want}}
}

// resigned is a vector with another signature over a good quote.
func resigned(name string, want evidence.Code, change func(s *tpm2.Signature)) vector {
	return vector{name, func(t *testing.T, m *evidencetest.TPM) []byte {
		p := m.Bundle(nonce)
		s, err := tpm2.ParseSignature(p.Quotes[0].Signature)
		if err != nil {
			t.Fatal(err)
		}
		change(s)
		p.Quotes[0].Signature = evidencetest.Encode(t, s)
		return p.JSON(t)
	}, []evidence.Code{want}}
}

func quoteVectors() []vector {
	return []vector{
		signed("another nonce", "quote.nonce-mismatch", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.ExtraData = flip(nonce, 0) }),
		signed("no nonce", "quote.nonce-mismatch", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.ExtraData = nil }),
		signed("nonce with a byte more", "quote.nonce-mismatch", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.ExtraData = append(bytes.Clone(nonce), 0) }),
		signed("nonce with a byte less", "quote.nonce-mismatch", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.ExtraData = nonce[:31] }),
		signed("nonce of zeros", "quote.nonce-mismatch", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.ExtraData = make([]byte, 32) }),
		signed("a key certification", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Type = tpm2.AttestCertify }),
		signed("a creation certification", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Type = tpm2.AttestCreation }),
		signed("a time attestation", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Type = tpm2.AttestTime }),
		signed("an NV certification", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Type = tpm2.AttestNV }),
		signed("an NV digest certification", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Type = tpm2.AttestNVDigest }),
		signed("a session audit", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Type = tpm2.AttestSessionAudit }),
		signed("a command audit", "quote.type", func(_ *evidencetest.TPM, a *tpm2.Attest) {
			a.Type, a.Attested.CommandAudit.DigestAlg = tpm2.AttestCommandAudit, tpm2.AlgSHA256
		}),
		selecting("nothing selected", "quote.pcr-selection"),
		selecting("an empty bitmap", "quote.pcr-selection", sha256PCRs()),
		selecting("without PCR 0", "quote.pcr-selection", sha256PCRs(1, 2, 3, 4, 5, 6, 7)),
		selecting("without PCR 4", "quote.pcr-selection", sha256PCRs(0, 1, 2, 3, 5, 6, 7)),
		selecting("without PCR 7", "quote.pcr-selection", sha256PCRs(0, 1, 2, 3, 4, 5, 6)),
		selecting("only PCR 16", "quote.pcr-selection", sha256PCRs(16)),
		selecting("only what the guest extends", "quote.pcr-selection", sha256PCRs(8, 9, 10, 11, 12, 13, 14)),
		selecting("the SHA-1 bank", "quote.weak-bank", evidencetest.Select(tpm2.AlgSHA1, evidencetest.BootPCRs[:]...)),
		selecting("half in each bank", "quote.pcr-selection", sha256PCRs(0, 1, 2, 3), evidencetest.Select(tpm2.AlgSHA384, 4, 5, 6, 7)),
		selecting("SHA-1 for the rest", "quote.pcr-selection", sha256PCRs(0, 1, 2, 3), evidencetest.Select(tpm2.AlgSHA1, evidencetest.BootPCRs[:]...)),
		signed("digest of other values", "quote.pcr-digest", func(_ *evidencetest.TPM, a *tpm2.Attest) {
			a.Attested.Quote.PCRDigest = flip(a.Attested.Quote.PCRDigest, 5)
		}),
		signed("no digest", "quote.pcr-digest", func(_ *evidencetest.TPM, a *tpm2.Attest) { a.Attested.Quote.PCRDigest = nil }),
		signed("digest by SHA-1", "quote.pcr-digest", func(_ *evidencetest.TPM, a *tpm2.Attest) {
			sum := sha1.Sum(a.Attested.Quote.PCRDigest)
			a.Attested.Quote.PCRDigest = sum[:]
		}),
		signed("digest of a part", "quote.pcr-digest", func(m *evidencetest.TPM, a *tpm2.Attest) {
			a.Attested.Quote.PCRDigest = m.Digest([]tpm2.PCRSelection{sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7)})
		}),
		signed("digest of another bank", "quote.pcr-digest", func(m *evidencetest.TPM, a *tpm2.Attest) {
			a.Attested.Quote.PCRDigest = m.Digest([]tpm2.PCRSelection{evidencetest.Select(tpm2.AlgSHA384, evidencetest.BootPCRs[:]...)})
		}),
		{"magic of something else", func(t *testing.T, m *evidencetest.TPM) []byte {
			b := evidencetest.Encode(t, m.Attest(nonce))
			return m.Bundle(nonce, m.SignBytes(flip(b, 0))).JSON(t)
		}, []evidence.Code{"quote.magic"}},
		{"quotes of two boots", func(t *testing.T, m *evidencetest.TPM) []byte {
			first := m.Sign(m.Attest(nonce))
			m.Clock.ResetCount++
			return m.Bundle(nonce, first, m.Sign(m.Attest(nonce))).JSON(t)
		}, []evidence.Code{"quote.boots-mixed"}},
		{"quotes before and after a resume", func(t *testing.T, m *evidencetest.TPM) []byte {
			first := m.Sign(m.Attest(nonce))
			m.Clock.RestartCount++
			return m.Bundle(nonce, first, m.Sign(m.Attest(nonce))).JSON(t)
		}, []evidence.Code{"quote.boots-mixed"}},
		{"a second quote with an old nonce", func(t *testing.T, m *evidencetest.TPM) []byte {
			return m.Bundle(nonce, m.Sign(m.Attest(nonce)), m.Sign(m.Attest(flip(nonce, 3)))).JSON(t)
		}, []evidence.Code{"quote.nonce-mismatch"}},
	}
}

func sentVectors() []vector {
	return []vector{
		sent("a bit of the signature", "quote.signature", func(p *evidencetest.Parts) { p.Quotes[0].Signature = flip(p.Quotes[0].Signature, -1) }),
		sent("a bit of the signer", "quote.signature", func(p *evidencetest.Parts) { p.Quotes[0].Attest = flip(p.Quotes[0].Attest, 8) }),
		sent("the clock set", "quote.signature", func(p *evidencetest.Parts) { p.Quotes[0].Attest = flip(p.Quotes[0].Attest, 6+2+34+2+32+7) }),
		sent("the reset counter set", "quote.signature", func(p *evidencetest.Parts) { p.Quotes[0].Attest = flip(p.Quotes[0].Attest, 6+2+34+2+32+11) }),
		sent("safe set", "quote.signature", func(p *evidencetest.Parts) { p.Quotes[0].Attest = flip(p.Quotes[0].Attest, 6+2+34+2+32+16) }),
		sent("firmware version set", "quote.signature", func(p *evidencetest.Parts) { p.Quotes[0].Attest = flip(p.Quotes[0].Attest, 6+2+34+2+32+17+7) }),
		sent("a PCR value edited", "quote.pcr-digest", func(p *evidencetest.Parts) { *p = withPCR(*p, "sha256", "7", strings.Repeat("ab", 32)) }),
		sent("two PCR values swapped", "quote.pcr-digest", func(p *evidencetest.Parts) {
			a, b := p.PCRs["sha256"]["0"], p.PCRs["sha256"]["4"]
			*p = withPCR(withPCR(*p, "sha256", "0", b), "sha256", "4", a)
		}),
		sent("a PCR value left out", "quote.pcr-absent", func(p *evidencetest.Parts) { *p = withPCR(*p, "sha256", "14", "") }),
		sent("a bank left out", "quote.pcr-absent", func(p *evidencetest.Parts) { delete(p.PCRs, "sha256") }),
		sent("no log", "eventlog.absent", func(p *evidencetest.Parts) { p.EventLog = nil }),
		sent("a log that is none", "eventlog.malformed", func(p *evidencetest.Parts) { p.EventLog = []byte("no log") }),
		sent("a log cut short", "eventlog.malformed", func(p *evidencetest.Parts) { p.EventLog = p.EventLog[:len(p.EventLog)-3] }),
		sent("an IMA list that is none", "ima.malformed", func(p *evidencetest.Parts) { p.IMALog = bytes.Repeat([]byte{0xff}, 64) }),
		sent("an IMA list cut short", "ima.replay-mismatch", func(p *evidencetest.Parts) { p.IMALog = p.IMALog[:len(p.IMALog)-3] }),
		sent("a quote cut short", "quote.malformed", func(p *evidencetest.Parts) { q := &p.Quotes[0]; q.Attest = q.Attest[:len(q.Attest)-1] }),
		sent("a quote with a byte more", "quote.malformed", func(p *evidencetest.Parts) { q := &p.Quotes[0]; q.Attest = append(q.Attest, 0) }),
		sent("a signature cut short", "quote.malformed", func(p *evidencetest.Parts) { q := &p.Quotes[0]; q.Signature = q.Signature[:len(q.Signature)-1] }),
		sent("a signature with a byte more", "quote.malformed", func(p *evidencetest.Parts) { q := &p.Quotes[0]; q.Signature = append(q.Signature, 0) }),
		sent("no signature", "quote.malformed", func(p *evidencetest.Parts) { p.Quotes[0].Signature = nil }),
		sent("no quotes", "quote.absent", func(p *evidencetest.Parts) { p.Quotes = nil }),
		sent("six quotes", "quote.malformed", func(p *evidencetest.Parts) {
			for len(p.Quotes) < 6 {
				p.Quotes = append(p.Quotes, p.Quotes[0])
			}
		}),
		sent("no key", "ak.absent", func(p *evidencetest.Parts) { p.AKPublic = nil }),
		sent("a key cut short", "ak.malformed", func(p *evidencetest.Parts) { p.AKPublic = p.AKPublic[:len(p.AKPublic)-1] }),
		sent("a key with a byte more", "ak.malformed", func(p *evidencetest.Parts) { p.AKPublic = append(p.AKPublic, 0) }),
		sent("a key with its size", "ak.malformed", func(p *evidencetest.Parts) {
			p.AKPublic = append([]byte{byte(len(p.AKPublic) >> 8), byte(len(p.AKPublic))}, p.AKPublic...)
		}),
		sent("an endorsement key cut short", "ek.malformed", func(p *evidencetest.Parts) { p.EKPublic = []byte{0, 1, 0} }),
	}
}

func signatureVectors() []vector {
	return []vector{
		resigned("no algorithm", "quote.pcr-digest", func(s *tpm2.Signature) { *s = tpm2.Signature{SigAlg: tpm2.AlgNull} }),
		resigned("an HMAC", "quote.signature-scheme", func(s *tpm2.Signature) {
			*s = tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: s.Hash, HMAC: make([]byte, s.Hash.DigestSize())}
		}),
		resigned("ECDAA", "quote.signature-scheme", func(s *tpm2.Signature) {
			*s = tpm2.Signature{SigAlg: tpm2.AlgECDAA, Hash: s.Hash, R: []byte{1}, S: []byte{1}}
		}),
		resigned("SM2", "quote.signature-scheme", func(s *tpm2.Signature) {
			*s = tpm2.Signature{SigAlg: tpm2.AlgSM2, Hash: s.Hash, R: []byte{1}, S: []byte{1}}
		}),
		resigned("numbers of zero", "quote.signature", func(s *tpm2.Signature) { clear(s.RSA); clear(s.R); clear(s.S) }),
		resigned("numbers without bytes", "quote.signature", func(s *tpm2.Signature) { s.RSA, s.R, s.S = nil, nil, nil }),
		resigned("numbers of ones", "quote.signature", func(s *tpm2.Signature) {
			for _, b := range [][]byte{s.RSA, s.R, s.S} {
				for i := range b {
					b[i] = 0xff
				}
			}
		}),
	}
}

func shapeVectors() []vector {
	quote := func(members map[string]any) []any { return []any{members} }
	return []vector{
		shaped("an empty list of quotes", "quotes", []any{}, "quote.absent"),
		shaped("quotes in a text", "quotes", "AAAA", "quote.malformed"),
		shaped("a quote that is a text", "quotes", []any{"AAAA"}, "quote.malformed"),
		shaped("a quote with another member", "quotes", quote(map[string]any{"attest": "", "signature": "", "trusted": true}), "quote.malformed"),
		shaped("a quote in URL base64", "quotes", quote(map[string]any{"attest": "_1RDR4AY", "signature": "AAAA"}), "quote.malformed"),
		shaped("a quote too long", "quotes", quote(map[string]any{"attest": strings.Repeat("AAAA", 1000), "signature": "AAAA"}), "quote.malformed"),
		shaped("no PCR values", "pcrs", nil, "quote.pcr-absent"),
		shaped("PCR values in a list", "pcrs", []any{}, "quote.malformed"),
		shaped("a bank in a list", "pcrs", map[string]any{"sha256": []any{}}, "quote.malformed"),
		shaped("an unknown bank", "pcrs", map[string]any{"md5": map[string]any{}}, "quote.malformed"),
		shaped("a bank of another case", "pcrs", map[string]any{"SHA256": map[string]any{}}, "quote.malformed"),
		shaped("PCR 24", "pcrs", map[string]any{"sha256": map[string]any{"24": strings.Repeat("00", 32)}}, "quote.malformed"),
		shaped("PCR -1", "pcrs", map[string]any{"sha256": map[string]any{"-1": strings.Repeat("00", 32)}}, "quote.malformed"),
		shaped("PCR 07", "pcrs", map[string]any{"sha256": map[string]any{"07": strings.Repeat("00", 32)}}, "quote.malformed"),
		shaped("a value too short", "pcrs", map[string]any{"sha256": map[string]any{"7": strings.Repeat("00", 31)}}, "quote.malformed"),
		shaped("a value too long", "pcrs", map[string]any{"sha256": map[string]any{"7": strings.Repeat("00", 33)}}, "quote.malformed"),
		shaped("a value that is not hex", "pcrs", map[string]any{"sha256": map[string]any{"7": strings.Repeat("zz", 32)}}, "quote.malformed"),
		shaped("a key that is a number", "akPublic", 7, "ak.malformed"),
		shaped("an empty key", "akPublic", "", "ak.malformed"),
		shaped("a certificate that is not base64", "akCert", "-----BEGIN", "ak.certificate-malformed"),
		shaped("an endorsement certificate that is not base64", "ekCert", "-----BEGIN", "ek.certificate-malformed"),
		shaped("a chain that is a text", "caCerts", "AAAA", "certificate.malformed"),
		shaped("a chain of seven", "caCerts", []any{"AA==", "AA==", "AA==", "AA==", "AA==", "AA==", "AA=="}, "certificate.malformed"),
		shaped("a log that is not base64", "eventLog", "&&&&", "eventlog.malformed"),
		shaped("an empty log", "eventLog", "", "eventlog.malformed"),
		shaped("an IMA list that is not base64", "imaLog", "&&&&", "ima.malformed"),
	}
}

// keyVectors are of keys that a TPM must not attest with. The operator vouches
// for the public key only.
func keyVectors() []vector {
	with := func(name string, want evidence.Code, change func(p *tpm2.Public)) vector {
		return vector{name, func(t *testing.T, m *evidencetest.TPM) []byte {
			change(&m.Public)
			return m.Bundle(nonce).JSON(t)
		}, []evidence.Code{want}}
	}
	return []vector{
		with("not restricted", "ak.attributes", func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrRestricted }),
		with("not fixed to the TPM", "ak.attributes", func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrFixedTPM }),
		with("not fixed to its parent", "ak.attributes", func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrFixedParent }),
		with("made outside", "ak.attributes", func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrSensitiveDataOrigin }),
		with("not for signing", "ak.attributes", func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrSign }),
		with("decrypting too", "ak.attributes", func(p *tpm2.Public) { p.Attributes |= tpm2.AttrDecrypt }),
		with("for certificates", "ak.attributes", func(p *tpm2.Public) { p.Attributes |= tpm2.AttrX509Sign }),
		with("no attributes", "ak.attributes", func(p *tpm2.Public) { p.Attributes = 0 }),
		with("named by SHA-1", "ak.weak", func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSHA1 }),
		with("named by SHA-3", "ak.weak", func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSHA3x256 }),
		with("without a name", "ak.weak", func(p *tpm2.Public) { p.NameAlg = tpm2.AlgNull }),
	}
}

func TestEveryFaultIsRefusedForItsOwnReason(t *testing.T) {
	machines := tpms(t)
	n := 0
	run := func(t *testing.T, kind string, v vector, o tpm.Options) {
		n++
		t.Run(kind+"/"+v.name, func(t *testing.T) { refuses(t, v.make(t, fresh(machines[kind])), o, v.want...) })
	}
	for _, kind := range names(machines) {
		o := trusting(t, machines[kind])
		t.Run(kind+"/none", func(t *testing.T) { trusts(t, machines[kind].Bundle(nonce).JSON(t), o) })
		for _, v := range append(quoteVectors(), append(sentVectors(), signatureVectors()...)...) {
			if v.name == "no algorithm" {
				// Without a hash the PCR digest cannot be computed either.
				v.want = []evidence.Code{"quote.pcr-digest", "quote.signature-scheme"}
			}
			run(t, kind, v, o)
		}
		vouched := tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{pemKey(t, machines[kind].Key.Public())}}}
		for _, v := range keyVectors() {
			run(t, kind, v, vouched)
		}
	}
	for _, v := range shapeVectors() {
		run(t, evidencetest.P256, v, trusting(t, machines[evidencetest.P256]))
	}
	if n < 200 {
		t.Errorf("there are %d vectors, want at least 200", n)
	}
}

func TestAllFaultsAreReportedTogether(t *testing.T) {
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "ecc"))
	m.Public.Attributes &^= tpm2.AttrRestricted
	a := m.Attest(flip(nonce, 0), sha256PCRs(0, 1, 2))
	a.Attested.Quote.PCRDigest[0] ^= 1
	q := m.Sign(a)
	q.Signature = flip(q.Signature, -1)
	p := m.Bundle(nonce, q)
	refuses(t, p.JSON(t), tpm.Options{Expect: tpm.Expect{Nonce: nonce}},
		"ak.attributes", "ak.untrusted", "quote.nonce-mismatch", "quote.pcr-digest", "quote.pcr-selection", "quote.signature")
	p.EKPublic, p.AKPublic, p.EventLog = []byte{1}, nil, nil
	p.Quotes[0].Attest = flip(p.Quotes[0].Attest, 0)
	refuses(t, p.JSON(t), tpm.Options{}, "ak.absent", "ek.malformed", "quote.magic")
}

func TestWeakKeysAreRefused(t *testing.T) {
	good := evidencetest.NewTPM(t, evidencetest.RSA2048, evidencetest.Recorded(t, "good-uki", "rsa")).Public
	ecc := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "rsa")).Public
	for name, change := range map[string]func() tpm2.Public{
		"RSA-1024": func() tpm2.Public {
			p := good
			p.Parameters.RSA.KeyBits, p.Unique.RSA = 1024, append(bytes.Clone(p.Unique.RSA[:127]), 1) // odd, so that only its size is wrong
			return p
		},
		"exponent 3":                  func() tpm2.Public { p := good; p.Parameters.RSA.Exponent = 3; return p },
		"modulus without its top bit": func() tpm2.Public { p := good; p.Unique.RSA = make([]byte, 256); return p },
		"P-192":                       func() tpm2.Public { p := ecc; p.Parameters.ECC.CurveID = tpm2.CurveNISTP192; return p },
		"P-224":                       func() tpm2.Public { p := ecc; p.Parameters.ECC.CurveID = tpm2.CurveNISTP224; return p },
		"BN P-256":                    func() tpm2.Public { p := ecc; p.Parameters.ECC.CurveID = tpm2.CurveBNP256; return p },
		"SM2":                         func() tpm2.Public { p := ecc; p.Parameters.ECC.CurveID = tpm2.CurveSM2P256; return p },
		"point off the curve": func() tpm2.Public {
			p := ecc
			p.Unique.ECC = tpm2.ECCPoint{X: flip(p.Unique.ECC.X, 0), Y: p.Unique.ECC.Y}
			return p
		},
		"HMAC key":      func() tpm2.Public { p := good; p.Type = tpm2.AlgKeyedHash; return p },
		"symmetric key": func() tpm2.Public { p := good; p.Type = tpm2.AlgSymCipher; return p },
	} {
		p := change()
		if got := codesOf(tpm.CheckAK(&p)); len(got) != 1 || got[0] != "ak.weak" {
			t.Errorf("%s: CheckAK = %v, want ak.weak", name, got)
		}
		if _, err := tpm.NewKey(&p, tpm.ProofRegistered); err == nil {
			t.Errorf("%s: NewKey accepts it", name)
		}
	}
	if err := tpm.CheckAK(&good); err != nil {
		t.Errorf("CheckAK of a good key = %v", err)
	}
}

func TestRegisteredKeysAreRead(t *testing.T) {
	p := evidencetest.Recorded(t, "good-uki", "ecc")
	sized := append([]byte{0, byte(len(p.AKPublic))}, p.AKPublic...)
	for name, file := range map[string][]byte{"TPMT_PUBLIC": p.AKPublic, "TPM2B_PUBLIC": sized} {
		trusts(t, p.JSON(t), tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{keyOf(t, file)}}})
		if got := keyOf(t, file).Name(); len(got) != 34 {
			t.Errorf("%s: Name = %x", name, got)
		}
	}
	pub, err := tpm2.ParsePublic(p.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pub.Key()
	if err != nil {
		t.Fatal(err)
	}
	a := trusts(t, p.JSON(t), tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{pemKey(t, key)}}})
	if !strings.Contains(strings.Join(a.NotChecked, "\n"), "registered without them") {
		t.Errorf("a key without attributes is not noted: %v", a.NotChecked)
	}
	other := make([]byte, 64)
	if _, err := rand.Read(other); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"nothing": nil, "text": []byte("key"), "random": other, "PEM of something else": []byte("-----BEGIN X-----\nAAAA\n-----END X-----\n"),
		"PEM that is no key": []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "an endorsement key": p.EKPublic,
	} {
		if k, err := tpm.ParseKey(file); err == nil {
			t.Errorf("ParseKey of %s = %v", name, k)
		}
	}
}
