package tpmcrypto_test

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

func seededRSA(t testing.TB, bits int, e uint32) *tpmcrypto.RSAKey {
	t.Helper()
	r, err := tpmcrypto.Seeded(tpm2.AlgSHA256, pattern(64), "rsa", fmt.Appendf(nil, "%d", bits), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpmcrypto.GenerateRSA(r, bits, e)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testRSA is one key of 2048 bits for all tests.
var testRSA = sync.OnceValue(func() *tpmcrypto.RSAKey {
	r, err := tpmcrypto.Seeded(tpm2.AlgSHA256, pattern(64), "rsa", []byte("2048"), nil)
	if err != nil {
		panic(err)
	}
	k, err := tpmcrypto.GenerateRSA(r, 2048, 0)
	if err != nil {
		panic(err)
	}
	return k
})

// stdRSA is the same key for crypto/rsa.
func stdRSA(t testing.TB, k *tpmcrypto.RSAKey) *rsa.PrivateKey {
	t.Helper()
	n, p := new(big.Int).SetBytes(k.Modulus()), new(big.Int).SetBytes(k.Prime())
	q, rest := new(big.Int).QuoRem(n, p, new(big.Int))
	if rest.Sign() != 0 {
		t.Fatal("prime does not divide the modulus")
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(big.NewInt(int64(k.Exponent())), phi)
	std := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: int(k.Exponent())}, D: d, Primes: []*big.Int{p, q}}
	if err := std.Validate(); err != nil {
		t.Fatal(err)
	}
	std.Precompute()
	return std
}

// Golden: seeded keys must never change.
func TestSeededRSAKeysAreForEver(t *testing.T) {
	for _, tc := range []struct {
		bits int
		e    uint32
		want string // SHA-256 of modulus and prime
	}{
		{1024, 0, "9bc1fc38b0222135866a59f139691226374d1b2e66efe6756bb43820089a10cf"},
		{2048, 0, "35851fd891cc0058730ab72a5f1cdc16249dccf465aff4763de3263f7c77fbe4"},
		{2048, 3, "68f46d7dfa0098353063238bfbe269f1f3a0b4b47f2d25c51ede6fc9454df292"},
		{3072, 65537, "f44f31906b74cf29df52b0c7a36dd61151ff912aabace88188614ac71c97482f"},
		{4096, 0, "6d3e9ccb099e3a27bab931760af1735e7969b7968c97a84cb3bf4c3d11a86df6"},
	} {
		if tc.bits > 2048 && testing.Short() {
			continue
		}
		k := seededRSA(t, tc.bits, tc.e)
		sum := sha256.Sum256(append(k.Modulus(), k.Prime()...))
		if got := hex.EncodeToString(sum[:]); got != tc.want {
			t.Errorf("seeded key of %d bits, exponent %d is %s, want %s", tc.bits, tc.e, got, tc.want)
		}
		n, p := new(big.Int).SetBytes(k.Modulus()), new(big.Int).SetBytes(k.Prime())
		q := new(big.Int).Div(n, p)
		if n.BitLen() != tc.bits || !p.ProbablyPrime(20) || !q.ProbablyPrime(20) || new(big.Int).Mul(p, q).Cmp(n) != 0 {
			t.Errorf("key of %d bits: modulus of %d bits is not the product of two primes", tc.bits, n.BitLen())
		}
		loaded, err := tpmcrypto.LoadRSA(k.Modulus(), tc.e, k.Prime())
		if err != nil {
			t.Fatal(err)
		}
		other, err := tpmcrypto.LoadRSA(k.Modulus(), tc.e, q.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for name, k := range map[string]*tpmcrypto.RSAKey{"generated": k, "loaded": loaded, "loaded by the other prime": other} {
			sig, err := k.Sign(nil, tpm2.AlgRSASSA, tpm2.AlgSHA256, pattern(32))
			if err != nil {
				t.Errorf("%d bits, exponent %d, %s: %v", tc.bits, tc.e, name, err)
			} else if err := loaded.Verify(tpm2.AlgRSASSA, tpm2.AlgSHA256, pattern(32), sig); err != nil {
				t.Errorf("%d bits, exponent %d, %s: %v", tc.bits, tc.e, name, err)
			}
		}
	}
}

func TestRSARefusesUnusableKeys(t *testing.T) {
	k := testRSA()
	n, p := k.Modulus(), k.Prime()
	change := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] ^= v
		return b
	}
	for name, tc := range map[string]struct {
		n    []byte
		e    uint32
		p    []byte
		want tpm2.RC
	}{
		"no modulus":         {nil, 0, p, tpm2.RCKey},
		"short modulus":      {n[1:], 0, p, tpm2.RCKey},
		"small modulus":      {change(n, 0, n[0]), 0, p, tpm2.RCKey},
		"even modulus":       {change(n, 255, 1), 0, p, tpm2.RCKey},
		"exponent 1":         {n, 1, p, tpm2.RCRange},
		"even exponent":      {n, 65536, p, tpm2.RCRange},
		"no prime":           {n, 0, nil, tpm2.RCKeySize},
		"short prime":        {n, 0, p[8:], tpm2.RCKeySize},
		"small prime":        {n, 0, change(p, 0, 0x80), tpm2.RCKeySize},
		"even prime":         {n, 0, change(p, 127, 1), tpm2.RCBinding},
		"another prime":      {n, 0, change(p, 120, 1), tpm2.RCBinding},
		"another modulus":    {change(n, 100, 1), 0, p, tpm2.RCBinding},
		"modulus, high byte": {change(n, 1, 1), 0, p, tpm2.RCBinding},
	} {
		if _, err := tpmcrypto.LoadRSA(tc.n, tc.e, tc.p); !errors.Is(err, tc.want) {
			t.Errorf("%s: LoadRSA = %v, want %v", name, err, tc.want)
		}
	}
	// An exponent that divides p-1 has no inverse.
	pm := new(big.Int).Sub(new(big.Int).SetBytes(p), big.NewInt(1))
	for e := int64(3); ; e += 2 {
		if new(big.Int).Mod(pm, big.NewInt(e)).Sign() == 0 {
			if _, err := tpmcrypto.LoadRSA(n, uint32(e), p); !errors.Is(err, tpm2.RCBinding) {
				t.Errorf("LoadRSA with exponent %d = %v, want TPM_RC_BINDING", e, err)
			}
			break
		}
	}
	for name, tc := range map[string]struct {
		bits int
		e    uint32
		want tpm2.RC
	}{"size": {2047, 0, tpm2.RCValue}, "exponent": {2048, 4, tpm2.RCRange}} {
		if _, err := tpmcrypto.GenerateRSA(newDRBG(t), tc.bits, tc.e); !errors.Is(err, tc.want) {
			t.Errorf("%s: GenerateRSA = %v, want %v", name, err, tc.want)
		}
	}
	if _, err := tpmcrypto.GenerateRSA(bytes.NewReader(nil), 2048, 0); err == nil && !fips140.Enabled() {
		t.Error("GenerateRSA without randomness succeeds")
	}
}

