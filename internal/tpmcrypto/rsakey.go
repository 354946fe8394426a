package tpmcrypto

import (
	"bytes"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/tpm2"
)

// DefaultExponent is what an exponent of zero means (Part 2, 12.2.3.5).
const DefaultExponent = 65537

// An RSAPublic is the public half of an RSA key, prepared for use. It is
// immutable and safe for concurrent use.
type RSAPublic struct {
	n *bigmod.Modulus
	e uint32
}

// NewRSAPublic prepares a modulus of 1024, 2048, 3072 or 4096 bits, big endian,
// and an odd exponent from 3, or 0 for 65537. Refusals: TPM_RC_KEY for another
// size, a first bit that is not set, or an even modulus; TPM_RC_RANGE for the exponent.
func NewRSAPublic(modulus []byte, exponent uint32) (*RSAPublic, error) {
	e, err := rsaExponent(exponent)
	if err != nil {
		return nil, err
	}
	if !rsaBits(8*len(modulus)) || modulus[0] < 0x80 {
		return nil, refuse(tpm2.RCKey, "RSA modulus of %d bytes is not of a size that there is", len(modulus))
	}
	if modulus[len(modulus)-1]&1 == 0 {
		return nil, refuse(tpm2.RCKey, "RSA modulus is even")
	}
	n, err := bigmod.NewModulus(modulus)
	if err != nil {
		return nil, refuse(tpm2.RCKey, "prepare RSA modulus: %v", err)
	}
	return &RSAPublic{n, e}, nil
}

// rsaBits says which key sizes there are (Part 2, 11.2.4.6); 1024 is for profiles
// to allow or not.
func rsaBits(bits int) bool { return bits == 1024 || bits == 2048 || bits == 3072 || bits == 4096 }

func rsaExponent(e uint32) (uint32, error) {
	if e == 0 {
		return DefaultExponent, nil
	}
	if e < 3 || e%2 == 0 {
		return 0, refuse(tpm2.RCRange, "RSA exponent %d", e)
	}
	return e, nil
}

// Size is that of the modulus, and of every block, in bytes.
//
//go:noinline
func (k *RSAPublic) Size() int { return k.n.Size() }

// Modulus returns the modulus, big endian.
func (k *RSAPublic) Modulus() []byte { return k.n.Nat().Bytes(k.n) }

// Exponent returns the exponent, never 0.
func (k *RSAPublic) Exponent() uint32 { return k.e }

// public is RSAEP and RSAVP1 (RFC 8017, 5.1.1, 5.2.2). The block has the size of
// the modulus; ok is false when its value is not below the modulus.
func (k *RSAPublic) public(block []byte) (out []byte, ok bool) {
	x, err := bigmod.NewNat().SetBytes(block, k.n)
	if err != nil {
		return nil, false
	}
	return bigmod.NewNat().ExpShortVarTime(x, uint(k.e), k.n).Bytes(k.n), true
}

// An RSAKey is an RSA private key, prepared for use once per loaded object. It is
// safe for concurrent use.
type RSAKey struct {
	RSAPublic
	p, q   *bigmod.Modulus
	dp, dq []byte // the exponents of the Chinese remainder theorem (RFC 8017, 3.2)
	qInv   func() *bigmod.Nat
	fips   func() *fipsRSA

	inverted atomic.Bool // qInv takes no time any more
}

// GenerateRSA makes a key of 1024, 2048, 3072 or 4096 bits with an odd exponent
// from 3, or 0 for 65537 (FIPS 186-5, A.1.3). Equal bytes from r give equal keys
// in every version of this project. Refusals: TPM_RC_VALUE for another size,
// TPM_RC_RANGE for the exponent.
func GenerateRSA(r io.Reader, bits int, exponent uint32) (*RSAKey, error) {
	e, err := rsaExponent(exponent)
	if err != nil {
		return nil, err
	}
	if !rsaBits(bits) {
		return nil, refuse(tpm2.RCValue, "RSA key of %d bits", bits)
	}
	if k, ok := generateFIPS(r, bits, e); ok {
		return k, nil
	}
	return generateRSA(e, func() ([]byte, error) { return randomPrime(r, bits/16, e) })
}

