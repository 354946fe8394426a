package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func days(n int) Validity {
	return Validity{Serial: big.NewInt(4711), NotBefore: noon, NotAfter: noon.AddDate(0, 0, n)}
}

func mustGenerate(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustCA(tb testing.TB, p Purpose) *CA {
	tb.Helper()
	ca, err := NewCA(rand.Reader, mustGenerate(tb), p, "Assay test", days(3650))
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

func mustParse(tb testing.TB, der []byte, err error) *x509.Certificate {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func pool(tb testing.TB, ca *CA) *x509.CertPool {
	tb.Helper()
	p := x509.NewCertPool()
	p.AddCert(mustParse(tb, ca.Certificate(), nil))
	return p
}

func TestTokenSigningCertificateNamesTheIssuer(t *testing.T) {
	const issuer = "https://attest.example.org"
	key := mustGenerate(t)
	der, err := TokenSigning(rand.Reader, key, issuer, days(365))
	cert := mustParse(t, der, err)
	if cert.Subject.CommonName != issuer || cert.Issuer.CommonName != issuer || cert.IsCA || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("subject %q, issuer %q, CA %v", cert.Subject, cert.Issuer, cert.IsCA)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.URIs) != 1 || cert.URIs[0].String() != issuer {
		t.Errorf("key usage %v, URIs %v", cert.KeyUsage, cert.URIs)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		t.Error(err)
	}
	if _, err := TokenSigning(rand.Reader, key, "attest", days(365)); err == nil {
		t.Error("an issuer that is no URL is certified")
	}
}

func TestServerCertificateServes(t *testing.T) {
	ca := mustCA(t, PurposeTLS)
	key := mustGenerate(t)
	der, err := ca.Server(rand.Reader, &key.PublicKey, []string{"localhost", "127.0.0.1", "::1", "Attest.example.org"}, days(90))
	cert := mustParse(t, der, err)
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "attest.example.org"} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool(t, ca), DNSName: host, CurrentTime: noon.Add(time.Hour)}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		conn := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		conn.Write([]byte("x")) //nolint:errcheck // the client tells
	}()
	conn := tls.Client(client, &tls.Config{RootCAs: pool(t, ca), ServerName: "localhost", Time: func() time.Time { return noon.Add(time.Hour) }})
	if err := conn.Handshake(); err != nil {
		t.Errorf("handshake: %v", err)
	}
}