// A modulus of composite factors loads, and no wrong result leaves it, also where the
// factor that is given is prime: the validated module looks at that one alone.
func TestAKeyOfCompositeFactorsGivesNoResult(t *testing.T) {
	for name, spoil := range map[string]func(p, q *big.Int) *big.Int{
		"the factor that is given": func(p, _ *big.Int) *big.Int { return p },
		"the other one":            func(_, q *big.Int) *big.Int { return q },
	} {
		t.Run(name, func(t *testing.T) {
			p, q := new(big.Int).SetBytes(testRSA().Prime()), new(big.Int).SetBytes(seededRSA(t, 2048, 3).Prime())
			var k *tpmcrypto.RSAKey
			var err error
			for range 20 { // until there is an inverse of the exponent
				n := spoil(p, q)
				n.Add(n, big.NewInt(2)) // some odd number
				if k, err = tpmcrypto.LoadRSA(new(big.Int).Mul(p, q).Bytes(), 65537, p.Bytes()); err == nil {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, scheme := range []tpm2.Alg{tpm2.AlgRSASSA, tpm2.AlgRSAPSS} {
				if sig, err := k.Sign(newDRBG(t), scheme, tpm2.AlgSHA256, pattern(32)); !errors.Is(err, tpm2.RCBinding) || sig != nil {
					t.Errorf("Sign by %#x = %x, %v; want TPM_RC_BINDING", scheme, sig, err)
				}
			}
		})
	}
}

var rsaHashes = []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512}

func TestRSASignaturesAgreeWithTheStandardLibrary(t *testing.T) {
	k := testRSA()
	std := stdRSA(t, k)
	for _, a := range rsaHashes {
		h, _ := a.Hash()
		digest := pattern(h.Size())
		sig, err := k.Sign(newDRBG(t), tpm2.AlgRSASSA, a, digest)
		if err != nil {
			t.Fatalf("Sign RSASSA %s: %v", a.BankName(), err)
		}
		want, err := rsa.SignPKCS1v15(nil, std, h, digest)
		if err != nil || !bytes.Equal(sig, want) {
			t.Errorf("RSASSA %s = %x, want %x, %v", a.BankName(), sig, want, err)
		}
		if err := k.Verify(tpm2.AlgRSASSA, a, digest, sig); err != nil {
			t.Errorf("Verify RSASSA %s: %v", a.BankName(), err)
		}
		pss, err := k.Sign(newDRBG(t), tpm2.AlgRSAPSS, a, digest)
		if err != nil {
			t.Fatalf("Sign RSAPSS %s: %v", a.BankName(), err)
		}
		if err := rsa.VerifyPSS(&std.PublicKey, h, digest, pss, &rsa.PSSOptions{SaltLength: h.Size()}); err != nil {
			t.Errorf("crypto/rsa on RSAPSS %s: %v", a.BankName(), err)
		}
		for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 1} {
			sig, err := rsa.SignPSS(newDRBG(t), std, h, digest, &rsa.PSSOptions{SaltLength: salt})
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Verify(tpm2.AlgRSAPSS, a, digest, sig); err != nil {
				t.Errorf("Verify RSAPSS %s with salt %d: %v", a.BankName(), salt, err)
			}
		}
		again, err := k.Sign(newDRBG(t), tpm2.AlgRSAPSS, a, digest)
		if err != nil || !bytes.Equal(again, pss) {
			t.Errorf("RSAPSS %s with the same randomness differs", a.BankName())
		}
	}
}

