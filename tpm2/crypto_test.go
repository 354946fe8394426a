package tpm2_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

func parsePublic(t testing.TB, name string) *tpm2.Public {
	t.Helper()
	p, err := tpm2.ParsePublic(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRecordedQuotesVerify(t *testing.T) {
	for _, kind := range []string{"rsa", "ecc"} {
		v, err := tpm2.NewVerifier(parsePublic(t, "ak-"+kind+".tpmt_public"))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := tpm2.ParseSignature(read(t, "quote-"+kind+"-sha256.sig"))
		if err != nil {
			t.Fatal(err)
		}
		msg := read(t, "quote-"+kind+"-sha256.attest")
		if err := v.Verify(msg, sig); err != nil {
			t.Errorf("Verify(%s) = %v", kind, err)
		}
		for i := range msg {
			msg[i] ^= 1
			if err := v.Verify(msg, sig); !errors.Is(err, tpm2.ErrSignature) {
				t.Fatalf("Verify(%s) with byte %d changed = %v, want ErrSignature", kind, i, err)
			}
			msg[i] ^= 1
		}
	}
}

// keys are one private key for each kind that verifies; RSA-2048 serves all RSA schemes.
func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	out := map[string]crypto.Signer{}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	out["rsa"] = k
	for name, c := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		if out[name], err = ecdsa.GenerateKey(c, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func sign(t testing.TB, key crypto.Signer, scheme, hash tpm2.Alg, msg []byte) *tpm2.Signature {
	t.Helper()
	h, _ := hash.Hash()
	d := h.New()
	d.Write(msg)
	s := &tpm2.Signature{SigAlg: scheme, Hash: hash}
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if scheme == tpm2.AlgRSAPSS {
			s.RSA, err = rsa.SignPSS(rand.Reader, k, h, d.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		} else {
			s.RSA, err = rsa.SignPKCS1v15(nil, k, h, d.Sum(nil))
		}
	case *ecdsa.PrivateKey:
		r, v, e := ecdsa.Sign(rand.Reader, k, d.Sum(nil))
		s.R, s.S, err = r.Bytes(), v.Bytes(), e
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignaturesVerifyOnlyByTheKeysOwnScheme(t *testing.T) {
	msg := []byte("message")
	ks := keys(t)
	for name, key := range ks {
		p, err := tpm2.NewPublic(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		schemes := []tpm2.Alg{tpm2.AlgECDSA}
		if name == "rsa" {
			schemes = []tpm2.Alg{tpm2.AlgRSASSA, tpm2.AlgRSAPSS}
		}
		for _, keyScheme := range append(schemes, tpm2.AlgNull) {
			for _, keyHash := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
				p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: keyScheme, HashAlg: keyHash}
				p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: keyScheme, HashAlg: keyHash}
				v, err := tpm2.NewVerifier(p)
				if err != nil {
					t.Fatal(err)
				}
				for _, scheme := range schemes {
					for _, hash := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
						var want error
						if hash == tpm2.AlgSHA1 || keyScheme != tpm2.AlgNull && (scheme != keyScheme || hash != keyHash) {
							want = tpm2.ErrScheme
						}
						if err := v.Verify(msg, sign(t, key, scheme, hash, msg)); !errors.Is(err, want) {
							t.Errorf("%s key for %#x/%s: signature %#x/%s: %v, want %v", name, keyScheme, keyHash.BankName(), scheme, hash.BankName(), err, want)
						}
					}
				}
			}
		}
	}
}

func TestForeignSchemesAreRefused(t *testing.T) {
	ks := keys(t)
	for name, tc := range map[string]struct {
		key crypto.Signer
		sig tpm2.Signature
	}{
		"no signature":      {ks["rsa"], tpm2.Signature{SigAlg: tpm2.AlgNull}},
		"HMAC":              {ks["rsa"], tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256, HMAC: make([]byte, 32)}},
		"ECDSA for RSA":     {ks["rsa"], tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: []byte{1}, S: []byte{1}}},
		"RSASSA for ECC":    {ks["p256"], tpm2.Signature{SigAlg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256, RSA: make([]byte, 256)}},
		"ECDAA":             {ks["p256"], tpm2.Signature{SigAlg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, R: []byte{1}, S: []byte{1}}},
		"digest by SHA3":    {ks["p256"], tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA3x256, R: []byte{1}, S: []byte{1}}},
		"digest by nothing": {ks["p256"], tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgNull, R: []byte{1}, S: []byte{1}}},
	} {
		p, err := tpm2.NewPublic(tc.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		v, err := tpm2.NewVerifier(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(nil, &tc.sig); !errors.Is(err, tpm2.ErrScheme) {
			t.Errorf("%s: Verify = %v, want ErrScheme", name, err)
		}
	}
	for name, s := range map[string]tpm2.Signature{
		"zero numbers": {SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256},
		"huge numbers": {SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: bytes.Repeat([]byte{0xff}, 66), S: bytes.Repeat([]byte{0xff}, 66)},
	} {
		p, _ := tpm2.NewPublic(ks["p256"].Public())
		v, _ := tpm2.NewVerifier(p)
		if err := v.Verify(nil, &s); !errors.Is(err, tpm2.ErrSignature) {
			t.Errorf("%s: Verify = %v, want ErrSignature", name, err)
		}
	}
	if err := new(tpm2.Verifier).Verify(nil, &tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256}); err == nil {
		t.Error("the zero Verifier accepts a signature")
	}
}

