package engine_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

func TestRSAEncryptionComesBack(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleOwner, rsaTemplate(decrypting), "")
	for name, scheme := range map[string]tpm2.RSADecrypt{
		"OAEP":         {Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256},
		"OAEP SHA-512": {Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA512},
		"RSAES":        {Scheme: tpm2.AlgRSAES},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			var c command.RSAEncryptOut
			m.do(tpm2.CCRSAEncrypt, handles(key), nil, &command.RSAEncryptIn{Message: []byte("hello"), InScheme: scheme, Label: []byte("label\x00")}, &c)
			var p command.RSADecryptOut
			m.do(tpm2.CCRSADecrypt, handles(key), password(""), &command.RSADecryptIn{CipherText: c.OutData, InScheme: scheme, Label: []byte("label\x00")}, &p)
			if string(p.Message) != "hello" {
				t.Errorf("RSA_Decrypt = %q, want hello", p.Message)
			}
		})
	}
	m.in(t)
	public, err := m.public(key).Key()
	if err != nil {
		t.Fatal(err)
	}
	c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), []byte("from outside"), []byte("L\x00"))
	if err != nil {
		t.Fatal(err)
	}
	oaep := tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	var out command.RSADecryptOut
	m.do(tpm2.CCRSADecrypt, handles(key), password(""), &command.RSADecryptIn{CipherText: c, InScheme: oaep, Label: []byte("L\x00")}, &out)
	if string(out.Message) != "from outside" {
		t.Errorf("RSA_Decrypt = %q", out.Message)
	}
	m.fails(tpm2.RCValue, tpm2.CCRSADecrypt, handles(key), password(""), &command.RSADecryptIn{CipherText: c, InScheme: oaep, Label: []byte("M\x00")})
}

func TestECDHAgreesWithAnotherImplementation(t *testing.T) {
	m := newMachine(t)
	for curve, other := range map[tpm2.ECCCurve]ecdh.Curve{
		tpm2.CurveNISTP256: ecdh.P256(), tpm2.CurveNISTP384: ecdh.P384(), tpm2.CurveNISTP521: ecdh.P521(),
	} {
		t.Run(curve.String(), func(t *testing.T) {
			m.in(t)
			template := eccTemplate(decrypting)
			template.Parameters.ECC.CurveID = curve
			key := m.primary(tpm2.HandleOwner, template, "")
			defer m.flush(key)
			mine, err := other.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			b := mine.PublicKey().Bytes()
			size := (len(b) - 1) / 2
			var z command.ECDHZGenOut
			m.do(tpm2.CCECDHZGen, handles(key), password(""), &command.ECDHZGenIn{InPoint: tpm2.ECCPoint{X: b[1 : 1+size], Y: b[1+size:]}}, &z)
			point := m.public(key).Unique.ECC
			theirs, err := other.NewPublicKey(append(append([]byte{4}, point.X...), point.Y...))
			if err != nil {
				t.Fatal(err)
			}
			want, err := mine.ECDH(theirs)
			if err != nil || !bytes.Equal(z.OutPoint.X, want) {
				t.Errorf("ECDH_ZGen = %x, want %x, %v", z.OutPoint.X, want, err)
			}
			var made command.ECDHKeyGenOut
			m.do(tpm2.CCECDHKeyGen, handles(key), nil, nil, &made)
			m.do(tpm2.CCECDHZGen, handles(key), password(""), &command.ECDHZGenIn{InPoint: made.PubPoint}, &z)
			if diff := cmp.Diff(made.ZPoint, z.OutPoint); diff != "" {
				t.Errorf("ECDH_KeyGen and ECDH_ZGen differ:\n%s", diff)
			}
		})
	}
}

func TestECCEncryptionComesBack(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleOwner, eccTemplate(decrypting), "")
	kdf := tpm2.KDFScheme{Scheme: tpm2.AlgKDF2, HashAlg: tpm2.AlgSHA256}
	for _, n := range []int{0, 1, 33, 1024} {
		text := bytes.Repeat([]byte{7}, n)
		var c command.ECCEncryptOut
		m.do(tpm2.CCECCEncrypt, handles(key), nil, &command.ECCEncryptIn{PlainText: text, InScheme: kdf}, &c)
		in := &command.ECCDecryptIn{C1: c.C1, C2: c.C2, C3: c.C3, InScheme: kdf}
		var p command.ECCDecryptOut
		m.do(tpm2.CCECCDecrypt, handles(key), password(""), in, &p)
		if !bytes.Equal(p.PlainText, text) {
			t.Errorf("ECC_Decrypt of %d bytes = %x", n, p.PlainText)
		}
		in.C3[0] ^= 1
		m.fails(tpm2.RCValue, tpm2.CCECCDecrypt, handles(key), password(""), in)
	}
}
