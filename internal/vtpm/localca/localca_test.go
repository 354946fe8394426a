package localca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/pkcs8"
)

func noon() time.Time { return time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC) }

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// authorityOf is an issuer with a certificate made of a template.
func authorityOf(t testing.TB, key crypto.Signer, c *x509.Certificate) *Issuer {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Issuer{Certificate: cert, Key: key, Random: rand.Reader, Now: noon}
}

func issuer(t testing.TB) *Issuer {
	t.Helper()
	return authorityOf(t, ecKey(t), &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: forever(),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func request(key crypto.PublicKey) *Request {
	return &Request{
		Key: key, Subject: pkix.Name{CommonName: "vm1"}, Serial: big.NewInt(7),
		Manufacturer: "id:41", Model: "m", Version: "id:1", Specification: Specification{"2.0", 0, 146},
		PlatformManufacturer: "QEMU", PlatformModel: "vm", PlatformVersion: "1",
	}
}

func TestKeyUsageIsWhatTheKeyDoes(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	by := issuer(t)
	for name, tc := range map[string]struct {
		key              crypto.PublicKey
		signs, signsOnly bool
		want             x509.KeyUsage
	}{
		"RSA":                      {rsaKey.Public(), false, false, x509.KeyUsageKeyEncipherment},
		"RSA, signs":               {rsaKey.Public(), true, true, x509.KeyUsageDigitalSignature},
		"RSA, signs and decrypts":  {rsaKey.Public(), true, false, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment},
		"P-256":                    {ecKey(t).Public(), false, false, x509.KeyUsageKeyAgreement},
		"P-256, signs":             {ecKey(t).Public(), true, true, x509.KeyUsageDigitalSignature},
		"P-256, signs and agrees ": {ecKey(t).Public(), true, false, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(tc.key)
			r.Signs, r.SignsOnly = tc.signs, tc.signsOnly
			cert := mustIssue(t, by, r)
			if cert.KeyUsage != tc.want {
				t.Errorf("key usage %b, want %b", cert.KeyUsage, tc.want)
			}
		})
	}
}

func mustIssue(t testing.TB, by *Issuer, r *Request) *x509.Certificate {
	t.Helper()
	der, err := by.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(by.Certificate); err != nil {
		t.Error(err)
	}
	return cert
}

func TestCertificateNamesTheDevice(t *testing.T) {
	by, key := issuer(t), ecKey(t)
	cert := mustIssue(t, by, request(key.Public()))
	if cert.IsCA || !cert.BasicConstraintsValid || cert.Subject.CommonName != "vm1" || cert.SerialNumber.Int64() != 7 ||
		!cert.NotBefore.Equal(noon()) || !cert.NotAfter.Equal(forever()) || !bytes.Equal(cert.AuthorityKeyId, by.Certificate.SubjectKeyId) {
		t.Errorf("certificate: %+v", cert)
	}
	if len(cert.UnknownExtKeyUsage) != 1 || !cert.UnknownExtKeyUsage[0].Equal(oidEKUsage) {
		t.Errorf("extended key usage %v, want tcg-kp-EKCertificate", cert.UnknownExtKeyUsage)
	}
	// The value of SubjectDirectoryAttributes that swtpm's suite expects.
	const specification = "3019301706056781050210310e300c0c03322e3002010002020092"
	if got := hex.EncodeToString(extension(cert, oidSubjectDirectory)); got != specification {
		t.Errorf("SubjectDirectoryAttributes %s, want %s", got, specification)
	}
	const name = "3035a4333031" + "3110300e" + "060567810502010c0569643a3431" + // manufacturer, UTF8String
		"310c300a" + "060567810502020c016d" + "310f300d" + "060567810502030c0469643a31" // model, version
	if got := hex.EncodeToString(extension(cert, oidSubjectAltName)); got != name {
		t.Errorf("SubjectAltName %s, want %s", got, name)
	}
	r := request(key.Public())
	r.Kind = Platform
	cert = mustIssue(t, by, r)
	if len(cert.UnknownExtKeyUsage) != 1 || !cert.UnknownExtKeyUsage[0].Equal(oidPlatformUsage) || extension(cert, oidSubjectDirectory) != nil {
		t.Errorf("platform: extended key usage %v, want tcg-kp-PlatformCertificate, and no specification", cert.UnknownExtKeyUsage)
	}
}

func extension(c *x509.Certificate, id asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Value
		}
	}
	return nil
}

func TestIssueRefusesWhatIsNoAuthority(t *testing.T) {
	good := issuer(t)
	signing := authorityOf(t, good.Key, &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: forever(), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCRLSign,
	})
	leaf := authorityOf(t, good.Key, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: forever(), BasicConstraintsValid: true})
	other := *good
	other.Key = ecKey(t)
	for name, tc := range map[string]struct {
		by   *Issuer
		want string
	}{
		"another's certificate":           {&other, "not that of the issuer's certificate"},
		"a certificate of no authority":   {leaf, "none of an authority"},
		"one that may not sign keys'":     {signing, "none of an authority"},
		"a serial number of 0":            {good, "serial number 0"},
		"a serial number of 21 bytes":     {good, "serial number 1461501637330902918203684832716283019655932542976"},
		"a serial number that is missing": {good, "serial number <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(ecKey(t).Public())
			switch {
			case strings.HasSuffix(name, "of 0"):
				r.Serial = big.NewInt(0)
			case strings.HasSuffix(name, "21 bytes"):
				r.Serial = new(big.Int).Add(MaxSerial(), big.NewInt(1))
			case strings.HasSuffix(name, "missing"):
				r.Serial = nil
			}
			if _, err := tc.by.Issue(r); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Issue = %v, want %q", err, tc.want)
			}
		})
	}
	r := request(ecKey(t).Public())
	r.Serial = MaxSerial()
	if cert := mustIssue(t, good, r); cert.SerialNumber.Cmp(MaxSerial()) != 0 {
		t.Errorf("serial number %v", cert.SerialNumber)
	}
}

