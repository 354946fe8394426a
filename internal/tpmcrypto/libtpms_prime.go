package tpmcrypto

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync"

	"github.com/assay-project/assay/internal/fermat"
	"github.com/assay-project/assay/tpm2"
)

// fieldBits is how many odd numbers from a candidate on libtpms looks at.
const fieldBits = 2048 * 8

// A libtpmsSearch is the search for RSA primes of libtpms.
type libtpmsSearch struct {
	r     io.Reader
	level SeedLevel
}

// prime searches a prime of size bytes with p-1 prime to e as libtpms does: from a
// random number on, in an order that the number decides.
func (s libtpmsSearch) prime(size int, e uint32) ([]byte, error) {
	for range 16 * size {
		b, err := read(s.r, size)
		if err != nil {
			return nil, err
		}
		x := limbsOf(s.adjust(b))
		if p, err := s.primeNear(x, e); p != nil || err != nil {
			return p, err
		}
	}
	return nil, fmt.Errorf("no prime near any candidate: %w", tpm2.RCNoResult)
}

// adjust makes a candidate odd and large enough that the product of two has all
// its bits: the highest bits are scaled to between the square root of a half and 1.
func (s libtpmsSearch) adjust(b []byte) []byte {
	const scale, least = 0x4AFB, 0xB505
	if s.level == SeedOriginal {
		slices.Reverse(b) // the number was made in the order of the machine
		high := uint32(binary.BigEndian.Uint16(b))
		binary.BigEndian.PutUint16(b, uint16(high*scale>>16+least))
		clear(b[2:6]) // a mask of that time kept 16 of 48 bits
	} else {
		high := binary.BigEndian.Uint32(b)
		binary.BigEndian.PutUint32(b, high>>16*scale+high&0xFFFF*scale>>16+least<<16)
	}
	b[len(b)-1] |= 1
	return b
}

// primeNear returns a prime of the field that begins near x, or nil when none of
// its numbers is one.
func (s libtpmsSearch) primeNear(x []uint64, e uint32) ([]byte, error) {
	field, base := sieveField(x)
	o := fieldOrder{field, base, uint32(x[0]) | 1<<31, field.count()}
	for batch := o.next(e); len(batch) > 0; batch = o.next(e) {
		composite := fermat.Composite(batch...)
		for i, c := range batch {
			// The base of a composite number is read all the same.
			if composite[i] {
				if _, err := readBase(s.r, c); err != nil {
					return nil, err
				}
				continue
			}
			p := bytesOf(c)
			if ok, err := probablyPrime(s.r, p, libtpmsRounds(len(p))); err != nil {
				return nil, err
			} else if ok {
				return p, nil
			}
		}
	}
	return nil, nil
}

// A fieldOrder gives the numbers of a field in the order in which libtpms tries them.
type fieldOrder struct {
	field *primeField
	base  []uint64
	first uint32
	ones  int
}

// next returns the next numbers p that have p-1 prime to e, a prime, and none when
// there are no more. The field loses them.
func (o *fieldOrder) next(e uint32) (batch [][]uint64) {
	for ; o.ones > 0 && len(batch) < fermat.Lanes; o.ones-- {
		chosen := o.field.nth(int(o.first % uint32(o.ones)))
		candidate := addShort(o.base, uint64(2*chosen))
		// p-1 must have an inverse modulo e.
		if modShort(candidate, uint64(e)) > 1 {
			batch = append(batch, candidate)
		}
		o.field.clear(chosen)
	}
	return batch
}

// referencePrimes are the primes of the reference's table.
var referencePrimes = sync.OnceValue(func() []sieveGroup { return groupPrimes(3, 1<<16) })

// sievePrimes is the end of the primes that the reference divides by, for numbers
// of so many bits.
func sievePrimes(size int) uint64 {
	switch {
	case size <= 512:
		return 8167
	case size <= 1024:
		return 38891
	}
	return 65521
}

// A primeField is the odd numbers from a base on; those that may be primes are set.
type primeField [fieldBits / 64]uint64

func (f *primeField) clear(i int) { f[i/64] &^= 1 << (i % 64) }

func (f *primeField) count() int {
	n := 0
	for _, w := range f {
		n += bits.OnesCount64(w)
	}
	return n
}

// nth returns the place of the set bit that has n before it.
func (f *primeField) nth(n int) int {
	for i, w := range f {
		if k := bits.OnesCount64(w); n >= k {
			n -= k
			continue
		}
		for range n {
			w &= w - 1
		}
		return 64*i + bits.TrailingZeros64(w)
	}
	panic("unreachable: the bits of the field were counted")
}

// sieveField returns the field for a candidate, and the number at which it begins:
// at or below the candidate, odd, and a multiple of 105.
func sieveField(x []uint64) (*primeField, []uint64) {
	back := modShort(x, 105)
	if back&1 == 1 {
		back += 105
	}
	base := subShort(x, back)
	f := new(primeField)
	for i := range f {
		f[i] = ^uint64(0)
	}
	limit := sievePrimes(bitLen(x))
	for _, g := range referencePrimes() {
		r := modShort(base, g.product)
		for _, p := range g.primes {
			if p.prime > limit {
				return f, base
			}
			for i := firstMultiple(r%p.prime, p.prime); i < fieldBits; i += int(p.prime) {
				f.clear(i)
			}
		}
	}
	return f, base
}

// firstMultiple returns the least i for which p divides 2i more than a number that
// leaves r.
func firstMultiple(r, p uint64) int {
	if r&1 == 1 {
		return int((p - r) / 2)
	}
	return int((2*p - r) / 2 % p)
}

func addShort(x []uint64, y uint64) []uint64 {
	out := make([]uint64, len(x))
	for i := range x {
		out[i], y = bits.Add64(x[i], y, 0)
	}
	return out
}

// bitLen is the length of a number whose highest limb is not zero.
func bitLen(x []uint64) int { return 64*len(x) - bits.LeadingZeros64(x[len(x)-1]) }

// libtpmsRounds is how many bases the reference tries on a prime of size bytes
// (FIPS 186-3, table C.3).
func libtpmsRounds(size int) int {
	switch {
	case 8*size < 511:
		return 8
	case 8*size < 1536:
		return 5
	}
	return 4
}
