package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func pool(t testing.TB, ders ...[]byte) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		p.AddCert(c)
	}
	return p
}

// An authority issues certificates for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB, name string, under *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	if under == nil {
		under = a
	}
	a.cert = under.issue(t, a.cert, &key.PublicKey)
	return a
}

func (a *authority) issue(t testing.TB, template *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func leaf(usage ...asn1.ObjectIdentifier) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(0, 1, 0),
		BasicConstraintsValid: true, UnknownExtKeyUsage: usage,
	}
}

var (
	forEK = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	forAK = asn1.ObjectIdentifier{2, 23, 133, 8, 3}
)

func TestAttestationKeyCertificates(t *testing.T) {
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "ecc"))
	other := evidencetest.NewTPM(t, evidencetest.P256, m.Boot)
	root := newAuthority(t, "root", nil)
	middle := newAuthority(t, "middle", root)
	twin := newAuthority(t, "root", nil) // same name, another key
	key := m.Key.Public()
	ca := leaf(forAK)
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	critical := leaf(forAK)
	critical.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	for name, tc := range map[string]struct {
		cert  []byte
		chain [][]byte
		roots *x509.CertPool
		at    time.Time
		want  []evidence.Code
	}{
		"good":                     {middle.issue(t, leaf(forAK), key).Raw, [][]byte{middle.cert.Raw}, pool(t, root.cert.Raw), noon, nil},
		"good under its issuer":    {middle.issue(t, leaf(forAK), key).Raw, nil, pool(t, middle.cert.Raw), noon, nil},
		"good beside a broken one": {middle.issue(t, leaf(forAK), key).Raw, [][]byte{{1}, middle.cert.Raw}, pool(t, root.cert.Raw), noon, nil},
		"no CA named":              {root.issue(t, leaf(forAK), key).Raw, nil, nil, noon, []evidence.Code{"ak.untrusted"}},
		"no time":                  {root.issue(t, leaf(forAK), key).Raw, nil, pool(t, root.cert.Raw), time.Time{}, []evidence.Code{"ak.certificate-expired"}},
		"intermediate missing":     {middle.issue(t, leaf(forAK), key).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-foreign"}},
		"CA of the same name":      {twin.issue(t, leaf(forAK), key).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-foreign"}},
		"its own root sent along":  {twin.issue(t, leaf(forAK), key).Raw, [][]byte{twin.cert.Raw}, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-foreign"}},
		"not yet valid":            {root.issue(t, leaf(forAK), key).Raw, nil, pool(t, root.cert.Raw), noon.AddDate(0, -2, 0), []evidence.Code{"ak.certificate-expired"}},
		"expired":                  {root.issue(t, leaf(forAK), key).Raw, nil, pool(t, root.cert.Raw), noon.AddDate(0, 2, 0), []evidence.Code{"ak.certificate-expired"}},
		"of an endorsement key":    {root.issue(t, leaf(forEK), key).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-usage"}},
		"without a usage":          {root.issue(t, leaf(), key).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-usage"}},
		"of a CA":                  {root.issue(t, ca, key).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-usage"}},
		"of another key":           {root.issue(t, leaf(forAK), other.Key.Public()).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.key-mismatch"}},
		"another key and CA":       {twin.issue(t, leaf(forAK), other.Key.Public()).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-foreign", "ak.key-mismatch"}},
		"unknown critical part":    {root.issue(t, critical, key).Raw, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-foreign"}},
		"no certificate":           {[]byte{0x30, 0}, nil, pool(t, root.cert.Raw), noon, []evidence.Code{"ak.certificate-malformed"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := m.Bundle(nonce)
			p.AKCert, p.CACerts = tc.cert, tc.chain
			o := tpm.Options{Expect: tpm.Expect{Nonce: nonce, AKRoots: tc.roots, At: tc.at}}
			if tc.want != nil {
				refuses(t, p.JSON(t), o, tc.want...)
				return
			}
			if a := trusts(t, p.JSON(t), o); a.Evidence.Proof != tpm.ProofAKCertificate {
				t.Errorf("proof = %q", a.Evidence.Proof)
			}
		})
	}
	p := m.Bundle(flip(nonce, 0))
	p.AKCert = root.issue(t, leaf(forAK), key).Raw
	refuses(t, p.JSON(t), tpm.Options{Expect: tpm.Expect{Nonce: nonce, AKRoots: pool(t, root.cert.Raw), At: noon}}, "ak.untrusted", "quote.nonce-mismatch")
}

func TestEndorsementKeyCertificates(t *testing.T) {
	issuer, rootDER := evidencetest.CA(t)
	good := evidencetest.Recorded(t, "good-uki", "rsa")
	ek, err := tpm2.ParsePublic(good.EKPublic)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ek.Key()
	if err != nil {
		t.Fatal(err)
	}
	root := newAuthority(t, "root", nil)
	derived := func(name string) []byte { return evidencetest.File(t, "derived/"+name) }
	signing, short := *ek, *ek
	signing.Attributes |= tpm2.AttrSign
	short.Parameters.RSA.KeyBits = 1024
	movable := *ek
	movable.Attributes &^= tpm2.AttrFixedTPM
	for name, tc := range map[string]struct {
		cert  []byte
		ek    *tpm2.Public
		trust tpm.EKTrust
		want  []evidence.Code
	}{
		"good under its issuer": {good.EKCert, ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, nil},
		"good under the root":   {good.EKCert, ek, tpm.EKTrust{Roots: pool(t, rootDER), Intermediates: [][]byte{issuer}, At: noon}, nil},
		"good in the year 9000": {root.issue(t, &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: noon, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), UnknownExtKeyUsage: []asn1.ObjectIdentifier{forEK},
		}, key).Raw, ek, tpm.EKTrust{Roots: pool(t, root.cert.Raw), At: noon.AddDate(5, 0, 0)}, nil},
		"padded as in an NV index": {append(append([]byte{}, good.EKCert...), make([]byte, 300)...), ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, nil},
		"something after it":       {append(append([]byte{}, good.EKCert...), 1), ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.certificate-malformed"}},
		"nobody is trusted":        {good.EKCert, ek, tpm.EKTrust{At: noon}, []evidence.Code{"ek.certificate-foreign"}},
		"foreign CA":               {derived("ek-cert-foreign-ca.der"), ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.certificate-foreign"}},
		"another TPM's":            {derived("ek-cert-of-other-vm.der"), ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.key-mismatch"}},
		"before it was made":       {good.EKCert, ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon.AddDate(-1, 0, 0)}, []evidence.Code{"ek.certificate-expired"}},
		"no time":                  {good.EKCert, ek, tpm.EKTrust{Roots: pool(t, issuer)}, []evidence.Code{"ek.certificate-expired"}},
		"of an attestation key":    {root.issue(t, leaf(forAK), key).Raw, ek, tpm.EKTrust{Roots: pool(t, root.cert.Raw), At: noon}, []evidence.Code{"ek.certificate-usage"}},
		"none":                     {nil, ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.certificate-malformed"}},
		"broken":                   {good.EKCert[:100], ek, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.certificate-malformed"}},
		"key that signs":           {good.EKCert, &signing, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.attributes"}},
		"key that can leave":       {good.EKCert, &movable, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.attributes"}},
		"short key":                {good.EKCert, &short, tpm.EKTrust{Roots: pool(t, issuer), At: noon}, []evidence.Code{"ek.key-mismatch", "ek.weak"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := codesOf(tpm.VerifyEKCertificate(tc.cert, tc.ek, tc.trust))
			if len(got) != len(tc.want) || strings.Join(text(got), " ") != strings.Join(text(tc.want), " ") {
				t.Errorf("VerifyEKCertificate = %v, want %v", got, tc.want)
			}
		})
	}
}

func text(codes []evidence.Code) []string {
	out := make([]string, len(codes))
	for i, c := range codes {
		out[i] = string(c)
	}
	return out
}

func TestEndorsementKeysInEvidenceAreChecked(t *testing.T) {
	issuer, _ := evidencetest.CA(t)
	good := evidencetest.Recorded(t, "good-uki", "rsa")
	o := registered(t, good)
	o.EKRoots, o.At = pool(t, issuer), noon
	trusts(t, good.JSON(t), o)
	alone := good.Clone()
	alone.EKCert = nil
	if a := trusts(t, alone.JSON(t), o); !strings.Contains(strings.Join(a.NotChecked, "\n"), "the endorsement key: it has no certificate") {
		t.Errorf("not checked: %v", a.NotChecked)
	}
	keyless := good.Clone()
	keyless.EKPublic = nil
	if a := trusts(t, keyless.JSON(t), o); !strings.Contains(strings.Join(a.NotChecked, "\n"), "the key itself is not in the evidence") {
		t.Errorf("not checked: %v", a.NotChecked)
	}
	wrong := good.Clone()
	wrong.EKPublic = good.AKPublic
	refuses(t, wrong.JSON(t), o, "ek.attributes", "ek.key-mismatch")
	o.EKRoots = nil
	refuses(t, wrong.JSON(t), o, "ek.attributes", "ek.key-mismatch")
	broken := good.Clone()
	broken.EKCert = []byte{0x30, 0}
	refuses(t, broken.JSON(t), o, "ek.certificate-malformed")
}
