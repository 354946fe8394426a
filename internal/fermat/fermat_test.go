package fermat

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
)

// plain is the test by math/big.
func plain(m *big.Int) (composite bool) {
	one := big.NewInt(1)
	return new(big.Int).Exp(big.NewInt(2), new(big.Int).Sub(m, one), m).Cmp(one) != 0
}

// words are the limbs of 64 bits of a number.
func words(m *big.Int, size int) []uint64 {
	x := make([]uint64, size)
	low := new(big.Int).SetUint64(^uint64(0))
	for i := range x {
		x[i] = new(big.Int).And(new(big.Int).Rsh(m, uint(64*i)), low).Uint64()
	}
	return x
}

// near returns multiple*2^shift + offset.
func near(multiple int64, shift uint, offset int64) *big.Int {
	return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(multiple), shift), big.NewInt(offset))
}

func random(r *rand.ChaCha8, size int) *big.Int {
	b := make([]byte, 8*size)
	r.Read(b)
	b[0] |= 0xC0
	b[len(b)-1] |= 1
	return new(big.Int).SetBytes(b)
}

// wantFits skips where nothing can be found, after a look that nothing is.
func wantFits(t testing.TB) {
	t.Helper()
	if Fits(1024) {
		return
	}
	if got := Composite(words(random(rand.NewChaCha8([32]byte{}), 16), 16)); got != [Lanes]bool{} {
		t.Errorf("Composite without the instructions = %v, want none", got)
	}
	t.Skip("this build or processor has no AVX-512 IFMA")
}

// primes are of each size the highest, and the lowest with its two highest bits set.
func primes() map[int][]*big.Int {
	return map[int][]*big.Int{
		8:  {near(1, 512, -569), near(3, 510, 761)},
		16: {near(1, 1024, -105), near(3, 1022, 1037)},
		24: {near(1, 1536, -3453), near(3, 1534, 1837)},
		32: {near(1, 2048, -1557), near(3, 2046, 439)},
	}
}

// edges are odd numbers at the bounds of what is looked at, and of many zeros or ones.
func edges(size int) []*big.Int {
	bits := uint(64 * size)
	twoThirds := new(big.Int).Div(near(1, bits+1, 0), big.NewInt(3))
	twoThirds.SetBit(twoThirds.Rsh(twoThirds, bits-64), 0, 0)
	lowest := new(big.Int).Lsh(twoThirds.Add(twoThirds, big.NewInt(1)), bits-64)
	return append(primes()[size],
		near(1, bits, -1), near(1, bits, -3), near(3, bits-2, 1), near(3, bits-2, -1),
		new(big.Int).Add(lowest, big.NewInt(1)), new(big.Int).Add(lowest, big.NewInt(3)),
		new(big.Int).Sub(near(1, bits, -1), near(1, bits/2, 0)))
}

func TestPrimesAreNotFoundComposite(t *testing.T) {
	wantFits(t)
	for size, ms := range primes() {
		for _, m := range ms {
			if got := Composite(words(m, size)); got != [Lanes]bool{} {
				t.Errorf("Composite(%x) = %v, and it is a prime", m, got)
			}
		}
	}
}

func TestCompositeAgreesWithMathBig(t *testing.T) {
	wantFits(t)
	for _, size := range []int{8, 16, 24, 32} {
		r := rand.NewChaCha8([32]byte{byte(size)})
		numbers := edges(size)
		for len(numbers)%Lanes != 0 {
			numbers = append(numbers, random(r, size))
		}
		for len(numbers) > 0 {
			batch := make([][]uint64, Lanes)
			for i, m := range numbers[:Lanes] {
				batch[i] = words(m, size)
			}
			for i, got := range Composite(batch...) {
				if want := plain(numbers[i]); got != want {
					t.Errorf("%x is composite: %v, want %v", numbers[i], got, want)
				}
			}
			numbers = numbers[Lanes:]
		}
	}
}