func TestRSASignatureRefusals(t *testing.T) {
	k, small := testRSA(), seededRSA(t, 1024, 0)
	digest := pattern(32)
	for name, tc := range map[string]struct {
		k            *tpmcrypto.RSAKey
		scheme, hash tpm2.Alg
		digest       []byte
		want         tpm2.RC
	}{
		"scheme":  {k, tpm2.AlgOAEP, tpm2.AlgSHA256, digest, tpm2.RCScheme},
		"hash":    {k, tpm2.AlgRSASSA, tpm2.AlgSM3, digest, tpm2.RCHash},
		"digest":  {k, tpm2.AlgRSAPSS, tpm2.AlgSHA256, digest[1:], tpm2.RCValue},
		"digest1": {k, tpm2.AlgRSASSA, tpm2.AlgSHA1, digest, tpm2.RCValue},
	} {
		if _, err := tc.k.Sign(newDRBG(t), tc.scheme, tc.hash, tc.digest); !errors.Is(err, tc.want) {
			t.Errorf("%s: Sign = %v, want %v", name, err, tc.want)
		}
		if err := tc.k.Verify(tc.scheme, tc.hash, tc.digest, make([]byte, tc.k.Size())); !errors.Is(err, tc.want) {
			t.Errorf("%s: Verify = %v, want %v", name, err, tc.want)
		}
	}
	// The salt is cut to what fits: 1024 bits leave 62 bytes with SHA-512.
	sig, err := small.Sign(newDRBG(t), tpm2.AlgRSAPSS, tpm2.AlgSHA512, pattern(64))
	if err != nil {
		t.Fatal(err)
	}
	if err := small.Verify(tpm2.AlgRSAPSS, tpm2.AlgSHA512, pattern(64), sig); err != nil {
		t.Errorf("Verify of a cut salt: %v", err)
	}
	for _, scheme := range []tpm2.Alg{tpm2.AlgRSASSA, tpm2.AlgRSAPSS} {
		sig, err := k.Sign(newDRBG(t), scheme, tpm2.AlgSHA256, digest)
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"short": sig[:255], "long": append(bytes.Clone(sig), 0), "empty": nil, "modulus": k.Modulus(),
			"above": bytes.Repeat([]byte{0xFF}, 256), "zero": make([]byte, 256), "other": append(bytes.Clone(sig[:255]), sig[255]^1),
		} {
			if err := k.Verify(scheme, tpm2.AlgSHA256, digest, bad); !errors.Is(err, tpm2.RCSignature) {
				t.Errorf("%s %s: Verify = %v, want TPM_RC_SIGNATURE", scheme.BankName(), name, err)
			}
		}
		other := bytes.Clone(digest)
		other[31] ^= 1
		if err := k.Verify(scheme, tpm2.AlgSHA256, other, sig); !errors.Is(err, tpm2.RCSignature) {
			t.Errorf("%s, other digest: Verify = %v, want TPM_RC_SIGNATURE", scheme.BankName(), err)
		}
		if err := k.Verify(scheme, tpm2.AlgSHA3x256, digest, sig); !errors.Is(err, tpm2.RCSignature) {
			t.Errorf("%s, other hash: Verify = %v, want TPM_RC_SIGNATURE", scheme.BankName(), err)
		}
	}
}

