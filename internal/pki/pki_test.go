package pki

import (
	"bytes"
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

func mustCA(tb testing.TB) *CA {
	tb.Helper()
	ca, err := NewCA(rand.Reader, mustGenerate(tb), "Assay test", days(3650))
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
	ca := mustCA(t)
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

func TestAuthorityIsForServersOnly(t *testing.T) {
	key := mustGenerate(t)
	ca := mustCA(t)
	der, err := ca.Server(rand.Reader, &key.PublicKey, []string{"localhost"}, days(1))
	cert := mustParse(t, der, err)
	if !bytes.Equal(cert.AuthorityKeyId, mustParse(t, ca.Certificate(), nil).SubjectKeyId) || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("authority key id %x, CA %v, key usage %v", cert.AuthorityKeyId, cert.IsCA, cert.KeyUsage)
	}
	opts := x509.VerifyOptions{Roots: pool(t, ca), CurrentTime: noon.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := cert.Verify(opts); err == nil {
		t.Error("a server's certificate is good for a client")
	}
	if _, err := new(CA).Server(rand.Reader, &key.PublicKey, []string{"localhost"}, days(1)); err == nil {
		t.Error("the zero authority certifies")
	}
}

func TestLoadCATakesOnlyWhatBelongsTogether(t *testing.T) {
	key := mustGenerate(t)
	ca, err := NewCA(rand.Reader, key, "Assay test", days(3650))
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(ca.Certificate(), key)
	if err != nil || !cmp.Equal(again.Certificate(), ca.Certificate()) || !again.NotAfter().Equal(noon.AddDate(0, 0, 3650)) {
		t.Fatalf("LoadCA: %v", err)
	}
	leaf, err := ca.Server(rand.Reader, &key.PublicKey, []string{"localhost"}, days(1))
	if err != nil {
		t.Fatal(err)
	}
	template := mustParse(t, ca.Certificate(), nil)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	foreign, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (*CA, error){
		"another key":     func() (*CA, error) { return LoadCA(ca.Certificate(), mustGenerate(t)) },
		"no key":          func() (*CA, error) { return LoadCA(ca.Certificate(), nil) },
		"another purpose": func() (*CA, error) { return LoadCA(foreign, key) },
		"no authority":    func() (*CA, error) { return LoadCA(leaf, key) },
		"no certificate":  func() (*CA, error) { return LoadCA([]byte("x"), key) },
	} {
		if _, err := load(); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestCertificatesKeepTheirLimits(t *testing.T) {
	key := mustGenerate(t)
	tlsCA, err := NewCA(rand.Reader, mustGenerate(t), "Assay test", days(100))
	if err != nil {
		t.Fatal(err)
	}
	server := func(v Validity, hosts ...string) error {
		_, err := tlsCA.Server(rand.Reader, &key.PublicKey, hosts, v)
		return err
	}
	of := func(public *ecdsa.PublicKey) error {
		_, err := tlsCA.Server(rand.Reader, public, []string{"localhost"}, days(90))
		return err
	}
	newCA := func(v Validity) error { _, err := NewCA(rand.Reader, key, "Assay test", v); return err }
	with := func(change func(*Validity)) Validity { v := days(90); change(&v); return v }
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"no serial":            server(with(func(v *Validity) { v.Serial = nil }), "localhost"),
		"serial 0":             server(with(func(v *Validity) { v.Serial = big.NewInt(0) }), "localhost"),
		"serial too long":      server(with(func(v *Validity) { v.Serial = new(big.Int).Lsh(big.NewInt(1), 160) }), "localhost"),
		"ends at once":         server(with(func(v *Validity) { v.NotAfter = v.NotBefore }), "localhost"),
		"server lives long":    server(days(399), "localhost"),
		"outlives authority":   server(days(101), "localhost"),
		"before authority":     server(with(func(v *Validity) { v.NotBefore = noon.Add(-time.Second) }), "localhost"),
		"lives for ever":       newCA(days(40 * 365)),
		"no host":              server(days(90)),
		"too many hosts":       server(days(90), make([]string, 65)...),
		"a pattern":            server(days(90), "*.example.org"),
		"a blank host":         server(days(90), ""),
		"an address with zone": server(days(90), "fe80::1%eth0"),
		"a URL":                server(days(90), "https://localhost"),
		"small curve":          of(&small.PublicKey),
		"other key type":       checkKey(edwards),
		"no key":               checkKey(nil),
	} {
		if err == nil {
			t.Errorf("%s: certified", name)
		}
	}
	if err := of(&key.PublicKey); err != nil {
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
