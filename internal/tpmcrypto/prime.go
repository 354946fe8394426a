package tpmcrypto

import (
	"bytes"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/internal/fermat"
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
// and neither is one that package fermat finds composite: the one base of either is
// read and not used. A base that took it for a prime would have led to a second one:
// of random candidates of 1024 bits fewer than one in 2^40 gives a random base that
// chance (Damgård, Landrock and Pomerance, 1993, theorem 2). What is found to be a
// prime was found so by random bases alone.
func randomPrime(r io.Reader, size int, e uint32) ([]byte, error) {
	ahead := 1
	if _, ok := Mark(r); ok && fermat.Fits(8*size) {
		ahead = fermat.Lanes
	}
	return newPrimeSearch(r, size, e, ahead).prime()
}

// A primeSearch looks at some candidates together, and has r stand behind the one that
// is taken, as if it had looked at one after the other.
type primeSearch struct {
	r     io.Reader
	size  int
	e     uint32
	ahead int // candidates that are read together
	left  int // candidates that may still be read
}

// newPrimeSearch returns a search by the bytes of r. More than one candidate may be
// read ahead if r can be marked.
func newPrimeSearch(r io.Reader, size int, e uint32, ahead int) *primeSearch {
	// Of 1024-bit candidates one in 355 is a prime: a reader that has given ten for
	// each bit of the modulus without one is broken.
	return &primeSearch{r, size, e, ahead, 10 * 16 * size}
}

// A candidate has no factor below sieveFurther. Its first base is read.
type candidate struct {
	p, base []byte
	limbs   []uint64 // of p
	back    func()   // brings the search to where it was when the base had been read
}

func (s *primeSearch) prime() ([]byte, error) {
	for {
		batch, err := s.readAhead()
		c := firstNotComposite(batch)
		if c == nil && err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		// What was read behind c, and an error that ended that, comes again if c is no prime.
		c.back()
		if ok, err := s.accept(c); err != nil {
			return nil, err
		} else if ok {
			return c.p, nil
		}
	}
}

// readAhead reads candidates, as many as are looked at together. With an error it
// returns those before it.
func (s *primeSearch) readAhead() (batch []*candidate, err error) {
	for len(batch) < s.ahead {
		c, err := s.next()
		if err != nil {
			return batch, err
		}
		batch = append(batch, c)
	}
	return batch, nil
}

// next reads up to the next candidate and its base.
func (s *primeSearch) next() (*candidate, error) {
	for ; s.left > 0; s.left-- {
		p, err := read(s.r, s.size)
		if err != nil {
			return nil, err
		}
		p[0] |= 0xC0
		p[s.size-1] |= 1
		x := limbsOf(p)
		if hasFactor(x, sieveGroups()) {
			continue
		}
		base, err := readBase(s.r, x)
		if err != nil {
			return nil, err
		}
		if hasFactor(x, furtherGroups()) {
			continue
		}
		s.left--
		return &candidate{p, base, x, s.mark()}, nil
	}
	return nil, fmt.Errorf("no prime among the candidates: random source is broken: %w", tpm2.RCNoResult)
}

// mark returns what brings the search back to where it is.
func (s *primeSearch) mark() (back func()) {
	if s.ahead == 1 {
		return func() {}
	}
	left := s.left
	reader, _ := Mark(s.r) // ok when the search began, and that is enough for all of it
	return func() { s.left = left; reader() }
}

// firstNotComposite returns the first candidate that may be a prime, as far as can be
// said of many together, or nil.
func firstNotComposite(batch []*candidate) *candidate {
	var composite [fermat.Lanes]bool
	if len(batch) > 1 {
		numbers := make([][]uint64, len(batch))
		for i, c := range batch {
			numbers[i] = c.limbs
		}
		composite = fermat.Composite(numbers...)
	}
	for i, c := range batch {
		if !composite[i] {
			return c
		}
	}
	return nil
}

// accept reports whether c is the prime that is searched.
func (s *primeSearch) accept(c *candidate) (bool, error) {
	bases := io.MultiReader(bytes.NewReader(c.base), s.r)
	if ok, err := probablyPrime(bases, c.p, millerRabinRounds(s.size)); !ok || err != nil {
		return false, err
	}
	e := uint64(s.e)
	_, ok := inverseShort(modShort(subShort(c.limbs, 1), e), e)
	return ok, nil
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

// readBase reads what randomBase reads for an odd m, without preparing m.
func readBase(r io.Reader, m []uint64) ([]byte, error) {
	minus1 := subShort(m, 1)
	two := make([]uint64, len(m))
	two[0] = 2
	for {
		b, err := read(r, 8*len(m))
		if err != nil {
			return nil, err
		}
		if x := limbsOf(b); below(x, minus1) && !below(x, two) {
			return b, nil
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