// Each check of EMSA-PSS-VERIFY by a block that only it refuses.
func TestRSAPSSBlocksThatAreNotQuiteRight(t *testing.T) {
	k, raw, d := testRSA(), tpm2.RSAScheme{Scheme: tpm2.AlgNull}, newDRBG(t)
	digest := pattern(32)
	for name, change := range map[string]func(em []byte){
		"nothing":    func([]byte) {},
		"last byte":  func(em []byte) { em[255] ^= 1 },
		"first bit":  func(em []byte) { em[0] |= 0x80 },
		"padding":    func(em []byte) { em[5] ^= 2 },
		"hash":       func(em []byte) { em[254] ^= 1 },
		"salt":       func(em []byte) { em[222] ^= 1 },
		"end of pad": func(em []byte) { em[256-32-1-32-1] ^= 3 },
	} {
		var sig []byte
		for sig == nil { // until the changed block is below the modulus
			good, err := k.Sign(d, tpm2.AlgRSAPSS, tpm2.AlgSHA256, digest)
			if err != nil {
				t.Fatal(err)
			}
			em, err := k.Encrypt(nil, raw, nil, good)
			if err != nil {
				t.Fatal(err)
			}
			change(em)
			sig, _ = k.Decrypt(raw, nil, em)
		}
		err := k.Verify(tpm2.AlgRSAPSS, tpm2.AlgSHA256, digest, sig)
		if name == "nothing" && err != nil || name != "nothing" && !errors.Is(err, tpm2.RCSignature) {
			t.Errorf("%s: Verify = %v", name, err)
		}
	}
}

func oaep(a tpm2.Alg) tpm2.RSAScheme { return tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: a} }

