package engine_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
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

// external loads an outside object with both areas.
func (m *machine) external(o *outside) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCLoadExternal, nil, nil, o.external(), nil)
	return m.handle
}

// loadPublic loads the public area of an outside object in the owner's hierarchy.
func (m *machine) loadPublic(p tpm2.Public) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: p, Hierarchy: tpm2.HandleOwner}, nil)
	return m.handle
}

// A keyCheck is a command with a key that must be refused.
type keyCheck struct {
	key  *outside
	cc   tpm2.CC
	in   wire.Layout
	want tpm2.RC
}

// refused runs each command with its key alone in the TPM.
func refused(t *testing.T, checks map[string]keyCheck) {
	t.Helper()
	m := newMachine(t)
	for name, tc := range checks {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.external(tc.key)
			defer m.flush(key)
			var auths []auth
			if info, _ := command.Lookup(tc.cc); info.Auths() > 0 {
				auths = password("")
			}
			m.fails(tc.want, tc.cc, handles(key), auths, tc.in)
		})
	}
}

// of returns a copy of an outside key with another public area. The key must not
// be one whose unique binds that.
func (o *outside) of(f func(p *tpm2.Public)) *outside {
	c := o.clone()
	f(&c.public)
	return c
}

// unnamed is an object whose Name algorithm is AlgNull, of which less is checked.
func unnamed(p *tpm2.Public) { p.NameAlg = tpm2.AlgNull }

const bothUses = usable | tpm2.AttrSign | tpm2.AttrDecrypt

func TestRSAEncryptionIsRefused(t *testing.T) {
	key, signer := outsideRSA(t, usable|tpm2.AttrDecrypt), outsideRSA(t, usable|tpm2.AttrSign)
	ecc := outsideECC(t, bothUses)
	oaep := tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	oaepKey := key.of(func(p *tpm2.Public) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	})
	none := tpm2.RSADecrypt{Scheme: tpm2.AlgNull}
	encrypt := func(s tpm2.RSADecrypt, label string, message []byte) wire.Layout {
		return &command.RSAEncryptIn{Message: message, InScheme: s, Label: []byte(label)}
	}
	decrypt := func(s tpm2.RSADecrypt, label string, text []byte) wire.Layout {
		return &command.RSADecryptIn{CipherText: text, InScheme: s, Label: []byte(label)}
	}
	block := bytes.Repeat([]byte{0xff}, 256)
	refused(t, map[string]keyCheck{
		"encrypt by an ECC key":             {ecc, tpm2.CCRSAEncrypt, encrypt(oaep, "", nil), handleRC(tpm2.RCKey, 1)},
		"encrypt by a signing key":          {signer, tpm2.CCRSAEncrypt, encrypt(oaep, "", nil), handleRC(tpm2.RCAttributes, 1)},
		"encrypt with an open label":        {key, tpm2.CCRSAEncrypt, encrypt(oaep, "label", nil), parameterRC(tpm2.RCValue, 3)},
		"encrypt with another scheme":       {oaepKey, tpm2.CCRSAEncrypt, encrypt(tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}, "", nil), parameterRC(tpm2.RCScheme, 2)},
		"encrypt with another hash":         {oaepKey, tpm2.CCRSAEncrypt, encrypt(tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA1}, "", nil), parameterRC(tpm2.RCScheme, 2)},
		"encrypt more than fits":            {key, tpm2.CCRSAEncrypt, encrypt(oaep, "", block[:191]), tpm2.RCValue},
		"encrypt more than RSAES takes":     {key, tpm2.CCRSAEncrypt, encrypt(tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}, "", block[:246]), tpm2.RCValue},
		"encrypt a number past the modulus": {key, tpm2.CCRSAEncrypt, encrypt(none, "", block), tpm2.RCValue},
		"encrypt a longer number":           {key, tpm2.CCRSAEncrypt, encrypt(none, "", append([]byte{1}, block...)), tpm2.RCValue},
		"decrypt by an ECC key":             {ecc, tpm2.CCRSADecrypt, decrypt(oaep, "", nil), handleRC(tpm2.RCKey, 1)},
		"decrypt by a signing key":          {signer, tpm2.CCRSADecrypt, decrypt(oaep, "", nil), handleRC(tpm2.RCAttributes, 1)},
		"decrypt with an open label":        {key, tpm2.CCRSADecrypt, decrypt(oaep, "label", nil), parameterRC(tpm2.RCValue, 3)},
		"decrypt with another scheme":       {oaepKey, tpm2.CCRSADecrypt, decrypt(tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}, "", nil), parameterRC(tpm2.RCScheme, 2)},
		"decrypt a short text":              {key, tpm2.CCRSADecrypt, decrypt(oaep, "", block[1:]), tpm2.RCSize},
		"decrypt a number past the modulus": {key, tpm2.CCRSADecrypt, decrypt(oaep, "", block), tpm2.RCValue},
		"decrypt what is no OAEP":           {key, tpm2.CCRSADecrypt, decrypt(oaep, "", append([]byte{0}, block[1:]...)), tpm2.RCValue},
		"decrypt what is no RSAES":          {key, tpm2.CCRSADecrypt, decrypt(tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}, "", append([]byte{0}, block[1:]...)), tpm2.RCValue},
	})
}