// Numbers that pass for primes: p(2p-1), strong pseudoprimes to the base 2, and
// Carmichael numbers (6k+1)(12k+1)(18k+1). It is for others to find them.
func TestPseudoprimesToTheBase2AreNotFound(t *testing.T) {
	wantFits(t)
	for size, tc := range map[int]struct{ p, k string }{
		8:  {"a9ccb7f5c392b89cca8e447d743b398497259ee127dcefae2a3d80bee0cdca99", "8e7b82ab164ed77edbb6b6c3171269dbcc8ebdaf23"},
		16: {"ab7127e3a58b3cfa0c2db716793150fa574ea21d5b86d42feb8fed59c122b9b052e618ff985ebd4795b679d3e58e4764c50147a992503265c67c98d0e0b31371", "3888ba1ad6e8fc327bb8f1c75fd6429258427bc8ad4aeda048bd059963d1b33629b0a7fed64253b547362"},
		24: {"ab6107161a4ca9e7b47e8d676c7f4f3c6b615540f9e7a6bac4122e95a2b02f160261fb9085c0fbda8acc16750474eb21d55201caff97e8b15cd6dcf5980fe129e94c3c0054d49688438dae40454f5351a1059d86237d2af19f6f508816fef679", ""},
		32: {"aaf2578560af2f2c83b25644b779b5b171c08311b70bb5a6ac7130bd3442cfbca046516dbc57a03aa925ffeef3fb2b49876aca124865245e7f666825d5d02b9d1e0cb0c5d0cd2e4b7e866213b9cc6314bec1bf809b849a02b4078ba2ed72924fdc50546dcfe3601f5848d7b6ff5da9353e61411b054cfb2ca1a35541428dc9e5", ""},
	} {
		p, _ := new(big.Int).SetString(tc.p, 16)
		strong := new(big.Int).Mul(p, new(big.Int).Sub(new(big.Int).Lsh(p, 1), big.NewInt(1)))
		numbers := map[string]*big.Int{"strong": strong}
		if k, ok := new(big.Int).SetString(tc.k, 16); ok {
			carmichael := big.NewInt(1)
			for _, f := range []int64{6, 12, 18} {
				carmichael.Mul(carmichael, new(big.Int).Add(new(big.Int).Mul(k, big.NewInt(f)), big.NewInt(1)))
			}
			numbers["Carmichael"] = carmichael
		}
		for name, m := range numbers {
			if m.BitLen() != 64*size || m.ProbablyPrime(1) {
				t.Fatalf("%s: %x is not a composite number of %d bits", name, m, 64*size)
			}
			if got := Composite(words(m, size)); got[0] {
				t.Errorf("%s pseudoprime %x is found composite", name, m)
			}
		}
	}
}

func TestLanesKnowNothingOfEachOther(t *testing.T) {
	wantFits(t)
	prime := words(near(1, 1024, -105), 16)
	composite := words(near(1, 1024, -1), 16)
	for set := range 1 << Lanes {
		if set%29 != 0 && set%31 != 0 {
			continue
		}
		batch := make([][]uint64, Lanes)
		var want [Lanes]bool
		for lane := range batch {
			batch[lane] = prime
			if set>>lane&1 == 1 {
				batch[lane], want[lane] = composite, true
			}
		}
		if got := Composite(batch...); got != want {
			t.Errorf("Composite of %08b = %v, want %v", set, got, want)
		}
	}
	for n := 1; n < Lanes; n++ {
		var want [Lanes]bool
		batch := make([][]uint64, n)
		for i := range batch {
			batch[i] = composite
			want[i] = true
		}
		if got := Composite(batch...); got != want {
			t.Errorf("Composite of %d numbers = %v, want %v", n, got, want)
		}
	}
}