func TestRSAEncryptionAgreesWithTheStandardLibrary(t *testing.T) {
	k := testRSA()
	std := stdRSA(t, k)
	label := []byte("DUPLICATE\x00")
	for _, a := range rsaHashes {
		h, _ := a.Hash()
		for _, n := range []int{0, 1, 256 - 2*h.Size() - 2} {
			c, err := k.Encrypt(newDRBG(t), oaep(a), label, pattern(n))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := rsa.DecryptOAEP(h.New(), nil, std, c, label); err != nil || !bytes.Equal(got, pattern(n)) {
				t.Errorf("crypto/rsa on OAEP %s of %d bytes = %x, %v", a.BankName(), n, got, err)
			}
			if c, err = rsa.EncryptOAEP(h.New(), newDRBG(t), &std.PublicKey, pattern(n), label); err != nil {
				t.Fatal(err)
			}
			if got, err := k.Decrypt(oaep(a), label, c); err != nil || !bytes.Equal(got, pattern(n)) {
				t.Errorf("Decrypt OAEP %s of %d bytes = %x, %v", a.BankName(), n, got, err)
			}
		}
	}
	es := tpm2.RSAScheme{Scheme: tpm2.AlgRSAES}
	for _, n := range []int{0, 1, 100, 245} {
		c, err := k.Encrypt(newDRBG(t), es, nil, pattern(n))
		if err != nil {
			t.Fatal(err)
		}
		//lint:ignore SA1019 the TPM has this scheme
		if got, err := rsa.DecryptPKCS1v15(nil, std, c); err != nil || !bytes.Equal(got, pattern(n)) {
			t.Errorf("crypto/rsa on RSAES of %d bytes = %x, %v", n, got, err)
		}
		if got, err := k.Decrypt(es, nil, c); err != nil || !bytes.Equal(got, pattern(n)) {
			t.Errorf("Decrypt RSAES of %d bytes = %x, %v", n, got, err)
		}
	}
}

func TestRawRSA(t *testing.T) {
	k := testRSA()
	raw := tpm2.RSAScheme{Scheme: tpm2.AlgNull}
	for name, m := range map[string][]byte{"empty": nil, "short": pattern(9), "zeros before": append(make([]byte, 300), 5), "below the modulus": new(big.Int).Sub(new(big.Int).SetBytes(k.Modulus()), big.NewInt(1)).Bytes()} {
		c, err := k.Encrypt(nil, raw, nil, m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e := new(big.Int).Exp(new(big.Int).SetBytes(m), big.NewInt(65537), new(big.Int).SetBytes(k.Modulus()))
		if want := e.FillBytes(make([]byte, 256)); !bytes.Equal(c, want) {
			t.Errorf("%s: Encrypt = %x, want %x", name, c, want)
		}
		want := new(big.Int).SetBytes(m).FillBytes(make([]byte, 256))
		if got, err := k.Decrypt(raw, nil, c); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: Decrypt = %x, %v; want %x", name, got, err, want)
		}
	}
}