// generateRSA makes a key of the first two primes that are far enough apart. The
// one that a TPM keeps is the first.
func generateRSA(e uint32, prime func() ([]byte, error)) (*RSAKey, error) {
	p, err := prime()
	if err != nil {
		return nil, err
	}
	for {
		q, err := prime()
		if err != nil {
			return nil, err
		}
		if !farApart(p, q) {
			continue
		}
		n, err := bigmod.NewModulusProduct(p, q)
		if err != nil {
			return nil, refuse(tpm2.RCNoResult, "multiply primes: %v", err)
		}
		return newRSAKey(RSAPublic{n, e}, p, q)
	}
}

// farApart says that |p-q| > 2^(nlen/2-100) (FIPS 186-5, A.1.3, step 5.4).
func farApart(p, q []byte) bool {
	x, y := limbsOf(p), limbsOf(q)
	diff, neg := make([]uint64, len(x)), make([]uint64, len(x))
	var b0, b1 uint64
	for i := range x {
		diff[i], b0 = bits.Sub64(x[i], y[i], b0)
		neg[i], b1 = bits.Sub64(y[i], x[i], b1)
	}
	if b0 != 0 {
		diff = neg
	}
	// Anything in the highest 100 bits will do; a difference of just 2^(nlen/2-100) is odd.
	return diff[len(diff)-1] != 0 || diff[len(diff)-2]>>28 != 0
}

// LoadRSA prepares a key from its public area and one prime, of half the size of
// the modulus, as a TPM keeps it (Part 2, 12.3.2.2). It does not test whether the
// factors are primes: with others, use of the key is TPM_RC_BINDING. Refusals:
// those of [NewRSAPublic], TPM_RC_KEY_SIZE for the size of the prime, and
// TPM_RC_BINDING when the parts do not belong together.
func LoadRSA(modulus []byte, exponent uint32, prime []byte) (*RSAKey, error) {
	public, err := NewRSAPublic(modulus, exponent)
	if err != nil {
		return nil, err
	}
	if 2*len(prime) != len(modulus) || prime[0] < 0x80 {
		return nil, refuse(tpm2.RCKeySize, "RSA prime of %d bytes for a modulus of %d", len(prime), len(modulus))
	}
	if prime[len(prime)-1]&1 == 0 {
		return nil, refuse(tpm2.RCBinding, "RSA prime is even")
	}
	prime = bytes.Clone(prime)
	other := bytesOf(divExact(limbsOf(modulus), limbsOf(prime)))
	product, err := bigmod.NewModulusProduct(prime, other)
	if err != nil || product.Size() != len(modulus) || product.Nat().Equal(public.n.Nat()) == 0 {
		return nil, refuse(tpm2.RCBinding, "prime does not divide the RSA modulus")
	}
	return newRSAKey(*public, prime, other)
}

func newRSAKey(public RSAPublic, p, q []byte) (*RSAKey, error) {
	k := &RSAKey{RSAPublic: public}
	var okP, okQ bool
	k.dp, okP = crtExponent(p, public.e)
	k.dq, okQ = crtExponent(q, public.e)
	if !okP || !okQ {
		return nil, refuse(tpm2.RCBinding, "RSA exponent %d has no inverse", public.e)
	}
	var errP, errQ error
	k.p, errP = bigmod.NewModulus(p)
	k.q, errQ = bigmod.NewModulus(q)
	if errP != nil || errQ != nil {
		return nil, refuse(tpm2.RCBinding, "RSA factor is 1")
	}
	k.qInv = sync.OnceValue(k.inverseOfQ)
	k.fips = sync.OnceValue(k.newFIPS)
	return k, nil
}

// crtExponent returns 1/e mod (p-1): as e is short, that is (k(p-1) + 1)/e for
// the k below e that makes it whole.
func crtExponent(p []byte, e uint32) (d []byte, ok bool) {
	minus1 := subShort(limbsOf(p), 1)
	inverse, ok := inverseShort(modShort(minus1, uint64(e)), uint64(e))
	if !ok {
		return nil, false
	}
	return bytesOf(mulAddDiv(minus1, uint64(e)-inverse, uint64(e))), true
}