// A restricted key encrypts for everyone, as its public part would, but decrypts
// for nobody. A key with a scheme needs none from the caller.
func TestRSAKeysWithSchemes(t *testing.T) {
	m := newMachine(t)
	restricted := m.primary(tpm2.HandleOwner, rsaTemplate(storing), "")
	oaep := tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	var c command.RSAEncryptOut
	m.do(tpm2.CCRSAEncrypt, handles(restricted), nil, &command.RSAEncryptIn{InScheme: oaep}, &c)
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCRSADecrypt, handles(restricted), password(""), &command.RSADecryptIn{CipherText: c.OutData, InScheme: oaep})
	key := m.external(outsideRSA(t, usable|tpm2.AttrDecrypt).of(func(p *tpm2.Public) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	}))
	m.do(tpm2.CCRSAEncrypt, handles(key), nil, &command.RSAEncryptIn{Message: []byte("m"), InScheme: tpm2.RSADecrypt{Scheme: tpm2.AlgNull}}, &c)
	var p command.RSADecryptOut
	m.do(tpm2.CCRSADecrypt, handles(key), password(""), &command.RSADecryptIn{CipherText: c.OutData, InScheme: oaep}, &p)
	if string(p.Message) != "m" {
		t.Errorf("RSA_Decrypt = %q, want m", p.Message)
	}
}

// Without padding the operation is that of the numbers: computed here by math/big.
func TestRSAWithoutPadding(t *testing.T) {
	m := newMachine(t)
	private, err := rsaPrivate()
	if err != nil {
		t.Fatal(err)
	}
	key := m.external(outsideRSA(t, bothUses))
	none := tpm2.RSADecrypt{Scheme: tpm2.AlgNull}
	message := []byte{0, 0, 0x12, 0x34}
	var c command.RSAEncryptOut
	m.do(tpm2.CCRSAEncrypt, handles(key), nil, &command.RSAEncryptIn{Message: message, InScheme: none}, &c)
	want := new(big.Int).Exp(big.NewInt(0x1234), big.NewInt(int64(private.E)), private.N).FillBytes(make([]byte, 256))
	if !bytes.Equal(c.OutData, want) {
		t.Errorf("RSA_Encrypt = %x, want %x", c.OutData, want)
	}
	var p command.RSADecryptOut
	m.do(tpm2.CCRSADecrypt, handles(key), password(""), &command.RSADecryptIn{CipherText: c.OutData, InScheme: none}, &p)
	if len(p.Message) != 256 || !bytes.HasSuffix(p.Message, message) {
		t.Errorf("RSA_Decrypt = %x, want all bytes of 1234", p.Message)
	}
}