func TestRSAEncryptionRefusals(t *testing.T) {
	k, small := testRSA(), seededRSA(t, 1024, 0)
	es, raw := tpm2.RSAScheme{Scheme: tpm2.AlgRSAES}, tpm2.RSAScheme{Scheme: tpm2.AlgNull}
	for name, tc := range map[string]struct {
		k       *tpmcrypto.RSAKey
		scheme  tpm2.RSAScheme
		message []byte
		want    tpm2.RC
	}{
		"scheme":            {k, tpm2.RSAScheme{Scheme: tpm2.AlgRSAPSS, HashAlg: tpm2.AlgSHA256}, nil, tpm2.RCScheme},
		"raw, too long":     {k, raw, bytes.Repeat([]byte{1}, 257), tpm2.RCValue},
		"raw, modulus":      {k, raw, k.Modulus(), tpm2.RCValue},
		"RSAES, too long":   {k, es, make([]byte, 246), tpm2.RCValue},
		"OAEP, too long":    {k, oaep(tpm2.AlgSHA256), make([]byte, 191), tpm2.RCValue},
		"OAEP, hash":        {k, oaep(tpm2.AlgSM3), nil, tpm2.RCHash},
		"OAEP, hash is big": {small, oaep(tpm2.AlgSHA512), nil, tpm2.RCHash},
	} {
		if _, err := tc.k.Encrypt(newDRBG(t), tc.scheme, nil, tc.message); !errors.Is(err, tc.want) {
			t.Errorf("%s: Encrypt = %v, want %v", name, err, tc.want)
		}
	}
	// em encrypts a block of any form.
	em := func(b []byte) []byte {
		c, err := k.Encrypt(nil, raw, nil, b)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	block := func(head string, pad int, tail ...byte) []byte {
		b := append([]byte(head), bytes.Repeat([]byte{9}, pad)...)
		return append(b, tail...)
	}
	good, err := k.Encrypt(newDRBG(t), oaep(tpm2.AlgSHA256), []byte("A\x00"), []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := k.Decrypt(raw, nil, good)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.Clone(decoded)
	first[0] = 1
	for name, tc := range map[string]struct {
		scheme tpm2.RSAScheme
		c      []byte
		want   tpm2.RC
	}{
		"scheme":                   {tpm2.RSAScheme{Scheme: tpm2.AlgRSASSA}, good, tpm2.RCScheme},
		"OAEP, hash":               {oaep(tpm2.AlgSM3), good, tpm2.RCHash},
		"short":                    {es, good[1:], tpm2.RCSize},
		"long":                     {es, append(bytes.Clone(good), 0), tpm2.RCSize},
		"modulus":                  {raw, k.Modulus(), tpm2.RCValue},
		"RSAES, first byte":        {es, em(block("\x01\x02", 200, make([]byte, 54)...)), tpm2.RCValue},
		"RSAES, type":              {es, em(block("\x00\x01", 200, make([]byte, 54)...)), tpm2.RCValue},
		"RSAES, no end":            {es, em(block("\x00\x02", 254)), tpm2.RCValue},
		"RSAES, seven of padding":  {es, em(block("\x00\x02", 7, make([]byte, 247)...)), tpm2.RCValue},
		"OAEP, first byte":         {oaep(tpm2.AlgSHA256), em(first), tpm2.RCValue},
		"OAEP, other hash":         {oaep(tpm2.AlgSHA384), good, tpm2.RCValue},
		"OAEP, something":          {oaep(tpm2.AlgSHA256), em(block("\x00", 255)), tpm2.RCValue},
		"OAEP, all zeros":          {oaep(tpm2.AlgSHA256), em(nil), tpm2.RCValue},
		"OAEP of a padding byte 2": {oaep(tpm2.AlgSHA256), em(oaepBlock(t, k, 2)), tpm2.RCValue},
		"OAEP without an end":      {oaep(tpm2.AlgSHA256), em(oaepBlock(t, k, 0)), tpm2.RCValue},
		"OAEP, padding is not 0":   {oaep(tpm2.AlgSHA256), em(oaepBlock(t, k, 2, 1)), tpm2.RCValue},
	} {
		if got, err := k.Decrypt(tc.scheme, []byte("A\x00"), tc.c); !errors.Is(err, tc.want) {
			t.Errorf("%s: Decrypt = %x, %v; want %v", name, got, err, tc.want)
		}
	}
	if _, err := k.Decrypt(oaep(tpm2.AlgSHA256), []byte("B\x00"), good); !errors.Is(err, tpm2.RCValue) {
		t.Errorf("Decrypt with another label = %v, want TPM_RC_VALUE", err)
	}
	if got, err := k.Decrypt(es, nil, em(block("\x00\x02", 8, make([]byte, 246)...))); err != nil || len(got) != 245 {
		t.Errorf("Decrypt RSAES with eight bytes of padding = %d bytes, %v", len(got), err)
	}
}

// oaepBlock is an OAEP block for the label "A\0" whose padding ends with end.
func oaepBlock(t *testing.T, k *tpmcrypto.RSAKey, end ...byte) []byte {
	t.Helper()
	mask := func(out, seed []byte) {
		for i := 0; i < len(out); i += 32 {
			sum := sha256.Sum256(append(bytes.Clone(seed), 0, 0, 0, byte(i/32)))
			for j := i; j < min(i+32, len(out)); j++ {
				out[j] ^= sum[j-i]
			}
		}
	}
	em := make([]byte, k.Size())
	label := sha256.Sum256([]byte("A\x00"))
	copy(em[33:], label[:])
	copy(em[len(em)-len(end):], end)
	mask(em[33:], em[1:33])
	mask(em[1:33], em[33:])
	return em
}

func FuzzRSAVerify(f *testing.F) {
	k := testRSA()
	std := stdRSA(f, k)
	digest := pattern(32)
	for _, scheme := range []tpm2.Alg{tpm2.AlgRSASSA, tpm2.AlgRSAPSS} {
		sig, err := k.Sign(newDRBG(f), scheme, tpm2.AlgSHA256, digest)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sig, digest)
	}
	f.Add(make([]byte, 256), digest)
	f.Fuzz(func(t *testing.T, sig, digest []byte) {
		want := rsa.VerifyPKCS1v15(&std.PublicKey, crypto.SHA256, digest, sig) == nil
		if got := k.Verify(tpm2.AlgRSASSA, tpm2.AlgSHA256, digest, sig) == nil; got != want {
			t.Errorf("Verify RSASSA = %v, crypto/rsa says %v", got, want)
		}
		want = len(digest) == 32 && rsa.VerifyPSS(&std.PublicKey, crypto.SHA256, digest, sig, nil) == nil
		if got := k.Verify(tpm2.AlgRSAPSS, tpm2.AlgSHA256, digest, sig) == nil; got != want {
			t.Errorf("Verify RSAPSS = %v, crypto/rsa says %v", got, want)
		}
	})
}

func FuzzRSADecrypt(f *testing.F) {
	k := testRSA()
	std := stdRSA(f, k)
	for _, scheme := range []tpm2.RSAScheme{oaep(tpm2.AlgSHA256), {Scheme: tpm2.AlgRSAES}} {
		c, err := k.Encrypt(newDRBG(f), scheme, nil, pattern(20))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c)
		b, err := k.Decrypt(tpm2.RSAScheme{Scheme: tpm2.AlgNull}, nil, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		for _, c := range [][]byte{block, encryptRaw(k, block)} {
			got, err := k.Decrypt(tpm2.RSAScheme{Scheme: tpm2.AlgRSAES}, nil, c)
			//lint:ignore SA1019 the TPM has this scheme
			want, stdErr := rsa.DecryptPKCS1v15(nil, std, c)
			if (err == nil) != (stdErr == nil) || !bytes.Equal(got, want) {
				t.Errorf("Decrypt RSAES = %x, %v; crypto/rsa says %x, %v", got, err, want, stdErr)
			}
			got, err = k.Decrypt(oaep(tpm2.AlgSHA256), nil, c)
			want, stdErr = rsa.DecryptOAEP(crypto.SHA256.New(), nil, std, c, nil)
			if (err == nil) != (stdErr == nil) || !bytes.Equal(got, want) {
				t.Errorf("Decrypt OAEP = %x, %v; crypto/rsa says %x, %v", got, err, want, stdErr)
			}
		}
	})
}

