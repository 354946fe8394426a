// Package fermat finds that numbers are composite, eight at a time, by Fermat's test
// to the base 2: of a prime p the power 2^(p-1) leaves 1.
//
// It proves no number prime, and nothing that it passes may be taken for one: a few
// composite numbers pass, and where the processor has no instructions for it all do.
// Who searches primes puts it in front of a test that may be relied on, to spend that
// test on few numbers.
//
// The numbers may be secret: which instructions run and which addresses are read
// depends on how long they are, and on nothing else.
//
// Read [Composite] first. The products are Montgomery's, of limbs of 52 bits, by AVX-512
// IFMA (fermat_amd64.s): limb i of eight numbers is one register, a lane each. This is
// the only assembly of the project; a build with the tag purego has none of it.
package fermat

const (
	// Lanes is how many numbers [Composite] tests in the time of one.
	Lanes = 8

	limbBits = 52
	limbMask = 1<<limbBits - 1
	maxLimbs = 40
)

// A limb is one limb of eight numbers.
type limb [Lanes]uint64

// A batch is eight numbers m and what is known of the powers of 2 modulo each. With n
// limbs, R is 2^(52n). One on the heap begins with a line of the cache, as its size has
// it; that makes it faster and is not needed.
type batch struct {
	x, y, m [maxLimbs]limb
	sums    [maxLimbs]limb // columns of a product before their carries; 0 between two
	inverse limb           // -1/m modulo 2^52
	doubled limb           // has a bit for each of 64 steps, the highest the first
}

// Fits reports whether [Composite] finds anything of numbers of so many bits: on this
// processor, and of the sizes of primes of RSA keys.
func Fits(bits int) bool {
	return available() && (bits == 512 || bits == 1024 || bits == 1536 || bits == 2048)
}

// Composite reports of each number, one to [Lanes] of them, whether it was found to be
// composite. They have one size, in limbs of 64 bits, the least significant first. Of
// those that are even or not above two thirds of the power of 2 with their size, and
// of all when [Fits] denies it, nothing is found.
func Composite(numbers ...[]uint64) (composite [Lanes]bool) {
	size := len(numbers[0])
	if !Fits(64 * size) {
		return composite
	}
	b := new(batch)
	for lane := range Lanes {
		b.set(lane, numbers[min(lane, len(numbers)-1)])
	}
	n := limbs(size)
	for word := size - 1; word >= 0; word-- {
		for lane := range Lanes {
			b.doubled[lane] = numbers[min(lane, len(numbers)-1)][word]
		}
		if word == 0 {
			for lane := range Lanes {
				b.doubled[lane]-- // the exponent is m-1, and m is odd
			}
		}
		multiply(b, &b.x, n, 64)
	}
	// By 1 instead of R the product leaves Montgomery's form. It is at most m, as x < 3m:
	// (x + qm)/R with q < R, and m only for a multiple of m.
	b.doubled = limb{}
	multiply(b, &b.y, n, 1)
	for lane, m := range numbers {
		composite[lane] = sound(m) && !b.isOne(lane, n)
	}
	return composite
}

// sound reports what the bounds of a batch need: m is odd, and above 2/3 of 2^bits.
func sound(m []uint64) bool { return m[0]&1 == 1 && m[len(m)-1] > ^uint64(0)/3*2 }

// limbs is how many limbs of 52 bits numbers of a size take: 10, 20, 30 or 40, with 8
// bits or more to spare.
func limbs(size int) int { return (64*size + limbBits - 1) / limbBits }

// set makes x in a lane a power of 2 that is R modulo m, and y 1.
//
// Such a power is (2^bits - m) 2^s, where 2^(bits+s) is R: no division. It is below
// cm with c = 2^s/2, as m is above 2/3 of 2^bits. From x < cm a step makes
// (x² + qm)/R < m (c²/2^s + 1), since m < R/2^s and q < R, and doubled at most
// c' = 2c²/2^s + 2. While c < 2^s/2 that falls, from one step to the next, to just
// above 2, and x stays below R all the time: no step needs a subtraction.
func (b *batch) set(lane int, m []uint64) {
	n := limbs(len(m))
	s := limbBits*n - 64*len(m)
	negative := make([]uint64, len(m))
	carry := uint64(1)
	for i := range m {
		negative[i] = ^m[i] + carry
		if negative[i] != 0 {
			carry = 0
		}
	}
	for i := range n {
		b.m[i][lane] = limbAt(m, limbBits*i)
		b.x[i][lane] = limbAt(negative, limbBits*i-s)
	}
	b.y[0][lane] = 1
	b.inverse[lane] = -inverse(m[0]) & limbMask
}

// limbAt returns 52 bits of x from a bit on. There are zeros in front of x and behind.
func limbAt(x []uint64, from int) uint64 {
	if from < 0 {
		return x[0] << -from & limbMask
	}
	i, shift := from/64, from%64
	v := x[i] >> shift
	if i+1 < len(x) {
		v |= x[i+1] << (64 - shift) // nothing when that is 64
	}
	return v & limbMask
}

// inverse returns 1/x modulo 2^64 for an odd x.
func inverse(x uint64) uint64 {
	v := x // right in three bits; Newton's method doubles them
	for range 5 {
		v *= 2 - x*v
	}
	return v
}

// isOne reports whether x is 1 in a lane.
func (b *batch) isOne(lane, n int) bool {
	other := b.x[0][lane] ^ 1
	for i := 1; i < n; i++ {
		other |= b.x[i][lane]
	}
	return other == 0
}
