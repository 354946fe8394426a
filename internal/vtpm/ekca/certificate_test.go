package ekca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

const (
	testURL = "http://ca.example.test/vtpm"
	testCPS = "http://ca.example.test/cps"
)

func served() AuthorityOptions { return AuthorityOptions{URL: testURL, CPS: testCPS} }

// tree prints DER as nested lists of tags and contents, so that a test can tell
// every byte of a structure.
func tree(tb testing.TB, der []byte) string {
	tb.Helper()
	var out bytes.Buffer
	for rest := der; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			tb.Fatalf("%x: %v", der, err)
		}
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		switch {
		case v.IsCompound:
			fmt.Fprintf(&out, "%s(%s)", tagName(v), tree(tb, v.Bytes))
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOID:
			var oid x509.OID // an authority's own has an arc that is too long for encoding/asn1
			if err := oid.UnmarshalBinary(v.Bytes); err != nil {
				tb.Fatal(err)
			}
			out.WriteString(oid.String())
		case v.Class == asn1.ClassUniversal && (v.Tag == asn1.TagUTF8String || v.Tag == asn1.TagIA5String || v.Tag == asn1.TagGeneralizedTime):
			fmt.Fprintf(&out, "%s%q", tagName(v), v.Bytes)
		default:
			fmt.Fprintf(&out, "%s%x", tagName(v), v.Bytes)
		}
	}
	return out.String()
}

func tagName(v asn1.RawValue) string {
	if v.Class == asn1.ClassContextSpecific {
		return fmt.Sprintf("[%d]", v.Tag)
	}
	name, ok := map[int]string{
		asn1.TagBoolean: "bool", asn1.TagInteger: "int", asn1.TagBitString: "bits", asn1.TagOctetString: "octets", asn1.TagEnum: "enum",
		asn1.TagUTF8String: "utf8", asn1.TagIA5String: "ia5", asn1.TagGeneralizedTime: "time", asn1.TagSequence: "", asn1.TagSet: "set",
	}[v.Tag]
	if !ok {
		return fmt.Sprintf("tag%d:", v.Tag)
	}
	return name
}

// extension returns the content of an extension, which must be there once.
func extension(t *testing.T, c *x509.Certificate, id asn1.ObjectIdentifier, critical bool) []byte {
	t.Helper()
	var found [][]byte
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			found = append(found, e.Value)
			if e.Critical != critical {
				t.Errorf("extension %v: critical is %v", id, e.Critical)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("extension %v stands %d times", id, len(found))
	}
	return found[0]
}

const wantDevice = "(set((2.23.133.2.1 utf8\"id:58595A20\")) set((2.23.133.2.2 utf8\"SW Assay\")) set((2.23.133.2.3 utf8\"id:00010000\")))"

func TestEndorsementCertificatesFollowTheProfile(t *testing.T) {
	ca := newAuthority(t, served())
	got := mustManufacture(t, newEngine(t), ca, all())
	usage := map[Kind]x509.KeyUsage{RSA2048: x509.KeyUsageKeyEncipherment, P256: x509.KeyUsageKeyAgreement, P384: x509.KeyUsageKeyAgreement, P521: x509.KeyUsageKeyAgreement}
	for _, k := range got.Keys {
		if !k.Kind.Endorsement() {
			continue
		}
		c := mustParse(t, k.Certificate)
		if c.Version != 3 || c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > 160 || len(c.Subject.Names) != 0 {
			t.Errorf("%s: version %d, serial number %x, subject %q", k.Kind, c.Version, c.SerialNumber, c.Subject)
		}
		if !c.NotAfter.Equal(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)) || !c.NotBefore.Equal(noon.Add(-10*time.Minute)) {
			t.Errorf("%s: valid from %v to %v", k.Kind, c.NotBefore, c.NotAfter)
		}
		if !bytes.Contains(c.RawTBSCertificate, []byte("\x18\x0f99991231235959Z")) {
			t.Errorf("%s: the end is no GeneralizedTime 99991231235959Z", k.Kind)
		}
		if c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != usage[k.Kind] {
			t.Errorf("%s: CA %v, key usage %b", k.Kind, c.IsCA, c.KeyUsage)
		}
		extension(t, c, oidKeyUsage, true)
		if s := tree(t, extension(t, c, oidExtKeyUsage, false)); s != "(2.23.133.8.1)" {
			t.Errorf("%s: extended key usage %s", k.Kind, s)
		}
		if s := tree(t, extension(t, c, oidSubjectAltName, true)); s != "([4]("+wantDevice+"))" {
			t.Errorf("%s: subject alternative name %s", k.Kind, s)
		}
		want := `((2.23.133.2.16 set((utf8"2.0" int00 int00b7))) (2.23.133.2.18 set((boolff [0]02 [1]01 [2]01))))`
		if s := tree(t, extension(t, c, oidSubjectDirectory, false)); s != want {
			t.Errorf("%s: subject directory attributes\n got %s\nwant %s", k.Kind, s, want)
		}
		want = fmt.Sprintf(`((%s ((1.3.6.1.5.5.7.2.1 ia5%q) (1.3.6.1.5.5.7.2.2 (utf8"TCG Trusted Platform Endorsement")))))`, ca.file.Policy, testCPS)
		if s := tree(t, extension(t, c, oidPolicies, false)); s != want {
			t.Errorf("%s: policies\n got %s\nwant %s", k.Kind, s, want)
		}
		if !bytes.Equal(c.AuthorityKeyId, ca.issuing.cert.SubjectKeyId) || len(c.AuthorityKeyId) == 0 {
			t.Errorf("%s: authority key id %x", k.Kind, c.AuthorityKeyId)
		}
		if !cmp.Equal(c.IssuingCertificateURL, []string{testURL + "/ca.cer"}) || !cmp.Equal(c.CRLDistributionPoints, []string{testURL + "/ca.crl"}) {
			t.Errorf("%s: issuer at %v, list at %v", k.Kind, c.IssuingCertificateURL, c.CRLDistributionPoints)
		}
	}
}

