package tpmcrypto

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/tpm2"
)

// sieveBound is the end of the primes that candidates are divided by before a base
// is drawn for them. It decides how much of the reader a search takes and so is part
// of the promise of [Seeded].
const sieveBound = 1 << 14

// sieveFurther is the end of the primes that candidates are divided by at all. Longer
// costs more in divisions than it saves in tests.
const sieveFurther = 1 << 16

// A sieveGroup is primes whose product is one divisor.
type sieveGroup struct {
	product uint64
	inverse uint64 // of product, modulo 2^64
	primes  []sievePrime
}

// A sievePrime divides just those numbers that times its inverse modulo 2^64 are not
// above the last of its multiples, divided by it.
type sievePrime struct{ prime, inverse, last uint64 }

func newSievePrime(p uint64) sievePrime { return sievePrime{p, inverse64(p), ^uint64(0) / p} }

func (p sievePrime) divides(x uint64) bool { return x*p.inverse <= p.last }

// sieveGroups are the odd primes below sieveBound, furtherGroups those from there to
// sieveFurther.
var (
	sieveGroups   = sync.OnceValue(func() []sieveGroup { return groupPrimes(3, sieveBound) })
	furtherGroups = sync.OnceValue(func() []sieveGroup { return groupPrimes(sieveBound+1, sieveFurther) })
)

// groupPrimes returns the odd primes from an odd number to below a bound, in their order.
func groupPrimes(from, bound uint64) []sieveGroup {
	composite := make([]bool, bound)
	groups := []sieveGroup{{product: 1}}
	for p := uint64(3); p < bound; p += 2 {
		if composite[p] {
			continue
		}
		for q := p * p; q < bound; q += 2 * p {
			composite[q] = true
		}
		if p < from {
			continue
		}
		if hi, _ := bits.Mul64(groups[len(groups)-1].product, p); hi != 0 {
			groups = append(groups, sieveGroup{product: 1})
		}
		g := &groups[len(groups)-1]
		g.product *= p
		g.primes = append(g.primes, newSievePrime(p))
	}
	for i := range groups {
		groups[i].inverse = inverse64(groups[i].product)
	}
	return groups
}

// hasFactor reports whether a prime of the groups divides x.
func hasFactor(x []uint64, groups []sieveGroup) bool {
	for len(groups) >= 4 {
		for i, r := range residues(x, (*[4]sieveGroup)(groups)) {
			if anyDivides(groups[i].primes, r) {
				return true
			}
		}
		groups = groups[4:]
	}
	for _, g := range groups {
		if anyDivides(g.primes, modShort(x, g.product)) {
			return true
		}
	}
	return false
}

func anyDivides(primes []sievePrime, x uint64) bool {
	for _, p := range primes {
		if p.divides(x) {
			return true
		}
	}
	return false
}

// residues returns for each product a number that has the same divisors in common
// with it as x has: x over a power of 2, negated. Each step waits for the one before
// it, so four are taken side by side, and none divides as modShort does, which takes
// a processor several times as long.
func residues(x []uint64, g *[4]sieveGroup) (r [4]uint64) {
	var c0, c1, c2, c3 uint64
	for _, v := range x {
		c0 = divideStep(v, c0, g[0].product, g[0].inverse)
		c1 = divideStep(v, c1, g[1].product, g[1].inverse)
		c2 = divideStep(v, c2, g[2].product, g[2].inverse)
		c3 = divideStep(v, c3, g[3].product, g[3].inverse)
	}
	return [4]uint64{c0, c1, c2, c3}
}

// divideStep divides a limb less what was carried by d, as if there were no rest, and
// returns what that takes from the next limb.
func divideStep(limb, carried, d, inverse uint64) uint64 {
	v, borrow := bits.Sub64(limb, carried, 0)
	hi, _ := bits.Mul64(v*inverse, d)
	return hi + borrow
}