func TestAKCertificateFollowsTheProfile(t *testing.T) {
	ca := mustCA(t, PurposeAK)
	key := mustGenerate(t)
	der, err := ca.AK(rand.Reader, AK{Public: key.Public(), Machine: "web-1", TPM: TPM{"id:494E5443", "Model", "id:00020001"}}, days(365))
	cert := mustParse(t, der, err)
	opts := x509.VerifyOptions{Roots: pool(t, ca), CurrentTime: noon.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := cert.Verify(opts); err != nil {
		t.Error(err)
	}
	if len(cert.UnknownExtKeyUsage) != 1 || !cert.UnknownExtKeyUsage[0].Equal(oidAK()) || len(cert.ExtKeyUsage) != 0 {
		t.Errorf("extended key usage %v %v", cert.ExtKeyUsage, cert.UnknownExtKeyUsage)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature || cert.IsCA || !cert.BasicConstraintsValid || cert.Subject.CommonName != "web-1" {
		t.Errorf("key usage %v, CA %v, subject %v", cert.KeyUsage, cert.IsCA, cert.Subject)
	}
	if !bytes.Equal(cert.AuthorityKeyId, mustParse(t, ca.Certificate(), nil).SubjectKeyId) {
		t.Error("authority key id is not that of the authority")
	}
	for _, want := range []string{"id:494E5443", "Model", "id:00020001"} {
		if !bytes.Contains(cert.Raw, []byte(want)) {
			t.Errorf("%q is not in the certificate", want)
		}
	}
	// It must not pass for a server's.
	opts.KeyUsages = nil
	if _, err := cert.Verify(opts); err == nil {
		t.Error("an attestation key's certificate is good for TLS")
	}
	bare, err := ca.AK(rand.Reader, AK{Public: key.Public(), Machine: "web-1"}, days(365))
	if got := mustParse(t, bare, err); len(got.Extensions) != len(cert.Extensions)-1 {
		t.Errorf("%d extensions without TPM attributes, %d with", len(got.Extensions), len(cert.Extensions))
	}
}

func TestAuthorityCertifiesItsPurposeOnly(t *testing.T) {
	key := mustGenerate(t)
	if _, err := mustCA(t, PurposeAK).Server(rand.Reader, &key.PublicKey, []string{"localhost"}, days(1)); err == nil {
		t.Error("an authority for attestation keys certifies a server")
	}
	if _, err := mustCA(t, PurposeTLS).AK(rand.Reader, AK{Public: key.Public(), Machine: "m"}, days(1)); err == nil {
		t.Error("an authority for servers certifies an attestation key")
	}
	if _, err := new(CA).Server(rand.Reader, &key.PublicKey, []string{"localhost"}, days(1)); err == nil {
		t.Error("the zero authority certifies")
	}
	if _, err := NewCA(rand.Reader, key, 0, "none", days(1)); err == nil {
		t.Error("an authority without a purpose is made")
	}
}

func TestLoadCATakesOnlyWhatBelongsTogether(t *testing.T) {
	key := mustGenerate(t)
	ca, err := NewCA(rand.Reader, key, PurposeTLS, "Assay test", days(3650))
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(ca.Certificate(), key, PurposeTLS)
	if err != nil || !cmp.Equal(again.Certificate(), ca.Certificate()) || !again.NotAfter().Equal(noon.AddDate(0, 0, 3650)) {
		t.Fatalf("LoadCA: %v", err)
	}
	leaf, err := ca.Server(rand.Reader, &key.PublicKey, []string{"localhost"}, days(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (*CA, error){
		"another key":     func() (*CA, error) { return LoadCA(ca.Certificate(), mustGenerate(t), PurposeTLS) },
		"no key":          func() (*CA, error) { return LoadCA(ca.Certificate(), nil, PurposeTLS) },
		"another purpose": func() (*CA, error) { return LoadCA(ca.Certificate(), key, PurposeAK) },
		"no authority":    func() (*CA, error) { return LoadCA(leaf, key, PurposeTLS) },
		"no certificate":  func() (*CA, error) { return LoadCA([]byte("x"), key, PurposeTLS) },
	} {
		if _, err := load(); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestCertificatesKeepTheirLimits(t *testing.T) {
	tlsCA, akCA, key := mustCA(t, PurposeTLS), mustCA(t, PurposeAK), mustGenerate(t)
	server := func(v Validity, hosts ...string) error {
		_, err := tlsCA.Server(rand.Reader, &key.PublicKey, hosts, v)
		return err
	}
	ak := func(ak AK, v Validity) error { _, err := akCA.AK(rand.Reader, ak, v); return err }
	with := func(change func(*Validity)) Validity { v := days(90); change(&v); return v }
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var none crypto.PublicKey
	good := AK{Public: key.Public(), Machine: "m"}
	for name, err := range map[string]error{
		"no serial":            server(with(func(v *Validity) { v.Serial = nil }), "localhost"),
		"serial 0":             server(with(func(v *Validity) { v.Serial = big.NewInt(0) }), "localhost"),
		"serial too long":      server(with(func(v *Validity) { v.Serial = new(big.Int).Lsh(big.NewInt(1), 160) }), "localhost"),
		"ends at once":         server(with(func(v *Validity) { v.NotAfter = v.NotBefore }), "localhost"),
		"server lives long":    server(days(399), "localhost"),
		"outlives authority":   ak(good, with(func(v *Validity) { v.NotAfter = noon.AddDate(11, 0, 0) })),
		"before authority":     ak(good, with(func(v *Validity) { v.NotBefore = noon.Add(-time.Second) })),
		"lives for ever":       ak(good, days(40*365)),
		"no host":              server(days(90)),
		"too many hosts":       server(days(90), make([]string, 65)...),
		"a pattern":            server(days(90), "*.example.org"),
		"a blank host":         server(days(90), ""),
		"an address with zone": server(days(90), "fe80::1%eth0"),
		"a URL":                server(days(90), "https://localhost"),
		"no machine":           ak(AK{Public: key.Public()}, days(90)),
		"long machine":         ak(AK{Public: key.Public(), Machine: strings.Repeat("m", 65)}, days(90)),
		"no UTF-8":             ak(AK{Public: key.Public(), Machine: "\xff"}, days(90)),
		"long attribute":       ak(AK{Public: key.Public(), Machine: "m", TPM: TPM{Model: strings.Repeat("m", 65)}}, days(90)),
		"small curve":          ak(AK{Public: small.Public(), Machine: "m"}, days(90)),
		"other key type":       ak(AK{Public: edwards, Machine: "m"}, days(90)),
		"no key":               ak(AK{Public: none, Machine: "m"}, days(90)),
	} {
		if err == nil {
			t.Errorf("%s: certified", name)
		}
	}
	if err := ak(good, days(90)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestSerialsAreLongAndPositive(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s, err := NewSerial(rand.Reader)
		if err != nil || s.Sign() <= 0 || s.BitLen() != maxSerial || seen[s.String()] {
			t.Fatalf("NewSerial() = %v, %v", s, err)
		}
		seen[s.String()] = true
	}
	if _, err := NewSerial(strings.NewReader("short")); err == nil {
		t.Error("a serial is made of too little")
	}
}
