package attest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/tpm2"
)

// certify makes a CA and has it certify an attestation key (TCG EK Credential
// Profile, 3.6: tcg-kp-AIKCertificate). Both are DER.
func certify(t testing.TB, now time.Time, public crypto.PublicKey) (cert, ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(template, parent *x509.Certificate, public any) []byte {
		template.NotBefore, template.NotAfter, template.SerialNumber = now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0), big.NewInt(1)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	authority := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca = issue(authority, authority, &key.PublicKey)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "AK"}, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}}
	return issue(leaf, authority, public), ca
}

// certify names a new CA to the service and has it certify a TPM's key.
func (f *fixture) certify(m *evidencetest.TPM) []byte {
	f.t.Helper()
	cert, ca := certify(f.t, f.clock.Now(), m.Key.Public())
	anchor := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})
	if _, err := f.AddAnchors(context.Background(), "tester", attest.AnchorAKCA, anchor); err != nil {
		f.t.Fatal(err)
	}
	return cert
}

func TestKeyDoesNotEscapeItsRecordUnderAnotherName(t *testing.T) {
	f := newFixture(t, true)
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "ecc", "sha256"))
	cert := f.certify(m)
	bundle := func(public tpm2.Public) []byte {
		p := m.Bundle(read(t, "nonce.bin"))
		p.AKPublic, p.AKCert = evidencetest.Encode(t, &public), cert
		return p.JSON(t)
	}
	renamed := m.Public
	renamed.AuthPolicy = []byte("any policy of thirty-two bytes..")

	if r := f.attest(bundle(renamed)); r.Verdict != evidence.Trusted {
		t.Fatalf("a certified key without a record: %v for %v, want trust", r.Verdict, codes(r))
	}
	a := f.register("web-1", bundle(m.Public), "")
	if r := f.attest(bundle(renamed)); !slices.Equal(codes(r), []evidence.Code{"ak.untrusted"}) {
		t.Errorf("an enrolled key under another Name: %v for %v, want ak.untrusted", r.Verdict, codes(r))
	}
	if err := f.RemoveAttester(context.Background(), "tester", a.AKName); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(bundle(renamed)); !slices.Equal(codes(r), []evidence.Code{"ak.removed"}) {
		t.Errorf("a removed key under another Name: %v for %v, want ak.removed", r.Verdict, codes(r))
	}
}

func TestKeyDigestIsOfTheKeyAlone(t *testing.T) {
	rsaKey := evidencetest.NewTPM(t, evidencetest.RSA2048, evidencetest.Recorded(t, "good-uki", "rsa", "sha256")).Public
	p256 := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "ecc", "sha256")).Public
	digest := func(p tpm2.Public, change func(*tpm2.Public)) string {
		change(&p)
		return string(attest.KeyDigest(evidencetest.Encode(t, &p)))
	}
	same := func(*tpm2.Public) {}
	for name, tc := range map[string]struct {
		of     tpm2.Public
		change func(*tpm2.Public)
	}{
		"policy":       {p256, func(p *tpm2.Public) { p.AuthPolicy = []byte("any policy of thirty-two bytes..") }},
		"attributes":   {p256, func(p *tpm2.Public) { p.Attributes ^= tpm2.AttrNoDA }},
		"Name's hash":  {p256, func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSHA384 }},
		"exponent":     {rsaKey, func(p *tpm2.Public) { p.Parameters.RSA.Exponent = 65537 - p.Parameters.RSA.Exponent }},
		"nothing else": {rsaKey, same},
	} {
		if digest(tc.of, same) != digest(tc.of, tc.change) {
			t.Errorf("another %s gives another digest", name)
		}
	}
	if digest(p256, same) == digest(rsaKey, same) {
		t.Error("two keys have one digest")
	}
	if x, y := attest.KeyDigest([]byte("a")), attest.KeyDigest([]byte("b")); string(x) == string(y) {
		t.Error("two public areas without a key have one digest")
	}
}
