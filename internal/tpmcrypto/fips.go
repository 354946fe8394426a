package tpmcrypto

import (
	"crypto/fips140"
	"crypto/rsa"
	"io"
	"math/big"
)

// Validated reports whether the validated module computes: FIPS 140-3 mode, which a
// process is in from its start to its end, or never.
func Validated() bool { return fips140.Enabled() }

// fipsRSA is a key as the validated module takes it.
type fipsRSA struct{ key *rsa.PrivateKey } // nil when the module must not or cannot take it

// newFIPS prepares k for crypto/rsa. Its key holds secrets as big.Int, which is why
// this happens in FIPS 140-3 mode only.
func (k *RSAKey) newFIPS() *fipsRSA {
	if !fips140.Enabled() || k.n.BitLen() < 2048 || k.e > 1<<31-1 {
		return new(fipsRSA)
	}
	p, q := new(big.Int).SetBytes(k.Prime()), new(big.Int).SetBytes(k.q.Nat().Bytes(k.q))
	one := big.NewInt(1)
	pm, qm := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	lambda := new(big.Int).Mul(pm, qm)
	lambda.Div(lambda, new(big.Int).GCD(nil, nil, pm, qm))
	d := new(big.Int).ModInverse(big.NewInt(int64(k.e)), lambda)
	if d == nil {
		return new(fipsRSA)
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus()), E: int(k.e)},
		D:         d,
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	if key.Validate() != nil {
		return new(fipsRSA)
	}
	return &fipsRSA{key}
}

// Fresh reports whether the bytes of r are random and no more, as those of a
// [DRBG] are: then others may stand for them. A reader that does not say so by a
// method Fresh() bool is one whose stream decides the result, as that of [Seeded].
func Fresh(r io.Reader) bool {
	f, ok := r.(interface{ Fresh() bool })
	return ok && f.Fresh()
}

// generateFIPS makes a key with the validated module and its randomness. A key
// that must come from r's stream is not for it.
func generateFIPS(r io.Reader, bits int, e uint32) (*RSAKey, bool) {
	if !Fresh(r) || !fips140.Enabled() || bits < 2048 || e != DefaultExponent {
		return nil, false
	}
	std, err := rsa.GenerateKey(r, bits)
	if err != nil {
		return nil, false
	}
	k, err := LoadRSA(std.N.Bytes(), e, std.Primes[0].Bytes())
	return k, err == nil
}