// encryptRaw lets the fuzzer choose the block that is found after decryption.
func encryptRaw(k *tpmcrypto.RSAKey, block []byte) []byte {
	c, err := k.Encrypt(nil, tpm2.RSAScheme{Scheme: tpm2.AlgNull}, nil, block)
	if err != nil {
		return nil
	}
	return c
}

func FuzzLoadRSA(f *testing.F) {
	small, err := tpmcrypto.GenerateRSA(newDRBG(f), 1024, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small.Modulus(), uint32(0), small.Prime())
	f.Add(small.Modulus(), uint32(9), bytes.Repeat([]byte{0xFF}, 64))
	f.Fuzz(func(t *testing.T, n []byte, e uint32, p []byte) {
		k, err := tpmcrypto.LoadRSA(n, e, p)
		if err != nil {
			return
		}
		if new(big.Int).Mod(new(big.Int).SetBytes(n), new(big.Int).SetBytes(p)).Sign() != 0 {
			t.Error("LoadRSA takes a prime that does not divide the modulus")
		}
		sig, err := k.Sign(newDRBG(t), tpm2.AlgRSASSA, tpm2.AlgSHA256, pattern(32))
		if err == nil {
			err = k.Verify(tpm2.AlgRSASSA, tpm2.AlgSHA256, pattern(32), sig)
		}
		if err != nil && !errors.Is(err, tpm2.RCBinding) {
			t.Errorf("Sign = %v", err)
		}
	})
}