// folder is an authority of files in a new folder, where nothing is yet.
func folder(t testing.TB) *Folder {
	t.Helper()
	dir := t.TempDir()
	return &Folder{
		StateDir: filepath.Join(dir, "state"), SigningKey: filepath.Join(dir, "keys", "signkey.pem"),
		IssuerCert: filepath.Join(dir, "keys", "issuercert.pem"), Serial: filepath.Join(dir, "state", "certserial"),
		Random: rand.Reader, Now: noon, bits: 1024, rounds: 2,
	}
}

func TestFolderMakesItsAuthorityOnce(t *testing.T) {
	t.Parallel()
	f := folder(t)
	f.Password, f.RootPassword = []byte("a password"), []byte("another")
	key := ecKey(t)
	der, made, err := f.Issue(request(key.Public()))
	if err != nil || !made {
		t.Fatalf("Issue = %v, %v", made, err)
	}
	roots := x509.NewCertPool()
	issuing, err := ReadCertificate(f.IssuerCert)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ReadCertificate(filepath.Join(filepath.Dir(f.SigningKey), rootCertName))
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(root)
	if err := issuing.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(issuing); err != nil {
		t.Error(err)
	}
	for _, name := range []string{f.SigningKey, filepath.Join(filepath.Dir(f.SigningKey), rootKeyName)} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(name)
		if err != nil || info.Mode().Perm() != 0o600 || !bytes.Contains(text, []byte(pkcs8.BlockType)) {
			t.Errorf("%s: mode %v, %v, encrypted: %v", name, info.Mode(), err, bytes.Contains(text, []byte(pkcs8.BlockType)))
		}
	}
	again, made, err := f.Issue(request(key.Public()))
	if err != nil || made {
		t.Fatalf("second Issue = %v, %v", made, err)
	}
	next, err := x509.ParseCertificate(again)
	if err != nil || next.SerialNumber.Cmp(new(big.Int).Add(cert.SerialNumber, big.NewInt(1))) != 0 {
		t.Errorf("second serial number %v after %v: %v", next.SerialNumber, cert.SerialNumber, err)
	}
	f.Password = []byte("wrong")
	if _, _, err := f.Issue(request(key.Public())); err == nil {
		t.Error("a key opens with a wrong password")
	}
	f.Password = nil
	if _, _, err := f.Issue(request(key.Public())); err == nil {
		t.Error("a key under a password opens without it")
	}
}

func TestACertificateWhoseKeyIsElsewhereIsNotOverwritten(t *testing.T) {
	t.Parallel()
	f := folder(t)
	key := ecKey(t)
	if _, _, err := f.Issue(request(key.Public())); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.IssuerCert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.SigningKey); err != nil {
		t.Fatal(err)
	}
	_, _, err = f.Issue(request(key.Public()))
	if err == nil || !strings.Contains(err.Error(), "put the key back") {
		t.Errorf("Issue without the key: %v", err)
	}
	if after, err := os.ReadFile(f.IssuerCert); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the certificate changed: %v", err)
	}
}

func TestSerialNumbersEndWithinTwentyBytes(t *testing.T) {
	for name, tc := range map[string]struct {
		text string // of the file; "" for none
		want string // "" for a random one
		err  bool
	}{
		"no file":       {},
		"the next":      {text: "41\n", want: "42"},
		"after the end": {text: MaxSerial().String()},
		"no number":     {text: "x", err: true},
		"negative":      {text: "-1", err: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := folder(t)
			f.Serial = filepath.Join(t.TempDir(), "certserial")
			if tc.text != "" {
				if err := os.WriteFile(f.Serial, []byte(tc.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			n, err := f.nextSerial()
			if tc.err {
				if err == nil {
					t.Errorf("nextSerial = %v", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kept, err := os.ReadFile(f.Serial)
			if err != nil || string(kept) != n.String() {
				t.Errorf("%q is kept of %v: %v", kept, n, err)
			}
			if tc.want == "" && len(n.String()) != 20 || tc.want != "" && n.String() != tc.want {
				t.Errorf("nextSerial = %v, want %q", n, tc.want)
			}
		})
	}
}

func TestKeysOfOthersAreRead(t *testing.T) {
	key := ecKey(t)
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", sec1, []byte("secret"), x509.PEMCipherAES256) //lint:ignore SA1019 the form that is read
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pkcs8.Encrypt(rand.Reader, plain, []byte("secret"), 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"SEC 1":             {Type: "EC PRIVATE KEY", Bytes: sec1},
		"PKCS #8":           {Type: "PRIVATE KEY", Bytes: plain},
		"openssl's old one": old,
		"encrypted PKCS #8": {Type: pkcs8.BlockType, Bytes: sealed},
	} {
		t.Run(name, func(t *testing.T) {
			text := append([]byte("Public Key Info:\n\tas certtool writes it\n\n"), pem.EncodeToMemory(block)...)
			encrypted := block.Type == pkcs8.BlockType || len(block.Headers) > 0
			got, err := parseKey(text, []byte("secret"))
			if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(got.Public()) {
				t.Fatalf("parseKey = %v, %v", got, err)
			}
			if _, err := parseKey(text, nil); encrypted != (err != nil) {
				t.Errorf("without a password: %v", err)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing": "", "a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"half a key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain[:20]})),
	} {
		if _, err := parseKey([]byte(text), nil); err == nil {
			t.Errorf("%s is taken for a key", name)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := parseKey(text, nil); (key == nil) != (err != nil) {
			t.Errorf("%v, %v", key, err)
		}
	})
}