// What the bounds of a batch do not hold for is not looked at.
func TestNothingIsFoundOfOtherNumbers(t *testing.T) {
	for name, tc := range map[string]struct {
		m    *big.Int
		size int
	}{
		"even":                {near(1, 1024, -2), 16},
		"below two thirds":    {new(big.Int).Div(near(1, 1025, 0), big.NewInt(3)), 16},
		"short":               {big.NewInt(9), 16},
		"one word too few":    {near(1, 960, -1), 15},
		"one word too many":   {near(1, 1088, -1), 17},
		"longer than all":     {near(1, 4096, -1), 64},
		"one word":            {near(1, 64, -1), 1},
		"no number of a word": {near(0, 0, 0), 16},
	} {
		if got := Composite(words(tc.m, tc.size)); got != [Lanes]bool{} {
			t.Errorf("%s: %x is found composite", name, tc.m)
		}
	}
}

func TestOneHasNoOtherBitInAnyLimb(t *testing.T) {
	const n, lane = 10, 3
	for i := range n {
		for _, v := range []uint64{1, 2, limbMask} {
			b := new(batch)
			b.x[0][lane] = 1
			if !b.isOne(lane, n) {
				t.Fatal("1 is not 1")
			}
			b.x[i][lane] ^= v
			if b.isOne(lane, n) {
				t.Errorf("1 with %x in limb %d is 1", v, i)
			}
		}
	}
}

// Each step leaves limbs of 52 bits and the power that is due, within the bounds that
// the comment of batch.set argues.
func TestStepsStayWithinTheirBounds(t *testing.T) {
	wantFits(t)
	for _, size := range []int{8, 16, 24, 32} {
		n := limbs(size)
		s := limbBits*n - 64*size
		r := new(big.Int).Lsh(big.NewInt(1), uint(limbBits*n))
		for _, m := range edges(size) {
			b := new(batch)
			for lane := range Lanes {
				b.set(lane, words(m, size))
			}
			inverse := new(big.Int).ModInverse(r, m)
			// The first lane is doubled in one step of three, the last in each.
			powers := map[int]*big.Int{0: new(big.Int).Set(r), Lanes - 1: new(big.Int).Set(r)}
			c := new(big.Float).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(s-1)))
			for step := range 24 {
				c = bound(c, s)
				limit, _ := new(big.Float).Mul(c, new(big.Float).SetInt(m)).Int(nil)
				b.doubled = limb{}
				for lane, power := range powers {
					power.Mul(power, power).Mul(power, inverse)
					if lane != 0 || step%3 == 1 {
						b.doubled[lane] = 1 << 63
						power.Lsh(power, 1)
					}
					power.Mod(power, m)
				}
				multiply(b, &b.x, n, 1)
				for lane, power := range powers {
					x := b.number(t, lane, n)
					if x.Cmp(limit) > 0 {
						t.Fatalf("x after step %d is %x, above %v times %x", step, x, c, m)
					}
					if x.Mod(x, m).Cmp(power) != 0 {
						t.Fatalf("x after step %d is %x modulo %x, want %x", step, x, m, power)
					}
				}
				if b.sums != ([maxLimbs]limb{}) {
					t.Fatalf("sums after step %d = %x, want 0", step, b.sums)
				}
			}
		}
	}
}

// bound is what follows a value below cm: 2c²/2^s + 2.
func bound(c *big.Float, s int) *big.Float {
	next := new(big.Float).Mul(c, c)
	next.SetMantExp(next, 1-s)
	return next.Add(next, big.NewFloat(2))
}

// number returns x of a lane.
func (b *batch) number(t *testing.T, lane, n int) *big.Int {
	t.Helper()
	x := new(big.Int)
	for i := n - 1; i >= 0; i-- {
		if v := b.x[i][lane]; v > limbMask {
			t.Fatalf("limb %d is %x, above 52 bits", i, v)
		}
		x.Lsh(x, limbBits).Or(x, new(big.Int).SetUint64(b.x[i][lane]))
	}
	return x
}