func TestCertificatesSatisfyVerifiers(t *testing.T) {
	ca := newAuthority(t, served())
	got := mustManufacture(t, newEngine(t), ca, all())
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	for _, k := range got.Keys {
		trust := tpm.EKTrust{Roots: roots, Intermediates: got.Chain, At: noon}
		if k.Kind.Endorsement() {
			if err := tpm.VerifyEKCertificate(k.Certificate, &k.Public, trust); err != nil {
				t.Errorf("%s: enrolment refuses it: %v", k.Kind, err)
			}
			trust.Intermediates = nil
			if err := tpm.VerifyEKCertificate(k.Certificate, &k.Public, trust); err == nil {
				t.Errorf("%s: it follows from the root alone", k.Kind)
			}
		}
		c := mustParse(t, k.Certificate)
		c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidSubjectAltName.Equal)
		pool := x509.NewCertPool()
		pool.AddCert(ca.issuing.cert)
		opts := x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: noon, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		if _, err := c.Verify(opts); err != nil {
			t.Errorf("%s: %v", k.Kind, err)
		}
	}
}

func TestDeviceCertificatesNameTheModule(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	got := mustManufacture(t, newEngine(t), ca, all())
	ek := mustParse(t, got.Keys[0].Certificate)
	serial := fmt.Sprintf("XYZ:%x:%x", ca.issuing.cert.SubjectKeyId, ek.SerialNumber)
	usage := map[Kind]string{
		IAK:    "(2.23.133.8.3 2.23.133.11.1.1 2.23.133.11.1.3)",
		IDevID: "(2.23.133.11.1.1 2.23.133.11.1.2)",
	}
	for _, k := range got.Keys {
		if k.Kind.Endorsement() {
			continue
		}
		c := mustParse(t, k.Certificate)
		if c.KeyUsage != x509.KeyUsageDigitalSignature || c.Subject.SerialNumber != testPlatform().Serial || c.NotAfter.Year() != 9999 {
			t.Errorf("%s: key usage %b, subject %q, to %v", k.Kind, c.KeyUsage, c.Subject, c.NotAfter)
		}
		if s := tree(t, extension(t, c, oidExtKeyUsage, false)); s != usage[k.Kind] {
			t.Errorf("%s: extended key usage %s", k.Kind, s)
		}
		want := fmt.Sprintf("([0](1.3.6.1.5.5.7.8.4 [0]((2.23.133.1.2 octets%x))))", serial)
		if s := tree(t, extension(t, c, oidSubjectAltName, false)); s != want {
			t.Errorf("%s: subject alternative name\n got %s\nwant %s", k.Kind, s, want)
		}
		if restricted := k.Public.Attributes.Has(tpm2.AttrRestricted); restricted != (k.Kind == IAK) {
			t.Errorf("%s: restricted is %v", k.Kind, restricted)
		}
	}
}