func BenchmarkRSA(b *testing.B) {
	k := testRSA()
	digest := pattern(32)
	sig, err := k.Sign(nil, tpm2.AlgRSASSA, tpm2.AlgSHA256, digest)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Sign2048", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Sign(nil, tpm2.AlgRSASSA, tpm2.AlgSHA256, digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Verify2048", func(b *testing.B) {
		for b.Loop() {
			if err := k.Verify(tpm2.AlgRSASSA, tpm2.AlgSHA256, digest, sig); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Load2048", func(b *testing.B) {
		n, p := k.Modulus(), k.Prime()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tpmcrypto.LoadRSA(n, 0, p); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, bits := range []int{2048, 3072} {
		b.Run(fmt.Sprintf("Generate%d", bits), func(b *testing.B) {
			d := newDRBG(b)
			for b.Loop() {
				if _, err := tpmcrypto.GenerateRSA(d, bits, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// raw is the private operation without padding.
func raw(k *tpmcrypto.RSAKey, block []byte) ([]byte, error) {
	return k.Decrypt(tpm2.RSAScheme{Scheme: tpm2.AlgNull}, nil, block)
}

func TestTheNumbersOfARSAKeyLoadIt(t *testing.T) {
	k := testRSA()
	numbers := k.Numbers()
	if len(numbers) != 640 || !bytes.Equal(numbers[:128], k.Prime()) {
		t.Fatalf("Numbers has %d bytes, want the prime and four more of 128", len(numbers))
	}
	block := make([]byte, 256)
	block[255] = 2
	want, err := raw(k, block)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tpmcrypto.LoadRSANumbers(k.Modulus(), 0, numbers)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := raw(loaded, block); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the loaded key gives %x, %v, want %x", got, err, want)
	}
	for name, tc := range map[string]struct {
		change func(b []byte) []byte
		want   tpm2.RC
	}{
		"short":              {func(b []byte) []byte { return b[:639] }, tpm2.RCKeySize},
		"prime alone":        {func(b []byte) []byte { return b[:128] }, tpm2.RCKeySize},
		"another prime":      {func(b []byte) []byte { b[127] ^= 2; return b }, tpm2.RCBinding},
		"inverse too large":  {func(b []byte) []byte { copy(b[512:], bytes.Repeat([]byte{0xff}, 128)); return b }, tpm2.RCBinding},
		"inverse of another": {func(b []byte) []byte { b[639] ^= 1; return b }, tpm2.RCBinding},
	} {
		bad, err := tpmcrypto.LoadRSANumbers(k.Modulus(), 0, tc.change(bytes.Clone(numbers)))
		if err == nil {
			_, err = raw(bad, block)
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}