// Any two numbers of a bit less than R are multiplied, not only those that a test meets.
func FuzzProductsAgreeWithMathBig(f *testing.F) {
	wantFits(f)
	f.Add(byte(0), false, []byte{1})
	ones := make([]byte, 3*64*33)
	for i := range ones {
		ones[i] = 0xFF
	}
	for size := range byte(4) {
		f.Add(size, true, ones)
		f.Add(size, false, ones[:len(ones)/2])
	}
	f.Fuzz(func(t *testing.T, size byte, doubled bool, in []byte) {
		words := []int{8, 16, 24, 32}[size%4]
		n := limbs(words)
		// take gives numbers of a count of bits, and zeros when the input ends.
		take := func(bits int) *big.Int {
			b := make([]byte, (bits+7)/8)
			in = in[copy(b, in):]
			x := new(big.Int).SetBytes(b)
			return x.Rsh(x, uint(8*len(b)-bits))
		}
		b := new(batch)
		var m, x, y [Lanes]*big.Int
		for lane := range Lanes {
			m[lane] = take(64 * words)
			m[lane].SetBit(m[lane], 0, 1).SetBit(m[lane], 64*words-1, 1)
			x[lane], y[lane] = take(limbBits*n-1), take(limbBits*n-1)
			for i := range n {
				at := func(v *big.Int) uint64 {
					v = new(big.Int).Rsh(v, uint(limbBits*i))
					return v.And(v, big.NewInt(limbMask)).Uint64()
				}
				b.m[i][lane], b.x[i][lane], b.y[i][lane] = at(m[lane]), at(x[lane]), at(y[lane])
			}
			b.inverse[lane] = -inverse(b.m[0][lane]) & limbMask
			if doubled {
				b.doubled[lane] = 1 << 63
			}
		}
		multiply(b, &b.y, n, 1)
		for lane := range Lanes {
			// (xy + qm)/R for the one q below R that makes it whole.
			r := new(big.Int).Lsh(big.NewInt(1), uint(limbBits*n))
			want := new(big.Int).Mul(x[lane], y[lane])
			q := new(big.Int).Neg(want)
			q.Mul(q, new(big.Int).ModInverse(m[lane], r)).Mod(q, r)
			want.Add(want, q.Mul(q, m[lane])).Rsh(want, uint(limbBits*n))
			if doubled {
				want.Lsh(want, 1)
			}
			if got := b.number(t, lane, n); got.Cmp(want) != 0 {
				t.Errorf("lane %d: %x times %x modulo %x, doubled %v = %x, want %x", lane, x[lane], y[lane], m[lane], doubled, got, want)
			}
		}
	})
}

func FuzzCompositeAgreesWithMathBig(f *testing.F) {
	wantFits(f)
	for _, m := range edges(8) {
		f.Add(byte(0), m.Bytes())
	}
	for size := range byte(4) {
		f.Add(size, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, size byte, in []byte) {
		n := []int{8, 16, 24, 32}[size%4]
		in = append(in[:min(len(in), 64*n):len(in)], make([]byte, 64*n-min(len(in), 64*n))...)
		batch, numbers := make([][]uint64, Lanes), make([]*big.Int, Lanes)
		for lane := range batch {
			b := append([]byte{}, in[8*n*lane:8*n*(lane+1)]...)
			b[0] |= 0xC0
			b[len(b)-1] |= 1
			numbers[lane] = new(big.Int).SetBytes(b)
			batch[lane] = words(numbers[lane], n)
		}
		for lane, got := range Composite(batch...) {
			if want := plain(numbers[lane]); got != want {
				t.Errorf("%x is composite: %v, want %v", numbers[lane], got, want)
			}
		}
	})
}

func BenchmarkComposite(b *testing.B) {
	wantFits(b)
	for _, size := range []int{8, 16, 24, 32} {
		b.Run(fmt.Sprint(64*size), func(b *testing.B) {
			m := words(near(1, uint(64*size), -1), size)
			for b.Loop() {
				Composite(m, m, m, m, m, m, m, m)
			}
		})
	}
}