func TestPlatformCertificateIsAnAttributeCertificate(t *testing.T) {
	ca := newAuthority(t, served())
	got := mustManufacture(t, newEngine(t), ca, all())
	ek := mustParse(t, got.Keys[0].Certificate)
	var ac struct {
		Info      asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if rest, err := asn1.Unmarshal(got.Platform, &ac); err != nil || len(rest) != 0 {
		t.Fatalf("%v, %d bytes more", err, len(rest))
	}
	digest := sha256.Sum256(ac.Info.FullBytes)
	if !ecdsa.VerifyASN1(ca.platform.cert.PublicKey.(*ecdsa.PublicKey), digest[:], ac.Signature.Bytes) {
		t.Error("signature does not verify")
	}
	if ca.platform.cert.IsCA || bytes.Equal(ca.platform.cert.RawSubject, ca.issuing.cert.RawSubject) {
		t.Error("RFC 5755, 4.5: its issuer is an authority")
	}
	parts := elementsOf(t, ac.Info.FullBytes)
	issuerName := func(raw []byte) string { return "([4](" + tree(t, raw) + "))" }
	serial := new(big.Int).SetBytes(ek.SerialNumber.Bytes())
	p := testPlatform()
	want := []string{
		"int01",
		"([0](" + issuerName(ek.RawIssuer) + " " + tree(t, derBig(serial)) + "))",
		"[0](" + issuerName(ca.platform.cert.RawSubject) + ")",
		"(1.2.840.10045.4.3.2)",
	}
	for i, w := range want {
		if s := tree(t, parts[i]); s != w {
			t.Errorf("part %d\n got %s\nwant %s", i, s, w)
		}
	}
	if s := tree(t, parts[5]); s != `(time"20261122115000Z" time"99991231235959Z")` {
		t.Errorf("validity %s", s)
	}
	wantAttributes := "((2.23.133.2.25 set((2.23.133.8.2))) (2.23.133.2.23 set((int01 int01 int13))) " +
		"(2.23.133.2.17 set(((int01 int06 int34) octets00000001))) (2.23.133.2.19 set(([2]05))))"
	if s := tree(t, parts[6]); s != wantAttributes {
		t.Errorf("attributes\n got %s\nwant %s", s, wantAttributes)
	}
	var ids []string
	for _, e := range elementsOf(t, parts[7]) {
		fields := elementsOf(t, e)
		if len(fields) != 2 {
			t.Errorf("extension %s is critical", tree(t, fields[0]))
		}
		ids = append(ids, tree(t, fields[0]))
		if tree(t, fields[0]) == "2.5.29.17" {
			w := fmt.Sprintf("(set((2.23.133.5.1.1 utf8%q)) set((2.23.133.5.1.4 utf8%q)) set((2.23.133.5.1.5 utf8%q)) set((2.23.133.5.1.6 utf8%q)))", p.Manufacturer, p.Model, p.Version, p.Serial)
			if s := tree(t, content(t, fields[1])); s != "([4]("+w+"))" {
				t.Errorf("subject alternative name\n got %s\nwant %s", s, w)
			}
		}
	}
	if !cmp.Equal(ids, []string{"2.5.29.32", "2.5.29.17", "2.5.29.35", "1.3.6.1.5.5.7.1.1", "2.5.29.31"}) {
		t.Errorf("extensions %v", ids)
	}
	if !holds(got.Platform, ek) || holds(got.Platform, mustParse(t, got.Keys[1].Certificate)) {
		t.Error("its holder is not the first endorsement key certificate alone")
	}
}

func elementsOf(t *testing.T, der []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for rest := content(t, der); len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v.FullBytes)
	}
	return out
}

func content(t *testing.T, der []byte) []byte {
	t.Helper()
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(der, &v); err != nil {
		t.Fatal(err)
	}
	return v.Bytes
}

func TestDERHasShortestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 255, 256, 65535, 65536} {
		b := der(tagOctetString, make([]byte, n))
		var v asn1.RawValue
		if rest, err := asn1.Unmarshal(b, &v); err != nil || len(rest) != 0 || len(v.Bytes) != n {
			t.Errorf("%d bytes: %v, %d left, %d read", n, err, len(rest), len(v.Bytes))
		}
	}
	for _, n := range []int64{0, 1, 127, 128, 255, 256, 1 << 40} {
		var got int64
		if rest, err := asn1.Unmarshal(derInt(n), &got); err != nil || len(rest) != 0 || got != n {
			t.Errorf("%d reads %d, %v", n, got, err)
		}
	}
}

// foreign is an authority outside of this package.
type foreign struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newForeign makes an authority, below another or as a root.
func newForeign(tb testing.TB, name string, above *foreign, from, to time.Time) *foreign {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := authorityTemplate(name, from, to.Sub(from))
	t.SerialNumber = big.NewInt(int64(len(name)) + 7)
	by := &foreign{t, key}
	if above != nil {
		by = above
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key.Public(), by.key)
	if err != nil {
		tb.Fatal(err)
	}
	return &foreign{mustParse(tb, der), key}
}