func TestUnusableKeysAreRefused(t *testing.T) {
	good := parsePublic(t, "ak-rsa.tpmt_public")
	ecc := parsePublic(t, "ak-ecc.tpmt_public")
	for name, edit := range map[string]func() *tpm2.Public{
		"sealed data":         func() *tpm2.Public { return &tpm2.Public{Type: tpm2.AlgKeyedHash} },
		"even exponent":       func() *tpm2.Public { p := *good; p.Parameters.RSA.Exponent = 65536; return &p },
		"exponent one":        func() *tpm2.Public { p := *good; p.Parameters.RSA.Exponent = 1; return &p },
		"exponent of 32 bits": func() *tpm2.Public { p := *good; p.Parameters.RSA.Exponent = 0xffffffff; return &p },
		"short modulus":       func() *tpm2.Public { p := *good; p.Unique.RSA = p.Unique.RSA[1:]; return &p },
		"modulus with no top": func() *tpm2.Public { p := *good; p.Unique.RSA = make([]byte, 256); return &p },
		"no modulus":          func() *tpm2.Public { p := *good; p.Unique.RSA = nil; return &p },
		"another size":        func() *tpm2.Public { p := *good; p.Parameters.RSA.KeyBits = 3072; return &p },
		"curve P-224":         func() *tpm2.Public { p := *ecc; p.Parameters.ECC.CurveID = tpm2.CurveNISTP224; return &p },
		"curve SM2":           func() *tpm2.Public { p := *ecc; p.Parameters.ECC.CurveID = tpm2.CurveSM2P256; return &p },
		"point of another":    func() *tpm2.Public { p := *ecc; p.Parameters.ECC.CurveID = tpm2.CurveNISTP384; return &p },
		"point at infinity":   func() *tpm2.Public { p := *ecc; p.Unique.ECC = tpm2.ECCPoint{}; return &p },
		"coordinate too long": func() *tpm2.Public { p := *ecc; p.Unique.ECC.X = make([]byte, 33); return &p },
		"point off the curve": func() *tpm2.Public { p := *ecc; p.Unique.ECC.X = p.Unique.ECC.Y; return &p },
		"nothing at all":      func() *tpm2.Public { return new(tpm2.Public) },
		"symmetric":           func() *tpm2.Public { return &tpm2.Public{Type: tpm2.AlgSymCipher} },
	} {
		if _, err := tpm2.NewVerifier(edit()); !errors.Is(err, tpm2.ErrKey) {
			t.Errorf("%s: NewVerifier = %v, want ErrKey", name, err)
		}
	}
}

