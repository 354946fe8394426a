package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

var nonce = []byte("a nonce of thirty-two bytes, all")

// keyOf trusts the TPMT_PUBLIC b.
func keyOf(t testing.TB, b []byte) *tpm.Key {
	t.Helper()
	key, err := tpm.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pemKey trusts a public key whose attributes nobody knows.
func pemKey(t testing.TB, key crypto.PublicKey) *tpm.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return keyOf(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// codes are the codes of the reasons, sorted, each once.
func codes(reasons []evidence.Reason) []evidence.Code {
	out := make([]evidence.Code, 0, len(reasons))
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func codesOf(err error) []evidence.Code { return codes(evidence.Reasons(err)) }

// refuses fails the test unless the text is refused for exactly the given codes.
func refuses(t testing.TB, text []byte, o tpm.Options, want ...evidence.Code) *tpm.Appraisal {
	t.Helper()
	a := tpm.AppraiseBundle(text, o)
	slices.Sort(want)
	if diff := cmp.Diff(want, codes(a.Reasons)); diff != "" || a.Verdict != evidence.Refused {
		t.Errorf("verdict %v, reasons (-want +got):\n%s%v", a.Verdict, diff, a.Reasons)
	}
	if a.Verified == nil && len(a.Claims) > 0 {
		t.Errorf("claims of evidence that was not verified: %v", a.Claims)
	}
	return a
}

func trusts(t testing.TB, text []byte, o tpm.Options) *tpm.Appraisal {
	t.Helper()
	a := tpm.AppraiseBundle(text, o)
	if a.Verdict != evidence.Trusted || len(a.Reasons) > 0 {
		t.Errorf("verdict %v, reasons %v, want trusted", a.Verdict, a.Reasons)
	}
	return a
}

// kinds are the kinds of attestation key, each with one TPM for all tests of a run.
func tpms(t testing.TB) map[string]*evidencetest.TPM {
	t.Helper()
	boot := evidencetest.Recorded(t, "good-shim-grub", "rsa")
	out := map[string]*evidencetest.TPM{}
	for _, kind := range []string{evidencetest.RSA2048, evidencetest.RSAPSS, evidencetest.P256, evidencetest.P384, evidencetest.P521} {
		out[kind] = evidencetest.NewTPM(t, kind, boot)
	}
	return out
}

// fresh returns a copy of a TPM that a test may change.
func fresh(m *evidencetest.TPM) *evidencetest.TPM {
	c := *m
	c.Boot = c.Boot.Clone()
	return &c
}

func trusting(t testing.TB, m *evidencetest.TPM) tpm.Options {
	t.Helper()
	return tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{keyOf(t, evidencetest.Encode(t, &m.Public))}}}
}

// without returns the bundle's text without a member, or with another value of it.
func edit(t testing.TB, p evidencetest.Parts, member string, value any) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(p.JSON(t), &doc); err != nil {
		t.Fatal(err)
	}
	if value == nil {
		delete(doc, member)
	} else {
		doc[member] = value
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[(at+len(b))%len(b)] ^= 1
	return b
}

func withPCR(p evidencetest.Parts, bank, pcr, value string) evidencetest.Parts {
	p = p.Clone()
	if value == "" {
		delete(p.PCRs[bank], pcr)
	} else {
		p.PCRs[bank][pcr] = value
	}
	return p
}

func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// sha256PCRs selects PCRs of the SHA-256 bank.
func sha256PCRs(pcrs ...int) tpm2.PCRSelection { return evidencetest.Select(tpm2.AlgSHA256, pcrs...) }
