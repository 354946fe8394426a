package tpm2

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

func TestRSAVerifierAgreesWithTheStandardLibrary(t *testing.T) {
	for _, bits := range []int{2048, 3072} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		v := newRSAVerifier(&key.PublicKey)
		if v == nil {
			t.Skip("crypto/rsa does the work in FIPS 140-3 mode")
		}
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := bytes.Repeat([]byte{7}, h.Size())
			sig, err := rsa.SignPKCS1v15(nil, key, h, digest)
			if err != nil {
				t.Fatal(err)
			}
			agree := func(what string, h crypto.Hash, digest, sig []byte, want bool) {
				t.Helper()
				got, theirs := v.verify(h, digest, sig), rsa.VerifyPKCS1v15(&key.PublicKey, h, digest, sig) == nil
				if got != want || theirs != want {
					t.Errorf("%d bits, %v, %s: %v, crypto/rsa %v, want %v", bits, h, what, got, theirs, want)
				}
			}
			agree("good", h, digest, sig, true)
			for i := range sig {
				bad := bytes.Clone(sig)
				bad[i] ^= 1 << (i % 8)
				agree("changed", h, digest, bad, false)
			}
			agree("short", h, digest, sig[1:], false)
			agree("long", h, digest, append([]byte{0}, sig...), false)
			agree("none", h, digest, nil, false)
			agree("zero", h, digest, make([]byte, len(sig)), false)
			agree("of another digest", h, bytes.Repeat([]byte{8}, h.Size()), sig, false)
			agree("of a short digest", h, digest[1:], sig, false)
			if beyond := new(big.Int).Add(new(big.Int).SetBytes(sig), key.N); beyond.BitLen() <= bits {
				agree("not below the modulus", h, digest, beyond.Bytes(), false)
			}
			for _, other := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				if other != h && v.verify(other, bytes.Repeat([]byte{7}, other.Size()), sig) {
					t.Errorf("signature by %v passes as one by %v", h, other)
				}
			}
			if v.verify(crypto.SHA1, digest, sig) || v.verify(0, digest, sig) {
				t.Errorf("signature by %v passes as one by an unknown hash", h)
			}
		}
	}
}

// TestRSAEncodingIsComparedWhole signs encodings that a parser might let pass.
func TestRSAEncodingIsComparedWhole(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	v := newRSAVerifier(&key.PublicKey)
	if v == nil {
		t.Skip("crypto/rsa does the work in FIPS 140-3 mode")
	}
	digest := bytes.Repeat([]byte{7}, 32)
	good := v.encode(crypto.SHA256, digest)
	sign := func(em []byte) []byte {
		return new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N).FillBytes(make([]byte, 256))
	}
	if !v.verify(crypto.SHA256, digest, sign(good)) {
		t.Fatal("own encoding does not verify")
	}
	for i := range good[1:] { // the first byte cannot grow: the number must stay below the modulus
		em := bytes.Clone(good)
		em[i+1] ^= 0x10
		if v.verify(crypto.SHA256, digest, sign(em)) {
			t.Errorf("encoding with byte %d changed verifies", i+1)
		}
	}
}

func TestUnusualRSAKeysAreLeftToTheStandardLibrary(t *testing.T) {
	odd := new(big.Int).SetBit(big.NewInt(1), 2047, 1)
	for name, key := range map[string]*rsa.PublicKey{
		"short":             {N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537},
		"long":              {N: new(big.Int).SetBit(big.NewInt(1), 8191, 1), E: 65537},
		"even modulus":      {N: new(big.Int).SetBit(new(big.Int), 2047, 1), E: 65537},
		"part of a byte":    {N: new(big.Int).SetBit(big.NewInt(1), 2048, 1), E: 65537},
		"even exponent":     {N: odd, E: 65536},
		"exponent 1":        {N: odd, E: 1},
		"negative exponent": {N: odd, E: -3},
	} {
		if newRSAVerifier(key) != nil {
			t.Errorf("%s: prepared", name)
		}
	}
}