// randomPrime searches a probable prime of size bytes with its two highest bits
// set, so that a product of two has twice the bits, and with p-1 prime to e
// (FIPS 186-5, A.1.3, step 4). Each candidate is new from r: size bytes for the
// candidate, and for one without a factor below sieveBound size bytes for each base
// that is tried. What is read, and in what order, is part of the promise of [Seeded].
//
// A candidate with a factor from sieveBound on is no prime whatever its base says,
// and its one base is read and not used. A base that took it for a prime would have
// led to a second one: of random candidates of 1024 bits fewer than one in 2^40 gives
// a random base that chance (Damgård, Landrock and Pomerance, 1993, theorem 2).
func randomPrime(r io.Reader, size int, e uint32) ([]byte, error) {
	// Of 1024-bit candidates one in 355 is a prime: a reader that has given ten for
	// each bit of the modulus without one is broken.
	for range 10 * 16 * size {
		p, err := read(r, size)
		if err != nil {
			return nil, err
		}
		p[0] |= 0xC0
		p[size-1] |= 1
		x := limbsOf(p)
		if hasFactor(x, sieveGroups()) {
			continue
		}
		if hasFactor(x, furtherGroups()) {
			if err := skipBase(r, p); err != nil {
				return nil, err
			}
			continue
		}
		if ok, err := probablyPrime(r, p, millerRabinRounds(size)); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		if _, ok := inverseShort(modShort(subShort(x, 1), uint64(e)), uint64(e)); ok {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no prime among the candidates: random source is broken: %w", tpm2.RCNoResult)
}

// probablyPrime is the Miller-Rabin test of FIPS 186-5, B.3.1, on an odd p.
func probablyPrime(r io.Reader, p []byte, rounds int) (bool, error) {
	m, err := bigmod.NewModulus(p)
	if err != nil {
		return false, nil // p is 1
	}
	minus1 := m.Nat().SubOne(m)
	a := minus1.TrailingZeroBitsVarTime()
	exponent := minus1.ShiftRightVarTime(a).Bytes(m)
	for range rounds {
		b, err := randomBase(r, m)
		if err != nil {
			return false, err
		}
		if !strongProbablePrime(m, b, exponent, a) {
			return false, nil
		}
	}
	return true, nil
}

// millerRabinRounds is at least what FIPS 186-5, table B.1, asks for without a
// Lucas test: 5 for primes of 1024 bits, 4 for longer ones.
func millerRabinRounds(size int) int {
	if size < 128 {
		return 8
	}
	return 5
}

// randomBase returns a number from 2 to m-2.
func randomBase(r io.Reader, m *bigmod.Modulus) (*bigmod.Nat, error) {
	for {
		b, err := read(r, m.Size())
		if err != nil {
			return nil, err
		}
		x, err := bigmod.NewNat().SetBytes(b, m)
		if err == nil && x.IsZero()|x.IsOne()|x.IsMinusOne(m) == 0 {
			return x, nil
		}
	}
}

// skipBase reads what randomBase reads for an odd m that is not secret.
func skipBase(r io.Reader, m []byte) error {
	minus1 := bytes.Clone(m)
	minus1[len(m)-1]--
	one := make([]byte, len(m))
	one[len(m)-1] = 1
	for {
		b, err := read(r, len(m))
		if err != nil || bytes.Compare(b, one) > 0 && bytes.Compare(b, minus1) < 0 {
			return err
		}
	}
}

// strongProbablePrime is one round: 2^a times exponent is m-1.
func strongProbablePrime(m *bigmod.Modulus, b *bigmod.Nat, exponent []byte, a uint) bool {
	z := bigmod.NewNat().Exp(b, exponent, m)
	if z.IsOne() == 1 || z.IsMinusOne(m) == 1 {
		return true
	}
	for range a - 1 {
		z.Mul(z, m)
		if z.IsMinusOne(m) == 1 {
			return true
		}
	}
	return false
}
