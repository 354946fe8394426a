package engine_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A partial is what the caller of TPM2_CertifyX509 gives, in the order of RFC 5280.
type partial struct {
	Algorithm  asn1.RawValue `asn1:"optional"`
	Issuer     pkix.RDNSequence
	Validity   struct{ From, To time.Time }
	Subject    pkix.RDNSequence
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

var (
	keyUsageOID  = asn1.ObjectIdentifier{2, 5, 29, 15}
	attributeOID = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 1, 1}
)

func mustDER(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// usage is a key usage of the first bits of b, up to the last that is set.
func usage(t testing.TB, b ...byte) pkix.Extension {
	t.Helper()
	n := 8 * len(b)
	for n > 0 && b[(n-1)/8]>>(7-(n-1)%8)&1 == 0 {
		n--
	}
	return pkix.Extension{Id: keyUsageOID, Critical: true, Value: mustDER(t, asn1.BitString{Bytes: b[:(n+7)/8], BitLength: n})}
}

func attributesOf(t testing.TB, a tpm2.ObjectAttributes) pkix.Extension {
	t.Helper()
	return pkix.Extension{Id: attributeOID, Value: mustDER(t, asn1.BitString{Bytes: be32(uint32(a)), BitLength: 32})}
}

func newPartial(extensions ...pkix.Extension) *partial {
	p := &partial{Extensions: extensions}
	p.Issuer = pkix.Name{CommonName: "issuer"}.ToRDNSequence()
	p.Subject = pkix.Name{CommonName: "subject"}.ToRDNSequence()
	p.Validity.From, p.Validity.To = time.Unix(1.7e9, 0).UTC(), time.Unix(1.8e9, 0).UTC()
	return p
}

// certifyX509 runs the command with the ADMIN role by password.
func (m *machine) certifyX509(object, key tpm2.Handle, s tpm2.SigScheme, der []byte) (command.CertifyX509Out, tpm2.RC) {
	m.Helper()
	var out command.CertifyX509Out
	rc := m.run(tpm2.CCCertifyX509, handles(object, key), password("", ""), &command.CertifyX509In{InScheme: s, PartialCertificate: der}, &out)
	return out, rc
}

// certificate puts a certificate together as its requester would: what the TPM
// added goes before and behind what it was given.
func certificate(t testing.TB, p *partial, out *command.CertifyX509Out) *x509.Certificate {
	t.Helper()
	var added []asn1.RawValue
	if _, err := asn1.Unmarshal(out.AddedToCertificate, &added); err != nil {
		t.Fatal(err)
	}
	algorithm := p.Algorithm
	if len(added) == 4 {
		algorithm = added[2]
	}
	tbs := mustDER(t, struct {
		Version, Serial, Algorithm asn1.RawValue
		Issuer                     pkix.RDNSequence
		Validity                   struct{ From, To time.Time }
		Subject                    pkix.RDNSequence
		Key                        asn1.RawValue
		Extensions                 []pkix.Extension `asn1:"explicit,tag:3"`
	}{added[0], added[1], algorithm, p.Issuer, p.Validity, p.Subject, added[len(added)-1], p.Extensions})
	sig := out.Signature.RSA
	if len(sig) == 0 {
		sig = mustDER(t, struct{ R, S *big.Int }{new(big.Int).SetBytes(out.Signature.R), new(big.Int).SetBytes(out.Signature.S)})
	}
	c, err := x509.ParseCertificate(mustDER(t, struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, algorithm, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificatesAreReadByOthers(t *testing.T) {
	scheme := func(s, h tpm2.Alg) tpm2.SigScheme { return tpm2.SigScheme{Scheme: s, HashAlg: h} }
	ecdsa256 := mustDER(t, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}})
	for name, tc := range map[string]struct {
		object, key tpm2.Public
		scheme      tpm2.SigScheme
		algorithm   []byte
	}{
		"ECDSA":              {eccTemplate(signing), eccTemplate(signing), scheme(tpm2.AlgECDSA, tpm2.AlgSHA256), nil},
		"ECDSA, SHA-384":     {rsaTemplate(signing), eccTemplate(signing), scheme(tpm2.AlgECDSA, tpm2.AlgSHA384), nil},
		"ECDSA, said before": {eccTemplate(signing), eccTemplate(signing), scheme(tpm2.AlgECDSA, tpm2.AlgSHA256), ecdsa256},
		"for certificates":   {eccTemplate(signing), eccTemplate(signing | tpm2.AttrX509Sign), scheme(tpm2.AlgECDSA, tpm2.AlgSHA256), nil},
		"RSASSA":             {eccTemplate(signing), rsaTemplate(signing), scheme(tpm2.AlgRSASSA, tpm2.AlgSHA512), nil},
		"RSAPSS":             {eccTemplate(signing), rsaTemplate(signing), scheme(tpm2.AlgRSAPSS, tpm2.AlgSHA256), nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			object := m.primary(tpm2.HandleOwner, tc.object, "")
			key := m.primary(tpm2.HandleEndorsement, tc.key, "")
			p := newPartial(usage(t, 0xc0), attributesOf(t, tc.object.Attributes))
			p.Algorithm.FullBytes = tc.algorithm
			out, rc := m.certifyX509(object, key, tc.scheme, mustDER(t, *p))
			if rc != tpm2.RCSuccess {
				t.Fatalf("CertifyX509 = %v (%#x)", rc, uint32(rc))
			}
			c := certificate(t, p, &out)
			signed, err := m.public(key).Key()
			if err != nil {
				t.Fatal(err)
			}
			parent := &x509.Certificate{PublicKey: signed, PublicKeyAlgorithm: map[tpm2.Alg]x509.PublicKeyAlgorithm{tpm2.AlgRSA: x509.RSA, tpm2.AlgECC: x509.ECDSA}[tc.key.Type]}
			if err := parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
				t.Errorf("signature: %v", err)
			}
			want, err := m.public(object).Key()
			if err != nil {
				t.Fatal(err)
			}
			if k, ok := c.PublicKey.(interface{ Equal(x crypto.PublicKey) bool }); !ok || !k.Equal(want) {
				t.Errorf("the certificate is for %v, want %v", c.PublicKey, want)
			}
			if c.Version != 3 || c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > 160 || c.Subject.CommonName != "subject" {
				t.Errorf("certificate is version %d, serial %d, of %v", c.Version, c.SerialNumber, c.Subject)
			}
		})
	}
}

