package token

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
)

const (
	issuerURL = "https://attest.example.org"
	audience  = "https://vault.example.org"
	nonce     = "bm9uY2Utb2YtdGhlLXRlc3Q"
)

// noon is when the tests happen.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rsaKey is one RSA key for all tests, which would else spend their time making them.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// selfSigned returns the DER of a certificate of key.
func selfSigned(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: issuerURL},
		NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// mustKey makes a signing key that is good from an hour before noon to a day after.
func mustKey(tb testing.TB, signer crypto.Signer, id string) *Key {
	tb.Helper()
	cfg := KeyConfig{ID: id, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(24 * time.Hour), Rand: rand.Reader}
	if _, ok := signer.(*rsa.PrivateKey); ok {
		cfg.Certificates = [][]byte{selfSigned(tb, signer)}
	}
	k, err := NewKey(signer, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// mustIssuer issues with the keys, at issuerURL.
func mustIssuer(tb testing.TB, keys ...*Key) *Issuer {
	tb.Helper()
	set, err := NewKeySet(9*time.Hour, keys...)
	if err != nil {
		tb.Fatal(err)
	}
	i, err := NewIssuer(IssuerConfig{URL: issuerURL, Rand: rand.Reader, Build: "assay test"}, set)
	if err != nil {
		tb.Fatal(err)
	}
	return i
}

// published returns the keys as a relying party gets them.
func published(tb testing.TB, i *Issuer) *PublicKeys {
	tb.Helper()
	jwks, err := i.Keys().JWKS(noon)
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := ParseKeys(i.URL(), jwks)
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// goodConfig expects what goodResult states.
func goodConfig() VerifierConfig {
	return VerifierConfig{
		Issuer: issuerURL, Algorithms: []Alg{ES256}, Audience: audience, Nonce: nonce, MaxAge: 10 * time.Minute,
	}
}

func mustVerifier(tb testing.TB, cfg VerifierConfig, keys KeySource) *Verifier {
	tb.Helper()
	v, err := NewVerifier(cfg, keys)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// goodResult is that of a machine in order, with as many claims as a real one.
func goodResult() Result {
	claims := evidence.Claims{}
	for _, name := range []string{"secureBoot", "testSigningOff", "kernelDebugOff", "codeIntegrity", "hvci", "vbs", "elam"} {
		claims.Set(name, evidence.Bool(true), 7)
	}
	for _, name := range []string{"bootLoader", "kernel", "initrd"} {
		claims.Set(name, evidence.Text("4f2a1be5f2d40f7d3c6f0a9b1c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d"), 4)
	}
	claims.Set("commandLine", evidence.Text("BOOT_IMAGE=/vmlinuz root=\"/dev/sda1\" ro"), 8)
	claims.Unknown("bitLocker", "log.events-missing", 11)
	return Result{
		Verdict: evidence.Trusted, Type: "tpm", Claims: claims,
		Issued:     []Issued{{"level", "high"}, {"group", int64(1)}, {"group", int64(2)}, {"checked", true}},
		Policy:     Policy{Name: "default", Version: 3, Digest: PolicyDigest("text"), AzureHash: AzurePolicyHash("text")},
		NotChecked: []string{"IMA: no list was sent"},
		Attester:   "000b0000000000000000000000000000000000000000000000000000000000000000", Machine: "web-1",
		Appraisal: "01JD9Z3M3R5V8X7Y6W4T2S1Q0P", Baseline: "web-1 gold", Nonce: nonce, Audience: audience,
	}
}

func mustIssue(tb testing.TB, i *Issuer, p Profile, r Result) Token {
	tb.Helper()
	token, err := i.Issue(noon, p, r)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// ordinarySigner hides a private key behind crypto.Signer, as a device does.
type ordinarySigner struct{ crypto.Signer }
