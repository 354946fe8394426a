package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"testing"
)

// signRaw returns r and s as a JWS has them.
func signRaw(tb testing.TB, key *ecdsa.PrivateKey, digest []byte) []byte {
	tb.Helper()
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		tb.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, scalarSize)), s.FillBytes(make([]byte, scalarSize))...)
}

func newP256(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func mustOwnCheck(tb testing.TB, key *ecdsa.PrivateKey) *ownCheck {
	tb.Helper()
	c, err := newOwnCheck(key)
	if err != nil {
		tb.Fatal(err)
	}
	if c == nil {
		tb.Skip("FIPS mode leaves the check to the validated module")
	}
	return c
}

func ordinary(key *ecdsa.PublicKey, digest, sig []byte) bool {
	r, s := new(big.Int).SetBytes(sig[:scalarSize]), new(big.Int).SetBytes(sig[scalarSize:])
	return ecdsa.Verify(key, digest, r, s)
}

func TestOwnCheckAgreesWithTheOrdinaryVerification(t *testing.T) {
	n := elliptic.P256().Params().N
	var good, bad int
	for range 40 {
		key := newP256(t)
		c := mustOwnCheck(t, key)
		for range 5 {
			var digest [sha256.Size]byte
			rand.Read(digest[:])
			sig := signRaw(t, key, digest[:])
			cases := [][]byte{sig}
			for _, bit := range []int{0, 1, 7, 100, 255, 256, 300, 511} {
				flipped := append([]byte(nil), sig...)
				flipped[bit/8] ^= 0x80 >> (bit % 8)
				cases = append(cases, flipped)
			}
			// (r, n-s) is valid too: both must say so.
			mirrored := append([]byte(nil), sig...)
			new(big.Int).Sub(n, new(big.Int).SetBytes(sig[scalarSize:])).FillBytes(mirrored[scalarSize:])
			random := make([]byte, 2*scalarSize)
			rand.Read(random)
			for _, s := range append(cases, mirrored, random, signRaw(t, newP256(t), digest[:])) {
				got, want := c.verify(digest[:], s), ordinary(&key.PublicKey, digest[:], s)
				if got != want {
					t.Fatalf("verify(%x, %x) = %v, ecdsa.Verify = %v", digest, s, got, want)
				}
				if got {
					good++
				} else {
					bad++
				}
			}
			digest[3] ^= 1
			if c.verify(digest[:], sig) {
				t.Fatalf("verify accepts %x for another digest", sig)
			}
		}
	}
	if good != 400 || bad == 0 {
		t.Errorf("%d accepted, %d refused; want 400 accepted: each signature and its mirror", good, bad)
	}
}

func TestOwnCheckRefusesScalarsOutOfRange(t *testing.T) {
	key := newP256(t)
	c := mustOwnCheck(t, key)
	n := elliptic.P256().Params().N
	scalar := func(x *big.Int) []byte { return x.FillBytes(make([]byte, scalarSize)) }
	digest := sha256.Sum256([]byte("message"))
	sig := signRaw(t, key, digest[:])
	r, s := sig[:scalarSize], sig[scalarSize:]
	highest := make([]byte, scalarSize)
	for i := range highest {
		highest[i] = 0xFF
	}
	for name, tc := range map[string][2][]byte{
		"r is 0":       {scalar(new(big.Int)), s},
		"s is 0":       {r, scalar(new(big.Int))},
		"both are 0":   {scalar(new(big.Int)), scalar(new(big.Int))},
		"r is n":       {scalar(n), s},
		"s is n":       {r, scalar(n)},
		"r is highest": {highest, s},
		"s is highest": {r, highest},
		"r is short":   {r[1:], s},
		"s is long":    {r, append(append([]byte(nil), s...), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			if c.verify(digest[:], append(append([]byte(nil), tc[0]...), tc[1]...)) {
				t.Error("accepted")
			}
		})
	}
	if !c.verify(digest[:], sig) {
		t.Error("the good signature is refused")
	}
}

// A signature for which z + r*d = 0 has the point at infinity as R: no verifier accepts it.
func TestOwnCheckRefusesThePointAtInfinity(t *testing.T) {
	key := newP256(t)
	c := mustOwnCheck(t, key)
	n := elliptic.P256().Params().N
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	r := big.NewInt(12345)
	z := new(big.Int).Mul(r, new(big.Int).SetBytes(scalar))
	z.Sub(n, z.Mod(z, n))
	digest := z.FillBytes(make([]byte, scalarSize))
	sig := append(r.FillBytes(make([]byte, scalarSize)), r.FillBytes(make([]byte, scalarSize))...)
	if c.verify(digest, sig) {
		t.Error("accepted")
	}
	if ordinary(&key.PublicKey, digest, sig) {
		t.Error("the ordinary verification accepts it")
	}
}

// A digest of n or above is reduced by both (FIPS 186-5, 6.4.2, step 2).
func TestOwnCheckReducesTheDigest(t *testing.T) {
	key := newP256(t)
	c := mustOwnCheck(t, key)
	digest := make([]byte, scalarSize)
	for i := range digest {
		digest[i] = 0xFF
	}
	if sig := signRaw(t, key, digest); !c.verify(digest, sig) {
		t.Error("refused")
	}
}

func TestOwnCheckNeedsTheMatchingPublicKey(t *testing.T) {
	key, other := newP256(t), newP256(t)
	mustOwnCheck(t, key)
	key.PublicKey = other.PublicKey
	if _, err := newOwnCheck(key); err == nil {
		t.Error("a private key with another's public key is accepted")
	}
}

func BenchmarkOwnCheck(b *testing.B) {
	key := newP256(b)
	c := mustOwnCheck(b, key)
	digest := sha256.Sum256([]byte("message"))
	sig := signRaw(b, key, digest[:])
	b.ReportAllocs()
	for b.Loop() {
		if !c.verify(digest[:], sig) {
			b.Fatal("refused")
		}
	}
}
