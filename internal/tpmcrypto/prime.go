package tpmcrypto

import (
	"fmt"
	"io"
	"math/bits"
	"sync"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/tpm2"
)

// sieveBound is the end of the primes that candidates are divided by before they
// are tested. Longer costs more in divisions than it saves in tests. It decides
// how much of the reader a search takes and so is part of the promise of [Seeded].
const sieveBound = 1 << 14

// A sieveGroup is primes whose product is one divisor.
type sieveGroup struct {
	product uint64
	primes  []uint64
}

// sieveGroups are the odd primes below sieveBound.
var sieveGroups = sync.OnceValue(func() []sieveGroup { return groupPrimes(sieveBound) })

// groupPrimes returns the odd primes below a bound, in their order.
func groupPrimes(bound uint64) []sieveGroup {
	composite := make([]bool, bound)
	groups := []sieveGroup{{product: 1}}
	for p := uint64(3); p < bound; p += 2 {
		if composite[p] {
			continue
		}
		for q := p * p; q < bound; q += 2 * p {
			composite[q] = true
		}
		g := &groups[len(groups)-1]
		if hi, lo := bits.Mul64(g.product, p); hi == 0 {
			g.product, g.primes = lo, append(g.primes, p)
		} else {
			groups = append(groups, sieveGroup{p, []uint64{p}})
		}
	}
	return groups
}

// hasSmallFactor reports whether an odd prime below sieveBound divides x.
func hasSmallFactor(x []uint64) bool {
	for _, g := range sieveGroups() {
		r := modShort(x, g.product)
		for _, p := range g.primes {
			if r%p == 0 {
				return true
			}
		}
	}
	return false
}

// randomPrime searches a probable prime of size bytes with its two highest bits
// set, so that a product of two has twice the bits, and with p-1 prime to e
// (FIPS 186-5, A.1.3, step 4). Each candidate is new from r: size bytes for the
// candidate, and for one without a small factor size bytes for each base that is
// tried. What is read, and in what order, is part of the promise of [Seeded].
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
		if hasSmallFactor(x) {
			continue
		}
		ok, err := probablyPrime(r, p, millerRabinRounds(size))
		if err != nil {
			return nil, err
		}
		if !ok {
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