func TestECCOperationsAreRefused(t *testing.T) {
	key, signer, rsaKey := outsideECC(t, usable|tpm2.AttrDecrypt), outsideECC(t, usable|tpm2.AttrSign), outsideRSA(t, bothUses)
	mqv := key.of(func(p *tpm2.Public) {
		p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECMQV, HashAlg: tpm2.AlgSHA256}
	})
	good := key.public.Unique.ECC
	bad := tpm2.ECCPoint{X: good.X, Y: good.X}
	zgen := func(p tpm2.ECCPoint) wire.Layout { return &command.ECDHZGenIn{InPoint: p} }
	kdf := func(a tpm2.Alg) tpm2.KDFScheme { return tpm2.KDFScheme{Scheme: a, HashAlg: tpm2.AlgSHA256} }
	encrypt := func(k tpm2.KDFScheme) wire.Layout { return &command.ECCEncryptIn{InScheme: k} }
	decrypt := func(k tpm2.KDFScheme, p tpm2.ECCPoint) wire.Layout {
		return &command.ECCDecryptIn{C1: p, C3: make([]byte, 32), InScheme: k}
	}
	phase := func(a tpm2.Alg, s, e tpm2.ECCPoint) wire.Layout {
		return &command.ZGen2PhaseIn{InQsB: s, InQeB: e, InScheme: a}
	}
	refused(t, map[string]keyCheck{
		"KeyGen of an RSA key":            {rsaKey, tpm2.CCECDHKeyGen, nil, handleRC(tpm2.RCKey, 1)},
		"ZGen of an RSA key":              {rsaKey, tpm2.CCECDHZGen, zgen(good), handleRC(tpm2.RCKey, 1)},
		"ZGen of a signing key":           {signer, tpm2.CCECDHZGen, zgen(good), handleRC(tpm2.RCAttributes, 1)},
		"ZGen of an MQV key":              {mqv, tpm2.CCECDHZGen, zgen(good), handleRC(tpm2.RCScheme, 1)},
		"ZGen off the curve":              {key, tpm2.CCECDHZGen, zgen(bad), parameterRC(tpm2.RCECCPoint, 1)},
		"ZGen of infinity":                {key, tpm2.CCECDHZGen, zgen(tpm2.ECCPoint{}), parameterRC(tpm2.RCECCPoint, 1)},
		"encrypt by an RSA key":           {rsaKey, tpm2.CCECCEncrypt, encrypt(kdf(tpm2.AlgKDF2)), handleRC(tpm2.RCKey, 1)},
		"encrypt without a scheme":        {key, tpm2.CCECCEncrypt, encrypt(tpm2.KDFScheme{Scheme: tpm2.AlgNull}), parameterRC(tpm2.RCScheme, 2)},
		"encrypt by another KDF":          {key, tpm2.CCECCEncrypt, encrypt(kdf(tpm2.AlgKDFa)), tpm2.RCScheme},
		"decrypt by an RSA key":           {rsaKey, tpm2.CCECCDecrypt, decrypt(kdf(tpm2.AlgKDF2), good), handleRC(tpm2.RCKey, 1)},
		"decrypt by a signing key":        {signer, tpm2.CCECCDecrypt, decrypt(kdf(tpm2.AlgKDF2), good), handleRC(tpm2.RCAttributes, 1)},
		"decrypt without a scheme":        {key, tpm2.CCECCDecrypt, decrypt(tpm2.KDFScheme{Scheme: tpm2.AlgNull}, good), parameterRC(tpm2.RCScheme, 4)},
		"decrypt by another KDF":          {key, tpm2.CCECCDecrypt, decrypt(kdf(tpm2.AlgKDFa), good), tpm2.RCScheme},
		"decrypt off the curve":           {key, tpm2.CCECCDecrypt, decrypt(kdf(tpm2.AlgKDF2), bad), parameterRC(tpm2.RCECCPoint, 1)},
		"decrypt with a wrong check":      {key, tpm2.CCECCDecrypt, decrypt(kdf(tpm2.AlgKDF2), good), tpm2.RCValue},
		"two phases of an RSA key":        {rsaKey, tpm2.CCZGen2Phase, phase(tpm2.AlgECDH, good, good), handleRC(tpm2.RCKey, 1)},
		"two phases of a signing key":     {signer, tpm2.CCZGen2Phase, phase(tpm2.AlgECDH, good, good), handleRC(tpm2.RCAttributes, 1)},
		"two phases by another scheme":    {mqv, tpm2.CCZGen2Phase, phase(tpm2.AlgECDH, good, good), parameterRC(tpm2.RCScheme, 3)},
		"two phases, static off":          {key, tpm2.CCZGen2Phase, phase(tpm2.AlgECDH, bad, good), parameterRC(tpm2.RCECCPoint, 1)},
		"two phases, ephemeral off":       {key, tpm2.CCZGen2Phase, phase(tpm2.AlgECDH, good, bad), parameterRC(tpm2.RCECCPoint, 2)},
		"two phases without a commitment": {key, tpm2.CCZGen2Phase, phase(tpm2.AlgECDH, good, good), parameterRC(tpm2.RCValue, 4)},
	})
	m := newMachine(t)
	unchecked := key.of(unnamed).public
	unchecked.Unique.ECC.X = good.Y
	h := m.loadPublic(unchecked)
	m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCECDHKeyGen, handles(h), nil, nil)
	m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCECCEncrypt, handles(h), nil, encrypt(kdf(tpm2.AlgKDF2)))
	m.flush(h)
	h = m.primary(tpm2.HandleOwner, eccTemplate(storing), "")
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCECDHZGen, handles(h), password(""), zgen(good))
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCECCDecrypt, handles(h), password(""), decrypt(kdf(tpm2.AlgKDF2), good))
	m.do(tpm2.CCECDHKeyGen, handles(h), nil, nil, nil) // needs the public part alone
}