func TestKeysSurviveConversion(t *testing.T) {
	for name, key := range keys(t) {
		p, err := tpm2.NewPublic(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		back, err := p.Key()
		if err != nil {
			t.Fatal(err)
		}
		if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(back) {
			t.Errorf("%s key changes in conversion", name)
		}
		if p.Type == tpm2.AlgECC {
			// Part 2, 11.2.5.1: leading zeros may be missing.
			p.Unique.ECC.X, p.Unique.ECC.Y = bytes.TrimLeft(p.Unique.ECC.X, "\x00"), bytes.TrimLeft(p.Unique.ECC.Y, "\x00")
			if back, err = p.Key(); err != nil || !key.Public().(*ecdsa.PublicKey).Equal(back) {
				t.Errorf("%s key without leading zeros = %v, %v", name, back, err)
			}
		}
	}
	for name, key := range map[string]crypto.PublicKey{"P-224": &ecdsa.PublicKey{Curve: elliptic.P224()}, "text": "key"} {
		if _, err := tpm2.NewPublic(key); !errors.Is(err, tpm2.ErrKey) {
			t.Errorf("NewPublic(%s) = %v, want ErrKey", name, err)
		}
	}
}

func TestDerivationsAgreeWithGoTPM(t *testing.T) {
	r := structtest.New(7)
	for range 100 {
		alg := r.Hash()
		h, _ := alg.Hash()
		key, u, v, bits := append(r.UpTo(63), 1), r.UpTo(40), r.UpTo(40), 8*(1+r.IntN(128))
		got, err := tpm2.KDFa(alg, key, "LABEL", u, v, bits)
		if want := gotpm.KDFa(h, key, "LABEL", u, v, bits); err != nil || !bytes.Equal(got, want) {
			t.Errorf("KDFa = %x, %v, want %x", got, err, want)
		}
		got, err = tpm2.KDFe(alg, key, "USE", u, v, bits)
		if want := gotpm.KDFe(h, key, "USE", u, v, bits); err != nil || !bytes.Equal(got, want) {
			t.Errorf("KDFe = %x, %v, want %x", got, err, want)
		}
	}
	whole, _ := tpm2.KDFe(tpm2.AlgSHA512, []byte("z"), "USE", nil, nil, 528)
	part, _ := tpm2.KDFe(tpm2.AlgSHA512, []byte("z"), "USE", nil, nil, 521)
	whole[0] &= 1
	if !bytes.Equal(whole, part) {
		t.Errorf("521 bits = %x, want the low bits of %x", part, whole)
	}
	for _, bits := range []int{0, -8, 1 << 20} {
		if _, err := tpm2.KDFa(tpm2.AlgSHA256, nil, "", nil, nil, bits); err == nil {
			t.Errorf("KDFa derives %d bits", bits)
		}
	}
	if _, err := tpm2.KDFa(tpm2.AlgSM3, nil, "", nil, nil, 128); err == nil {
		t.Error("KDFa works with SM3, which Go does not have")
	}
}

func TestRecordedNameIsRight(t *testing.T) {
	var v struct {
		AKName         string `json:"ak_name"`
		CredentialBlob string `json:"credential_blob"`
	}
	if err := json.Unmarshal(read(t, "activate-credential.json"), &v); err != nil {
		t.Fatal(err)
	}
	name, err := parsePublic(t, "ak-ecc.tpmt_public").Name()
	if err != nil || hex.EncodeToString(name) != v.AKName {
		t.Errorf("Name = %x, %v, want %s", name, err, v.AKName)
	}
	b, _ := hex.DecodeString(v.CredentialBlob)
	var id tpm2.IDObject
	if err := wire.Decode(b, &id); err != nil || len(id.IntegrityHMAC) != 32 || len(id.EncIdentity) != 34 {
		t.Errorf("credential of the TPM = %+v, %v", id, err)
	}
	if name, err := (&tpm2.Public{NameAlg: tpm2.AlgNull}).Name(); name != nil || err != nil {
		t.Errorf("Name without an algorithm = %x, %v", name, err)
	}
}

func TestQuotesCarryTheQualifiedName(t *testing.T) {
	// Part 1, 16: the AK is a primary under the endorsement hierarchy, 0x4000000b.
	p := parsePublic(t, "ak-ecc.tpmt_public")
	name, err := p.Name()
	if err != nil {
		t.Fatal(err)
	}
	got, err := tpm2.QualifiedName(p.NameAlg, []byte{0x40, 0, 0, 0x0b}, name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := tpm2.ParseAttest(read(t, "quote-ecc-sha256.attest"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, a.QualifiedSigner) {
		t.Errorf("QualifiedName = %x, the quote says %x", got, a.QualifiedSigner)
	}
}

// storageKey makes a private key and its public area after template.
func storageKey(t *testing.T, template tpm2.Public) (*tpm2.Public, crypto.Signer) {
	t.Helper()
	var key crypto.Signer
	var err error
	if template.Type == tpm2.AlgRSA {
		key, err = rsa.GenerateKey(rand.Reader, int(template.Parameters.RSA.KeyBits))
	} else {
		curve := map[tpm2.ECCCurve]elliptic.Curve{tpm2.CurveNISTP256: elliptic.P256(), tpm2.CurveNISTP384: elliptic.P384(), tpm2.CurveNISTP521: elliptic.P521()}
		key, err = ecdsa.GenerateKey(curve[template.Parameters.ECC.CurveID], rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	other, err := tpm2.NewPublic(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	template.Unique = other.Unique
	return &template, key
}

// activate is TPM2_ActivateCredential (Part 3, 12.5), by go-tpm's derivations.
func activate(t *testing.T, p *tpm2.Public, key crypto.Signer, name []byte, c *tpm2.Credential) ([]byte, error) {
	t.Helper()
	h, _ := p.NameAlg.Hash()
	var seed []byte
	bits := 0
	switch k := key.(type) {
	case *rsa.PrivateKey:
		var err error
		if seed, err = rsa.DecryptOAEP(h.New(), nil, k, c.Secret, []byte("IDENTITY\x00")); err != nil {
			return nil, err
		}
		bits = int(p.Parameters.RSA.Symmetric.KeyBits)
	case *ecdsa.PrivateKey:
		var point tpm2.ECCPoint
		if err := wire.Decode(c.Secret, &point); err != nil {
			return nil, err
		}
		own, err := k.ECDH()
		if err != nil {
			return nil, err
		}
		peer, err := own.Curve().NewPublicKey(append(append([]byte{4}, point.X...), point.Y...))
		if err != nil {
			return nil, err
		}
		z, err := own.ECDH(peer)
		if err != nil {
			return nil, err
		}
		x := func(k *ecdh.PublicKey) []byte { b := k.Bytes(); return b[1 : 1+len(b)/2] }
		seed = gotpm.KDFe(h, z, "IDENTITY", x(peer), x(own.PublicKey()), h.Size()*8)
		bits = int(p.Parameters.ECC.Symmetric.KeyBits)
	}
	var id tpm2.IDObject
	if err := wire.Decode(c.Blob, &id); err != nil {
		return nil, err
	}
	mac := hmac.New(h.New, gotpm.KDFa(h, seed, "INTEGRITY", nil, nil, h.Size()*8))
	mac.Write(id.EncIdentity)
	mac.Write(name)
	if !hmac.Equal(mac.Sum(nil), id.IntegrityHMAC) {
		return nil, tpm2.RCIntegrity.Of(tpm2.RCParameter, 1)
	}
	block, err := aes.NewCipher(gotpm.KDFa(h, seed, "STORAGE", name, nil, bits))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(id.EncIdentity))
	//lint:ignore SA1019 Part 1, 24.4 asks for CFB
	cipher.NewCFBDecrypter(block, make([]byte, 16)).XORKeyStream(plain, id.EncIdentity)
	var secret tpm2.Digest2B
	err = wire.Decode(plain, &secret)
	return secret, err
}

func TestCredentialsActivateOnlyForTheirEKAndName(t *testing.T) {
	secret := []byte("credential of 31 bytes in all..")
	name := append([]byte{0, 0x0b}, bytes.Repeat([]byte{7}, 32)...)
	for _, template := range tpm2.EKTemplates() {
		t.Run(template.Name, func(t *testing.T) {
			if testing.Short() && template.Name == "H-6" {
				t.Skip("RSA-3072 key generation is slow")
			}
			ek, key := storageKey(t, template.Public)
			if got, ok := tpm2.EKTemplateOf(ek); !ok || got.Name != template.Name {
				t.Errorf("EKTemplateOf = %q, %v, want %q", got.Name, ok, template.Name)
			}
			cred, err := tpm2.MakeCredential(rand.Reader, ek, name, secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := activate(t, ek, key, name, cred); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("activated credential = %q, %v, want %q", got, err, secret)
			}
			other := bytes.Clone(name)
			other[9] ^= 1
			if got, err := activate(t, ek, key, other, cred); err != tpm2.RCIntegrity.Of(tpm2.RCParameter, 1) {
				t.Errorf("activated for another name = %q, %v, want TPM_RC_INTEGRITY", got, err)
			}
			b, err := wire.Encode(ek)
			if err != nil {
				t.Fatal(err)
			}
			gp, err := gotpm.Unmarshal[gotpm.TPMTPublic](b)
			if err != nil {
				t.Fatal(err)
			}
			gk, err := gotpm.ImportEncapsulationKey(gp)
			if err != nil {
				t.Fatal(err)
			}
			blob, enc, err := gotpm.CreateCredential(rand.Reader, gk, name, secret)
			if err != nil {
				t.Fatal(err)
			}
			if len(blob) != len(cred.Blob) || len(enc) != len(cred.Secret) {
				t.Errorf("go-tpm's credential has %d and %d bytes, ours %d and %d", len(blob), len(enc), len(cred.Blob), len(cred.Secret))
			}
		})
	}
}

func TestCredentialsAreRefusedForOtherKeys(t *testing.T) {
	ek := parsePublic(t, "ek-rsa2048.tpmt_public")
	name := make([]byte, 34)
	edit := func(f func(p *tpm2.Public)) *tpm2.Public { p := *ek; f(&p); return &p }
	for label, tc := range map[string]struct {
		ek           *tpm2.Public
		name, secret []byte
	}{
		"signing key":      {parsePublic(t, "ak-rsa.tpmt_public"), name, []byte{1}},
		"unrestricted":     {edit(func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrRestricted }), name, []byte{1}},
		"no symmetric":     {edit(func(p *tpm2.Public) { p.Parameters.RSA.Symmetric.Algorithm = tpm2.AlgNull }), name, []byte{1}},
		"CBC":              {edit(func(p *tpm2.Public) { p.Parameters.RSA.Symmetric.Mode = tpm2.AlgCBC }), name, []byte{1}},
		"no secret":        {ek, name, nil},
		"secret too long":  {ek, name, make([]byte, 33)},
		"no name":          {ek, nil, []byte{1}},
		"name too long":    {ek, make([]byte, 67), []byte{1}},
		"broken modulus":   {edit(func(p *tpm2.Public) { p.Unique.RSA = nil }), name, []byte{1}},
		"hash of the logs": {edit(func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSM3 }), name, []byte{1}},
		"sealed data":      {&tpm2.Public{Type: tpm2.AlgKeyedHash, Attributes: tpm2.AttrRestricted | tpm2.AttrDecrypt}, name, []byte{1}},
	} {
		if c, err := tpm2.MakeCredential(rand.Reader, tc.ek, tc.name, tc.secret); err == nil {
			t.Errorf("%s: MakeCredential = %v", label, c)
		}
	}
	if _, err := tpm2.MakeCredential(bytes.NewReader(nil), ek, name, []byte{1}); err == nil {
		t.Error("MakeCredential works without randomness")
	}
	if _, err := tpm2.MakeCredential(rand.Reader, ek, name, []byte{1}); err != nil {
		t.Errorf("MakeCredential for the recorded key = %v", err)
	}
}

func TestEKPoliciesFollowFromTheirDefinition(t *testing.T) {
	// EK Credential Profile, B.6: PolicyA is PolicySecret(TPM_RH_ENDORSEMENT) with an empty policyRef.
	first := sha256.Sum256(append(make([]byte, 32), 0, 0, 1, 0x51, 0x40, 0, 0, 0x0b))
	a := sha256.Sum256(first[:])
	low, high := tpm2.EKTemplates()[0].Public.AuthPolicy, tpm2.EKTemplates()[2].Public.AuthPolicy
	if !bytes.Equal(a[:], low) {
		t.Errorf("PolicyA = %x, want %x", low, a)
	}
	// PolicyB is PolicyOR of A and C, the policy kept in NV index 0x01c07f01.
	c, _ := hex.DecodeString("3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde")
	b := sha256.Sum256(append(append(append(make([]byte, 32), 0, 0, 1, 0x71), a[:]...), c...))
	if !bytes.Equal(b[:], high) {
		t.Errorf("PolicyB = %x, want %x", high, b)
	}
	if _, ok := tpm2.EKTemplateOf(parsePublic(t, "ek-rsa2048.tpmt_public")); !ok {
		t.Error("the recorded EK follows no template")
	}
	if got, ok := tpm2.EKTemplateOf(parsePublic(t, "ak-rsa.tpmt_public")); ok {
		t.Errorf("an AK follows EK template %s", got.Name)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"rsa", "ecc"} {
		b.Run(kind, func(b *testing.B) {
			v, err := tpm2.NewVerifier(parsePublic(b, "ak-"+kind+".tpmt_public"))
			if err != nil {
				b.Fatal(err)
			}
			sig, err := tpm2.ParseSignature(read(b, "quote-"+kind+"-sha256.sig"))
			if err != nil {
				b.Fatal(err)
			}
			msg := read(b, "quote-"+kind+"-sha256.attest")
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Verify(msg, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
