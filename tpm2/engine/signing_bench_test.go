package engine_test

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

func BenchmarkSign(b *testing.B) {
	for name, tc := range map[string]struct {
		key    tpm2.Public
		scheme tpm2.Alg
	}{"P-256": {eccTemplate(signing), tpm2.AlgECDSA}, "RSA-2048": {rsaTemplate(signing), tpm2.AlgRSASSA}, "HMAC": {keyedHashTemplate(signing), tpm2.AlgHMAC}} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b)
			in := signIn(sum())
			in.InScheme.Scheme = tc.scheme
			m.benchmark(b, tpm2.CCSign, m.primary(tpm2.HandleEndorsement, tc.key, ""), in)
		})
	}
}

func BenchmarkQuote(b *testing.B) {
	m := newMachine(b)
	in := &command.QuoteIn{QualifyingData: sum(), InScheme: noScheme(), PCRSelect: tpm2.PCRSelections{
		{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 1, 2, 3, 4, 5, 6, 7)},
	}}
	m.benchmark(b, tpm2.CCQuote, m.primary(tpm2.HandleOwner, restrictedKey(), ""), in)
}

func BenchmarkVerifySignature(b *testing.B) {
	for name, scheme := range map[string]tpm2.Alg{"P-256": tpm2.AlgECDSA, "RSA-2048": tpm2.AlgRSASSA} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b)
			template := eccTemplate(signing)
			if scheme == tpm2.AlgRSASSA {
				template = rsaTemplate(signing)
			}
			key := m.primary(tpm2.HandleOwner, template, "")
			in := signIn(sum())
			in.InScheme.Scheme = scheme
			var out command.SignOut
			m.do(tpm2.CCSign, handles(key), password(""), in, &out)
			m.benchmark(b, tpm2.CCVerifySignature, key, &command.VerifySignatureIn{Digest: in.Digest, Signature: out.Signature})
		})
	}
}

func BenchmarkPolicyPCR(b *testing.B) {
	m := newMachine(b)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	in := &command.PolicyPCRIn{PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 2, 4, 7)}}}
	m.benchmark(b, tpm2.CCPolicyPCR, s.handle, in)
}
