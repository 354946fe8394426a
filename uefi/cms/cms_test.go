package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/uefi/cms"
)

// keys are made once: they are slow to make.
var keys = sync.OnceValue(func() []*rsa.PrivateKey {
	out := make([]*rsa.PrivateKey, 4)
	for i := range out {
		out[i], _ = rsa.GenerateKey(rand.Reader, 1024)
	}
	return out
})

// An authority is a certificate and its key.
type authority struct {
	cert *cms.Certificate
	x509 *x509.Certificate
	key  *rsa.PrivateKey
}

// issue makes a certificate for key i; parent nil signs itself.
func issue(t testing.TB, i int, name string, parent *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 100), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC), // long over
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLen: -1,
	}
	if change != nil {
		change(template)
	}
	a := &authority{key: keys()[i]}
	if parent == nil {
		parent = &authority{x509: template, key: a.key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.x509, a.key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.x509, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if a.cert, err = cms.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func leaf(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
}

// oidData is 1.2.840.113549.1.7.1.
var oidData = []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01")

func sign(t testing.TB, by *authority, content string, change func(*cms.Signing), others ...*authority) []byte {
	t.Helper()
	s := &cms.Signing{Random: rand.Reader, Key: by.key, Certificate: by.cert, ContentType: oidData, Attributes: true, Wrapped: true}
	for _, o := range others {
		s.Others = append(s.Others, o.cert)
	}
	if change != nil {
		change(s)
	}
	b, err := cms.Sign(s, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func verify(b []byte, content string) (*cms.Signed, error) {
	s, _, err := cms.Parse(b)
	if err != nil {
		return nil, err
	}
	return s.Verify([]byte(content))
}

func TestASignatureHoldsForItsContentOnly(t *testing.T) {
	by := issue(t, 0, "signer", nil, leaf)
	other := issue(t, 1, "signer", nil, leaf)
	for name, change := range map[string]func(*cms.Signing){
		"with attributes":    nil,
		"without attributes": func(s *cms.Signing) { s.Attributes = false },
		"without ContentInfo": func(s *cms.Signing) {
			s.Wrapped = false
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := sign(t, by, "content", change)
			signed, err := verify(b, "content")
			if err != nil || signed.Path(by.cert) == nil {
				t.Fatalf("Verify = %v, %v", signed, err)
			}
			if signed.Path(other.cert) != nil {
				t.Error("a certificate of the same name and another key is an anchor")
			}
			if _, err := verify(b, "Content"); !errors.Is(err, cms.ErrContent) && !errors.Is(err, cms.ErrSignature) {
				t.Errorf("other content: %v", err)
			}
			for i := range b { // one bit anywhere: refused, or no difference to what is proved
				c := bytes.Clone(b)
				c[i] ^= 1
				if s, err := verify(c, "content"); err == nil && s.Path(by.cert) != nil && !harmless(b, c, name == "without attributes") {
					t.Errorf("byte %d: accepted", i)
				}
			}
		})
	}
}

// harmless reports whether two signatures differ in nothing that is signed or
// read: version numbers and parameters of algorithms. The content's type is signed
// by an attribute only.
func harmless(a, b []byte, plain bool) bool {
	x, _, err1 := cms.Parse(a)
	y, _, err2 := cms.Parse(b)
	return err1 == nil && err2 == nil && x.Hash == y.Hash && (plain || bytes.Equal(x.ContentType, y.ContentType)) && bytes.Equal(x.Content, y.Content) &&
		len(x.Certificates) == len(y.Certificates) && bytes.Equal(x.Certificates[0].Raw, y.Certificates[0].Raw)
}

func TestEveryPrefixOfASignatureIsRefused(t *testing.T) {
	b := sign(t, issue(t, 0, "signer", nil, leaf), "content", nil)
	for n := range b {
		if _, _, err := cms.Parse(b[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
	if _, rest, err := cms.Parse(append(bytes.Clone(b), 1, 2)); err != nil || !bytes.Equal(rest, []byte{1, 2}) {
		t.Errorf("Parse leaves %x, %v, want what follows", rest, err)
	}
}

func TestPathsFollowTheRulesOfFirmware(t *testing.T) {
	root := issue(t, 0, "root", nil, nil)
	middle := issue(t, 1, "middle", root, nil)
	signer := issue(t, 2, "signer", middle, leaf)
	notCA := issue(t, 1, "middle", root, leaf)
	noPath := issue(t, 0, "root", nil, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	constrained := issue(t, 1, "middle", root, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"a"} })
	critical := issue(t, 1, "middle", root, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	})
	netscape := issue(t, 1, "middle", root, func(c *x509.Certificate) { // as Debian's authority of Secure Boot has it
		c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 16, 840, 1, 113730, 1, 1}, Critical: true, Value: []byte{3, 2, 0, 0xF7}}}
	})
	otherKeyID := issue(t, 1, "middle", root, func(c *x509.Certificate) { c.SubjectKeyId = []byte{1, 2, 3} })
	stranger := issue(t, 3, "root", nil, nil)
	noSign := issue(t, 1, "middle", root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	above := issue(t, 3, "above", root, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	below := issue(t, 1, "middle", above, nil)
	for name, tc := range map[string]struct {
		by     *authority
		along  []*authority
		anchor *authority
		want   int // certificates of the path
	}{
		"the signer itself":                {signer, nil, signer, 1},
		"who issued it, not along":         {signer, nil, middle, 2},
		"who issued it, along":             {signer, []*authority{middle}, middle, 2},
		"the root, not along":              {signer, []*authority{middle}, root, 3},
		"the root, along":                  {signer, []*authority{root, middle}, root, 3},
		"a link missing":                   {signer, nil, root, 0},
		"a link that may not issue":        {signer, []*authority{notCA}, root, 0},
		"an anchor that may not issue":     {signer, nil, notCA, 0},
		"a root that allows no authority":  {signer, []*authority{middle}, noPath, 0},
		"a root that allows signers":       {issue(t, 2, "signer", noPath, leaf), nil, noPath, 2},
		"a link with name constraints":     {signer, []*authority{constrained}, root, 0},
		"a link with an unknown extension": {signer, []*authority{critical}, root, 0},
		"a link with a Netscape type":      {signer, []*authority{netscape}, root, 3},
		"a link of another key identifier": {signer, []*authority{otherKeyID}, root, 0},
		"a link whose key may not sign":    {signer, []*authority{noSign}, root, 0},
		"an anchor whose key may not sign": {signer, nil, noSign, 0},
		"an anchor with name constraints":  {signer, nil, constrained, 0},
		"a link that allows no authority":  {signer, []*authority{below, above}, root, 0},
		"the same link, below it":          {signer, []*authority{below, above}, below, 2},
		"a root of the name, another key":  {signer, []*authority{middle}, stranger, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := verify(sign(t, tc.by, "x", nil, tc.along...), "x")
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Path(tc.anchor.cert); len(got) != tc.want {
				t.Errorf("Path has %d certificates, want %d", len(got), tc.want)
			}
		})
	}
	var none *cms.Signed
	if none.Path(root.cert) != nil || new(cms.Signed).Path(root.cert) != nil {
		t.Error("the zero value has a path")
	}
}

func TestRevocationsAreLookedForWithoutRules(t *testing.T) {
	root, other := issue(t, 0, "root", nil, nil), issue(t, 3, "root", nil, nil)
	middle := issue(t, 1, "middle", root, leaf) // may not issue
	signer := issue(t, 2, "signer", middle, leaf)
	pss := issue(t, 2, "signer", middle, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS })
	short := bytes.Replace(bytes.Clone(root.cert.Raw), root.key.N.Bytes(), append([]byte{0x80}, root.key.N.Bytes()[1:]...), 1)
	at := bytes.Index(short, append([]byte{0x80}, root.key.N.Bytes()[1:]...))
	short[at-1] = 0xFF // a negative modulus: an RSA key that is not read here
	odd, err := cms.ParseCertificate(short)
	if err != nil || odd.RSABits() != 0 {
		t.Fatalf("ParseCertificate = %v, %v", odd, err)
	}
	for name, tc := range map[string]struct {
		by      *authority
		along   []*authority
		revoked *cms.Certificate
		want    bool
	}{
		"the signer":                        {signer, nil, signer.cert, true},
		"who issued it":                     {signer, nil, middle.cert, true},
		"above one that may not issue":      {signer, []*authority{middle}, root.cert, true},
		"the same, the other way round":     {signer, []*authority{root, middle}, root.cert, true},
		"above one that is not there":       {signer, nil, root.cert, false},
		"another key of the name":           {signer, []*authority{root, middle}, other.cert, false},
		"one that came along for no reason": {signer, []*authority{other}, other.cert, false},
		"an algorithm that is not known":    {pss, nil, other.cert, true},
		"a key that cannot be read":         {signer, nil, odd, true},
	} {
		s, _, err := cms.Parse(sign(t, tc.by, "x", nil, tc.along...))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Under([]*cms.Certificate{tc.revoked}); (got != nil) != tc.want {
			t.Errorf("%s: Under = %v, want one %v", name, got, tc.want)
		}
	}
}

func TestSignaturesThatFirmwareCannotJudgeAreRefused(t *testing.T) {
	by := issue(t, 0, "signer", nil, leaf)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(100), Subject: pkix.Name{CommonName: "signer"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ec.Public(), ec)
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := cms.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if elliptic.RSABits() != 0 || by.cert.RSABits() != 1024 {
		t.Errorf("RSABits() = %d, %d", elliptic.RSABits(), by.cert.RSABits())
	}
	good := sign(t, by, "x", nil)
	swap := bytes.Replace(good, by.cert.Raw, elliptic.Raw, 1) // lengths differ: made anew below
	if _, _, err := cms.Parse(swap); err == nil {
		t.Error("a certificate of another length was taken")
	}
	md5 := bytes.ReplaceAll(good, []byte("\x60\x86\x48\x01\x65\x03\x04\x02\x01"), []byte("\x60\x86\x48\x01\x65\x03\x04\x02\x08"))
	if _, _, err := cms.Parse(md5); !errors.Is(err, cms.ErrAlgorithm) {
		t.Errorf("unknown digest: %v, want %v", err, cms.ErrAlgorithm)
	}
	if _, err := cms.Sign(&cms.Signing{Key: ec, Certificate: elliptic}, nil); !errors.Is(err, cms.ErrOtherKey) {
		t.Errorf("Sign with an elliptic key: %v, want %v", err, cms.ErrOtherKey)
	}
	if _, err := cms.Sign(&cms.Signing{Key: keys()[1], Certificate: by.cert}, nil); !errors.Is(err, cms.ErrOtherKey) {
		t.Errorf("Sign with another key: %v, want %v", err, cms.ErrOtherKey)
	}
	stranger := issue(t, 1, "another signer", nil, leaf)
	s, _, err := cms.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	s.Certificates = []*cms.Certificate{stranger.cert}
	if _, err := s.Verify([]byte("x")); !errors.Is(err, cms.ErrNoSigner) {
		t.Errorf("no certificate of the signer: %v, want %v", err, cms.ErrNoSigner)
	}
}

func TestCertificatesAreReadAsFirmwareReadsThem(t *testing.T) {
	a := issue(t, 0, "a name", nil, nil)
	c := a.cert
	if c.NotBefore != a.x509.NotBefore || c.NotAfter != a.x509.NotAfter || !bytes.Equal(c.TBS, a.x509.RawTBSCertificate) ||
		!bytes.Equal(c.Subject, a.x509.RawSubject) || !bytes.Equal(c.Issuer, a.x509.RawIssuer) {
		t.Errorf("ParseCertificate = %+v", c)
	}
	for n := range c.Raw {
		if _, err := cms.ParseCertificate(c.Raw[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
	if _, err := cms.ParseCertificate(append(bytes.Clone(c.Raw), 0)); err != nil {
		t.Errorf("firmware ignores what follows a certificate: %v", err)
	}
	negative := bytes.Replace(c.Raw, []byte{0x02, 0x01, 100}, []byte{0x02, 0x01, 0xFF}, 1)
	if _, err := cms.ParseCertificate(negative); err != nil {
		t.Errorf("firmware takes a negative serial number: %v", err)
	}
	if _, err := x509.ParseCertificate(negative); err == nil {
		t.Error("crypto/x509 takes it too: the case shows nothing any more")
	}
}

// TestAttributesMustSayWhatWasSigned renames an attribute and signs again.
func TestAttributesMustSayWhatWasSigned(t *testing.T) {
	by := issue(t, 0, "signer", nil, leaf)
	good := sign(t, by, "x", nil)
	const pkcs9 = "\x2a\x86\x48\x86\xf7\x0d\x01\x09"
	for name, from := range map[string]string{"message digest": pkcs9 + "\x04", "content type": pkcs9 + "\x03"} {
		b := bytes.Replace(good, []byte(from), []byte(pkcs9+"\x7f"), 1)
		at := bytes.LastIndexByte(b[:bytes.LastIndex(b, []byte(pkcs9))], 0xA0) // [0] of the attributes
		for b[at] != 0xA0 || int(b[at+1]) < 0x40 || int(b[at+1]) > 0x7F {
			at = bytes.LastIndexByte(b[:at], 0xA0)
		}
		set := bytes.Clone(b[at : at+2+int(b[at+1])])
		set[0] = 0x31
		sum := sha256.Sum256(set)
		signature, err := rsa.SignPKCS1v15(nil, by.key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		copy(b[len(b)-len(signature):], signature)
		if _, err := verify(b, "x"); !errors.Is(err, cms.ErrMalformed) {
			t.Errorf("no %s: Verify = %v, want %v", name, err, cms.ErrMalformed)
		}
	}
}

func FuzzParse(f *testing.F) {
	by := issue(f, 0, "signer", nil, leaf)
	f.Add(sign(f, by, "x", nil))
	f.Add(sign(f, by, "x", func(s *cms.Signing) { s.Attributes, s.Wrapped = false, false }))
	f.Fuzz(func(_ *testing.T, b []byte) {
		s, _, err := cms.Parse(b)
		if err != nil {
			return
		}
		_ = s.ContentBody()
		if signed, err := s.Verify([]byte("x")); err == nil {
			signed.Path(by.cert)
		}
	})
}

func FuzzCertificate(f *testing.F) {
	f.Add(issue(f, 0, "x", nil, nil).cert.Raw)
	f.Fuzz(func(_ *testing.T, b []byte) {
		if c, err := cms.ParseCertificate(b); err == nil {
			_ = c.RSABits()
		}
	})
}