func TestECCParametersAreTheStandards(t *testing.T) {
	m := newMachine(t)
	for id, tc := range map[tpm2.ECCCurve]struct {
		curve elliptic.Curve
		hash  tpm2.Alg
	}{
		tpm2.CurveNISTP256: {elliptic.P256(), tpm2.AlgSHA256},
		tpm2.CurveNISTP384: {elliptic.P384(), tpm2.AlgSHA384},
		tpm2.CurveNISTP521: {elliptic.P521(), tpm2.AlgSHA512},
	} {
		p := tc.curve.Params()
		pad := func(n *big.Int) []byte { return n.FillBytes(make([]byte, (p.BitSize+7)/8)) }
		want := tpm2.ECCDetail{
			CurveID: id, KeySize: uint16(p.BitSize), KDF: tpm2.KDFScheme{Scheme: tpm2.AlgKDF1, HashAlg: tc.hash},
			Sign: tpm2.ECCScheme{Scheme: tpm2.AlgNull}, P: pad(p.P), A: pad(new(big.Int).Sub(p.P, big.NewInt(3))), B: pad(p.B),
			Gx: pad(p.Gx), Gy: pad(p.Gy), N: pad(p.N), H: []byte{1},
		}
		var out command.ECCParametersOut
		m.do(tpm2.CCECCParameters, nil, nil, &command.ECCParametersIn{CurveID: id}, &out)
		if diff := cmp.Diff(want, out.Parameters); diff != "" {
			t.Errorf("parameters of %v (-want +got):\n%s", id, diff)
		}
	}
	in := raw{0, 0x10} // BN P-256
	m.fails(parameterRC(tpm2.RCCurve, 1), tpm2.CCECCParameters, nil, nil, &in)
}
