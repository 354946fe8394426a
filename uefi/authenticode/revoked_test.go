package authenticode_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// again is the certificate of another with its key, changed.
func again(t *testing.T, s *signer, change func(*x509.Certificate)) *signer {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: s.x509.Subject, IsCA: true, BasicConstraintsValid: true}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	out := &signer{key: s.key}
	if out.cert, err = cms.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNoRuleThatIsStricterThanFirmwareOpensDbx has the signer in db, and who issued it
// in dbx in a form that allows nothing.
func TestNoRuleThatIsStricterThanFirmwareOpensDbx(t *testing.T) {
	root := issue(t, 0, "root", nil)
	middle := issue(t, 1, "middle", root)
	leaf, below := issue(t, 2, "leaf", root), issue(t, 3, "below", middle)
	image := sign(t, makeImage(0), leaf)
	broken := bytes.Clone(image) // its digest is of another image
	broken[0x410] ^= 1
	utf8 := func(c *x509.Certificate) {
		raw, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("root")}}}})
		if err != nil {
			t.Fatal(err)
		}
		c.RawSubject = raw
	}
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	}
	revoked, unreadable := []evidence.Code{"image.revoked-certificate"}, []evidence.Code{"image.revocations-unreadable"}
	for name, tc := range map[string]struct {
		image []byte
		by    *signer
		dbx   sigdb.Signature
		want  []evidence.Code
	}{
		"another issuer":          {image, leaf, cert(issue(t, 1, "root", nil)), nil},
		"as it is":                {image, leaf, cert(root), revoked},
		"with name constraints":   {image, leaf, cert(again(t, root, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"a"} })), revoked},
		"an unknown extension":    {image, leaf, cert(again(t, root, critical)), revoked},
		"another form of name":    {image, leaf, cert(again(t, root, utf8)), revoked},
		"no authority":            {image, leaf, cert(again(t, root, func(c *x509.Certificate) { c.IsCA = false })), revoked},
		"of another image":        {broken, leaf, cert(root), revoked},
		"above one that is none":  {sign(t, makeImage(0), below, middle), below, cert(root), revoked},
		"above one not along":     {sign(t, makeImage(0), below), below, cert(root), nil},
		"one that cannot be read": {image, leaf, sigdb.Signature{Type: sigdb.X509, Data: root.cert.Raw[:len(root.cert.Raw)-1]}, unreadable},
	} {
		v, err := parse(t, tc.image).Verify(authenticode.NewKeys(list(t, cert(tc.by)), list(t, tc.dbx)))
		if d := cmp.Diff(tc.want, codes(err)); d != "" || (v == nil) != (err != nil) {
			t.Errorf("%s: Verify = %v, %v (-want +got):\n%s", name, v, err, d)
		}
	}
}

// TestASignatureThatFirmwarePassesOverDoesNotCount writes lengths in other forms, so
// that the digest's name is not where firmware looks for it.
func TestASignatureThatFirmwarePassesOverDoesNotCount(t *testing.T) {
	by := issue(t, 0, "signer", nil)
	good := sign(t, makeImage(0), by)
	data := good[0x608 : 0x600+binary.LittleEndian.Uint32(good[0x600:])]
	size := int(binary.BigEndian.Uint16(data[2:]))
	longer := append([]byte{0x30, 0x83, 0, data[2], data[3]}, data[4:4+size]...)
	other := bytes.Clone(data) // SHA-512 where firmware looks, and not what the signer used
	other[32+8] = 3
	for name, tc := range map[string]struct {
		data []byte
		want []evidence.Code
	}{
		"as it is":           {data, nil},
		"a length of three":  {longer, []evidence.Code{"image.algorithm"}},
		"another name there": {other, []evidence.Code{"image.algorithm"}},
	} {
		v, err := parse(t, attach(tc.data)).Verify(authenticode.NewKeys(list(t, cert(by)), nil))
		if d := cmp.Diff(tc.want, codes(err)); d != "" || (v == nil) != (err != nil) {
			t.Errorf("%s: Verify = %v, %v (-want +got):\n%s", name, v, err, d)
		}
	}
}