func TestCertifyX509Refuses(t *testing.T) {
	use := func(t testing.TB, b ...byte) *partial { return newPartial(usage(t, b...)) }
	ecdsa := tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	sign, decrypt := eccTemplate(signing), eccTemplate(decrypting)
	loose := eccTemplate(ordinary | tpm2.AttrSign)
	bad := parameterRC(tpm2.RCValue, 3)
	for name, tc := range map[string]struct {
		object tpm2.Public
		key    tpm2.Public
		scheme tpm2.SigScheme
		der    func(t testing.TB) []byte
		want   tpm2.RC
	}{
		"nothing":             {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0xc0)) }, tpm2.RCSuccess},
		"a storage key signs": {sign, eccTemplate(storing), ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x80)) }, handleRC(tpm2.RCKey, 2)},
		"no scheme":           {sign, sign, noScheme(), func(t testing.TB) []byte { return mustDER(t, *use(t, 0x80)) }, parameterRC(tpm2.RCScheme, 2)},
		"a scheme that certificates have not": {
			sign, sign,
			tpm2.SigScheme{Scheme: tpm2.AlgECSchnorr, HashAlg: tpm2.AlgSHA256},
			func(t testing.TB) []byte { return mustDER(t, *use(t, 0x80)) }, handleRC(tpm2.RCScheme, 2),
		},
		"a key that certificates have not": {keyedHashTemplate(signing), sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x80)) }, handleRC(tpm2.RCAsymmetric, 1)},
		"empty":                            {sign, sign, ecdsa, func(testing.TB) []byte { return nil }, bad},
		"no sequence":                      {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{4, 0} }, parameterRC(tpm2.RCSize, 3)},
		"more behind":                      {sign, sign, ecdsa, func(t testing.TB) []byte { return append(mustDER(t, *use(t, 0x80)), 0) }, parameterRC(tpm2.RCSize, 3)},
		"cut off":                          {sign, sign, ecdsa, func(t testing.TB) []byte { b := mustDER(t, *use(t, 0x80)); return b[:len(b)-1] }, parameterRC(tpm2.RCSize, 3)},
		"no extensions":                    {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 6, 0x30, 0, 0x30, 0, 0x30, 0} }, bad},
		"two sequences":                    {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 6, 0x30, 0, 0x30, 0, 0xa3, 0} }, bad},
		"five sequences":                   {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 12, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0xa3, 0} }, bad},
		"extensions twice":                 {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 10, 0x30, 0, 0x30, 0, 0x30, 0, 0xa3, 0, 0xa3, 0} }, bad},
		"another element":                  {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 10, 0x30, 0, 0x30, 0, 0x30, 0, 0xa1, 0, 0xa3, 0} }, bad},
		"a broken element":                 {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 10, 0x30, 0, 0x30, 0, 0x30, 0, 0xa3, 9, 0, 0} }, bad},
		"no list":                          {sign, sign, ecdsa, func(testing.TB) []byte { return []byte{0x30, 8, 0x30, 0, 0x30, 0, 0x30, 0, 0xa3, 0} }, bad},
		"no key usage":                     {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *newPartial(attributesOf(t, signing))) }, bad},
		"key usage twice":                  {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *newPartial(usage(t, 0x80), usage(t, 0xc0))) }, bad},
		"key usage is none": {sign, sign, ecdsa, func(t testing.TB) []byte {
			return mustDER(t, *newPartial(pkix.Extension{Id: keyUsageOID, Value: []byte{4, 1, 0}}))
		}, bad},
		"key usage is long": {sign, sign, ecdsa, func(t testing.TB) []byte {
			return mustDER(t, *newPartial(pkix.Extension{Id: keyUsageOID, Value: []byte{3, 6, 0, 0x80, 0, 0, 0, 0}}))
		}, bad},
		"a usage that is not":            {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x80, 0x40)) }, parameterRC(tpm2.RCReservedBits, 3)},
		"signing, but it decrypts":       {decrypt, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x80)) }, bad},
		"an authority, but it decrypts":  {decrypt, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x04)) }, bad},
		"revoking, but it decrypts":      {decrypt, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x02)) }, bad},
		"agreeing, but it signs":         {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x08)) }, bad},
		"enciphering data, but it signs": {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x10)) }, bad},
		"only deciphering, but it signs": {sign, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0, 0x80)) }, bad},
		"enciphering keys, unrestricted": {decrypt, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0x20)) }, bad},
		"not to be denied, but it moves": {loose, sign, ecdsa, func(t testing.TB) []byte { return mustDER(t, *use(t, 0xc0)) }, bad},
		"other attributes": {sign, sign, ecdsa, func(t testing.TB) []byte {
			return mustDER(t, *newPartial(usage(t, 0x80), attributesOf(t, signing|tpm2.AttrRestricted)))
		}, handleRC(tpm2.RCAttributes, 1)},
		"attributes are none": {sign, sign, ecdsa, func(t testing.TB) []byte {
			return mustDER(t, *newPartial(usage(t, 0x80), pkix.Extension{Id: attributeOID, Value: []byte{4, 0}}))
		}, bad},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			object := m.child(m.storage(""), tc.object, "", "")
			key := m.primary(tpm2.HandleEndorsement, tc.key, "")
			if _, rc := m.certifyX509(object, key, tc.scheme, tc.der(t)); rc != tc.want {
				t.Errorf("CertifyX509 = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
	m := newMachine(t)
	key := m.primary(tpm2.HandleEndorsement, sign, "")
	in := &command.CertifyX509In{Reserved: []byte{1}, InScheme: ecdsa, PartialCertificate: mustDER(t, *use(t, 0x80))}
	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCCertifyX509, handles(key, key), password("", ""), in)
	in.Reserved = nil
	m.fails(handleRC(tpm2.RCKey, 2), tpm2.CCCertifyX509, handles(key, tpm2.HandleNull), password("", ""), in)
}