// inverseOfQ returns 1/q mod p by Fermat's little theorem, in constant time. It
// waits for the first use of the key, as it costs as much as half of one.
func (k *RSAKey) inverseOfQ() *bigmod.Nat {
	exponent := bytesOf(subShort(limbsOf(k.Prime()), 2))
	inverse := bigmod.NewNat().Exp(bigmod.NewNat().Mod(k.q.Nat(), k.p), exponent, k.p)
	k.inverted.Store(true)
	return inverse
}

// Prime returns the prime that a TPM keeps as the sensitive area. It is secret.
func (k *RSAKey) Prime() []byte { return k.p.Nat().Bytes(k.p) }

// Numbers returns the five numbers of the private key, each half as long as the
// modulus: the primes, their exponents, and the inverse of the second prime
// (Part 2, 11.2.4.7). They are secret.
func (k *RSAKey) Numbers() []byte {
	half := k.p.Size()
	b := make([]byte, 0, 5*half)
	for _, n := range [][]byte{k.p.Nat().Bytes(k.p), k.q.Nat().Bytes(k.q), k.dp, k.dq, k.qInv().Bytes(k.p)} {
		b = append(b, make([]byte, half-len(n))...)
		b = append(b, n...)
	}
	return b
}

// LoadRSANumbers is [LoadRSA] with what [RSAKey.Numbers] returned in place of the
// prime. The first use of the key is then as fast as any other. An inverse that is
// wrong is told by then, as TPM_RC_BINDING; the caller has protected the numbers.
func LoadRSANumbers(modulus []byte, exponent uint32, numbers []byte) (*RSAKey, error) {
	half := len(modulus) / 2
	if len(numbers) != 5*half {
		return nil, refuse(tpm2.RCKeySize, "RSA private key of %d bytes for a modulus of %d", len(numbers), len(modulus))
	}
	return LoadRSAInverse(modulus, exponent, numbers[:half], numbers[4*half:])
}

// LoadRSAInverse is [LoadRSANumbers] with those two that cannot be found fast: the
// first prime, and what [RSAKey.Inverse] returned.
func LoadRSAInverse(modulus []byte, exponent uint32, prime, inverse []byte) (*RSAKey, error) {
	k, err := LoadRSA(modulus, exponent, prime)
	if err != nil {
		return nil, err
	}
	known, err := bigmod.NewNat().SetBytes(inverse, k.p)
	if err != nil {
		return nil, refuse(tpm2.RCBinding, "inverse of an RSA prime is not below the other")
	}
	k.qInv = func() *bigmod.Nat { return known }
	k.inverted.Store(true)
	return k, nil
}

// Inverse returns the inverse of the second prime, of the size of the first, if a
// use of the key has found it already. It is secret.
func (k *RSAKey) Inverse() (inverse []byte, known bool) {
	if !k.inverted.Load() {
		return nil, false
	}
	return k.qInv().Bytes(k.p), true
}

// private is RSADP and RSASP1 by the Chinese remainder theorem (RFC 8017, 5.1.2).
// The block has the size of the modulus. The result leaves only after the public
// operation has led back from it: a fault would tell a factor. Refusals are
// TPM_RC_VALUE for a value that is not below the modulus (Part 3, 14.3.1), and
// TPM_RC_BINDING for a result that does not lead back.
func (k *RSAKey) private(block []byte) ([]byte, error) {
	c, err := bigmod.NewNat().SetBytes(block, k.n)
	if err != nil {
		return nil, refuse(tpm2.RCValue, "value is not below the RSA modulus")
	}
	t := bigmod.NewNat()
	m := bigmod.NewNat().Exp(t.Mod(c, k.p), k.dp, k.p)
	mq := bigmod.NewNat().Exp(t.Mod(c, k.q), k.dq, k.q)
	m.Sub(t.Mod(mq, k.p), k.p)
	m.Mul(k.qInv(), k.p)
	m.ExpandFor(k.n).Mul(t.Mod(k.q.Nat(), k.n), k.n)
	m.Add(mq.ExpandFor(k.n), k.n)
	if t.ExpShortVarTime(m, uint(k.e), k.n).Equal(c) == 0 {
		return nil, refuse(tpm2.RCBinding, "RSA private operation does not match the public key")
	}
	return m.Bytes(k.n), nil
}