// RFC 4055, 3.1: RSAPSS with SHA-1 has no parameters, since they are the defaults.
func TestDefaultParametersOfRSAPSSAreLeftOut(t *testing.T) {
	m := newMachine(t)
	key := m.external(outsideRSA(t, usable|tpm2.AttrSign))
	object := m.primary(tpm2.HandleOwner, eccTemplate(signing), "")
	out, rc := m.certifyX509(object, key, tpm2.SigScheme{Scheme: tpm2.AlgRSAPSS, HashAlg: tpm2.AlgSHA1}, mustDER(t, *newPartial(usage(t, 0x80))))
	if rc != tpm2.RCSuccess {
		t.Fatalf("CertifyX509 = %v", rc)
	}
	want := mustDER(t, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: asn1.NullRawValue})
	if !bytes.Contains(out.AddedToCertificate, want) {
		t.Errorf("what is added is %x, want %x in it", out.AddedToCertificate, want)
	}
}

// FuzzCertifyX509 looks for partial certificates that end in failure mode, or that
// make certificates that nobody can read.
func FuzzCertifyX509(f *testing.F) {
	f.Add(mustDER(f, *newPartial(usage(f, 0xc0), attributesOf(f, signing))))
	f.Add([]byte{0x30, 8, 0x30, 0, 0x30, 0, 0x30, 0, 0xa3, 0})
	f.Add([]byte{0x30, 0x82, 0, 2, 0x30, 0x80})
	m := newMachine(f)
	key := m.primary(tpm2.HandleEndorsement, eccTemplate(signing), "")
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) > tpm2.MaxBuffer {
			return
		}
		m.in(t)
		out, rc := m.certifyX509(key, key, tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}, der)
		if rc == tpm2.RCFailure {
			t.Fatal("the TPM failed")
		}
		var added []asn1.RawValue
		if rc != tpm2.RCSuccess {
			return
		}
		if rest, err := asn1.Unmarshal(out.AddedToCertificate, &added); err != nil || len(rest) != 0 {
			t.Errorf("what is added to %x is %x: %v", der, out.AddedToCertificate, err)
		}
	})
}
