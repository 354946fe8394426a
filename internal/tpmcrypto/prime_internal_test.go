package tpmcrypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"testing"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/internal/fermat"
	"github.com/assay-project/assay/tpm2"
)

// counted counts what was read, and counts back. One with plain set cannot be marked.
type counted struct {
	r     io.Reader
	n     int
	plain bool
}

func (c *counted) Mark() (back func(), ok bool) {
	inner, ok := Mark(c.r)
	n := c.n
	return func() { inner(); c.n = n }, ok && !c.plain
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func testStream(t *testing.T, name string) *counted {
	t.Helper()
	r, err := Seeded(tpm2.AlgSHA256, []byte("primes"), name, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &counted{r: r}
}

func testDRBG(t *testing.T, name string) *counted {
	t.Helper()
	r, err := NewDRBG(bytes.NewReader(make([]byte, seedSize)), []byte(name))
	if err != nil {
		t.Fatal(err)
	}
	return &counted{r: r}
}

// hasSmallFactor divides by one odd number after the other.
func hasSmallFactor(x []uint64, from, to uint64) bool {
	for p := from; p < to; p += 2 {
		if modShort(x, p) == 0 {
			return true
		}
	}
	return false
}

// plainSearch is the search as it is promised: divisions up to 2^14, then bases.
func plainSearch(t *testing.T, r io.Reader, size int, e uint64) []byte {
	t.Helper()
	for {
		b, err := read(r, size)
		if err != nil {
			t.Fatal(err)
		}
		b[0] |= 0xC0
		b[size-1] |= 1
		if hasSmallFactor(limbsOf(b), 3, sieveBound) {
			continue
		}
		if ok, err := probablyPrime(r, b, millerRabinRounds(size)); err != nil {
			t.Fatal(err)
		} else if !ok {
			continue
		}
		minus1 := new(big.Int).SetBytes(b)
		minus1.Sub(minus1, big.NewInt(1))
		if new(big.Int).GCD(nil, nil, minus1, new(big.Int).SetUint64(e)).Cmp(big.NewInt(1)) == 0 {
			return b
		}
	}
}

// What is seeded must never change: neither the prime nor where the stream stands.
func TestSearchFindsWhatThePromisedOneFinds(t *testing.T) {
	for _, tc := range []struct{ size, seeds int }{{64, 9}, {128, 1}} {
		for i := range tc.seeds {
			e := []uint32{65537, 3, 7}[i%3]
			name := fmt.Sprint(tc.size, i)
			plain := testStream(t, name)
			want := plainSearch(t, plain, tc.size, uint64(e))
			for _, ahead := range []int{1, fermat.Lanes} {
				r := testStream(t, name)
				got, err := newPrimeSearch(r, tc.size, e, ahead).prime()
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) || r.n != plain.n {
					t.Errorf("search %s for exponent %d, %d ahead = %x after %d bytes, want %x after %d", name, e, ahead, got, r.n, want, plain.n)
				}
			}
		}
	}
}

// A reader that can be marked gives the key that any other gives, and afterwards the
// same bytes.
func TestReadingAheadIsNotSeen(t *testing.T) {
	for name, open := range map[string]func(*testing.T, string) *counted{"seeded": testStream, "DRBG": testDRBG} {
		for _, e := range []uint32{65537, 3} {
			what := fmt.Sprint(name, e)
			marked, plain := open(t, what), open(t, what)
			plain.plain = true
			key := func(r *counted) ([]byte, []byte) {
				k, err := GenerateRSA(r, 1024, e)
				if err != nil {
					t.Fatal(err)
				}
				after, err := read(r, 3000)
				if err != nil {
					t.Fatal(err)
				}
				return append(k.Modulus(), k.Prime()...), after
			}
			got, after := key(marked)
			want, wantAfter := key(plain)
			if !bytes.Equal(got, want) || marked.n != plain.n || !bytes.Equal(after, wantAfter) {
				t.Errorf("%s: key read ahead = %x after %d bytes and then %x…, want %x after %d and then %x…", what, got, marked.n, after[:16], want, plain.n, wantAfter[:16])
			}
		}
	}
}

func TestAMarkLeadsBack(t *testing.T) {
	for name, open := range map[string]func(*testing.T, string) *counted{"seeded": testStream, "DRBG": testDRBG} {
		for _, before := range []int{0, 1, 1000, 1023, 1024, 1025, 5000} {
			for _, between := range []int{0, 1, 24, 1024, 3000} {
				take := func(r io.Reader, n int) []byte {
					b, err := read(r, n)
					if err != nil {
						t.Fatal(err)
					}
					return b
				}
				r, other := open(t, name), open(t, name)
				take(r, before)
				take(other, before)
				back, ok := Mark(r.r)
				if !ok {
					t.Fatalf("%s cannot be marked", name)
				}
				take(r, between)
				for range 2 {
					back()
					again, _ := Mark(r.r)
					if got, want := take(r, 3000), take(other, 3000); !bytes.Equal(got, want) {
						t.Errorf("%s, marked after %d bytes and brought back after %d more: %x…, want %x…", name, before, between, got[:16], want[:16])
					}
					again()
					other = open(t, name)
					take(other, before)
				}
			}
		}
	}
	if _, ok := Mark(bytes.NewReader(nil)); ok {
		t.Error("a reader without a method Mark can be marked")
	}
	d := testDRBG(t, "old").r.(*DRBG)
	was := *d
	back, _ := d.Mark()
	if _, err := read(d, 99); err != nil {
		t.Fatal(err)
	}
	if back(); d.key != was.key || d.v != was.v || d.counter != was.counter {
		t.Error("a DRBG that was brought back has another state")
	}
	for counter, want := range map[uint64]bool{1: true, 1 << 47: true, reseedInterval - 1<<19: false, reseedInterval: false, reseedInterval + 1: false, 0: false} {
		d.counter = counter
		if _, ok := d.Mark(); ok != want {
			t.Errorf("a DRBG after %d requests can be marked: %v, want %v", counter, ok, want)
		}
	}
}

// tape is fixed blocks that can be brought back.
type tape struct{ fixed }

func (r *tape) Mark() (back func(), ok bool) {
	at := r.fixed
	return func() { r.fixed = at }, true
}

// testNumbers are for searches of 512 bits, of which none has a small factor.
func testNumbers(t *testing.T) (prime, other, composite, pseudo []byte) {
	t.Helper()
	number := func(base, exponent, offset int64) *big.Int {
		x := new(big.Int).Lsh(big.NewInt(base), uint(exponent))
		return x.Add(x, big.NewInt(offset))
	}
	half := number(3, 254, 0)
	for !half.ProbablyPrime(1) {
		half.Add(half, big.NewInt(1))
	}
	// p(2p-1), a strong pseudoprime to the base 2.
	p, _ := new(big.Int).SetString("a9ccb7f5c392b89cca8e447d743b398497259ee127dcefae2a3d80bee0cdca99", 16)
	q := new(big.Int).Sub(new(big.Int).Lsh(p, 1), big.NewInt(1))
	prime, other = number(1, 512, -569).Bytes(), number(3, 510, 761).Bytes()
	top := new(big.Int).Div(number(1, 512, -1), half)
	for !top.ProbablyPrime(1) {
		top.Sub(top, big.NewInt(1))
	}
	composite, pseudo = new(big.Int).Mul(half, top).Bytes(), new(big.Int).Mul(p, q).Bytes()
	for _, b := range [][]byte{prime, other, composite, pseudo} {
		if x := limbsOf(b); len(x) != 8 || b[0] < 0xC0 || hasFactor(x, sieveGroups()) || hasFactor(x, furtherGroups()) {
			t.Fatalf("%x is no candidate of 512 bits", b)
		}
	}
	return prime, other, composite, pseudo
}

// However many candidates are looked at together, the answer and what is left of the
// reader are those of a search that looks at one after the other.
func TestTheAnswerDoesNotDependOnWhatIsReadAhead(t *testing.T) {
	prime, other, composite, pseudo := testNumbers(t)
	base := func(n byte) []byte { return append(make([]byte, 63), n) }
	bases := fixed{base(3), base(5), base(7), base(11), base(13), base(17), base(19), base(23)}
	join := func(parts ...fixed) (all fixed) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	many := func(n int) (all fixed) {
		for range n {
			all = append(all, composite, base(2))
		}
		return all
	}
	for name, tc := range map[string]struct {
		in    fixed
		left  int // candidates that may be read
		want  []byte
		err   error
		after int // blocks left
	}{
		"prime first":                                {join(fixed{prime}, bases, many(9)), 99, prime, nil, 18},
		"prime among others":                         {join(many(3), fixed{prime}, bases, many(9)), 99, prime, nil, 18},
		"prime in the second eight":                  {join(many(9), fixed{prime}, bases, many(2)), 99, prime, nil, 4},
		"prime last of eight":                        {join(many(7), fixed{prime}, bases), 99, prime, nil, 0},
		"two primes":                                 {join(fixed{prime}, bases, fixed{other}, bases), 99, prime, nil, 9},
		"pseudoprime to the base 2":                  {join(fixed{pseudo, base(3)}, many(2), fixed{other}, bases), 99, other, nil, 0},
		"pseudoprime that its first base passes":     {join(many(1), fixed{pseudo, base(2), base(3)}, many(2), fixed{other}, bases), 99, other, nil, 0},
		"error behind a prime":                       {join(many(1), fixed{prime}, bases, fixed{composite}), 99, prime, nil, 1},
		"error among the bases of a prime":           {join(many(1), fixed{prime}, bases[:5]), 99, nil, io.EOF, 0},
		"error instead of a base":                    {join(many(1), fixed{prime}), 99, nil, io.EOF, 0},
		"error instead of a candidate":               {many(11), 99, nil, io.EOF, 0},
		"error at once":                              {nil, 99, nil, io.EOF, 0},
		"error behind a pseudoprime":                 {join(fixed{pseudo, base(3)}, many(1)), 99, nil, io.EOF, 0},
		"no candidates left":                         {many(12), 11, nil, tpm2.RCNoResult, 2},
		"prime is the last candidate":                {join(many(10), fixed{prime}, bases), 11, prime, nil, 0},
		"no candidates left behind a pseudoprime":    {join(fixed{pseudo, base(2), base(3)}, many(4), fixed{prime}, bases), 5, nil, tpm2.RCNoResult, 9},
		"prime is the last behind a pseudoprime":     {join(fixed{pseudo, base(2), base(3)}, many(4), fixed{prime}, bases), 6, prime, nil, 0},
		"candidates end before the prime is reached": {join(many(3), fixed{prime}, bases), 3, nil, tpm2.RCNoResult, 9},
	} {
		for _, ahead := range []int{1, 3, fermat.Lanes} {
			r := &tape{slices.Clone(tc.in)}
			s := newPrimeSearch(r, 64, 65537, ahead)
			s.left = tc.left
			got, err := s.prime()
			if !bytes.Equal(got, tc.want) || !errors.Is(err, tc.err) || len(r.fixed) != tc.after {
				t.Errorf("%s, %d ahead: %x, %v, %d blocks left; want %x, %v, %d", name, ahead, got, err, len(r.fixed), tc.want, tc.err, tc.after)
			}
		}
	}
}

// fixed gives one block after the other.
type fixed [][]byte

func (f *fixed) Read(b []byte) (int, error) {
	if len(*f) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*f)[0])
	*f = (*f)[1:]
	return n, nil
}

func TestABaseIsReadAheadLikeOneThatIsTried(t *testing.T) {
	m := bytes.Repeat([]byte{0xC1}, 64)
	at := func(high bool, last byte) []byte {
		b := make([]byte, 64)
		if high {
			copy(b, m)
		}
		b[63] = last
		return b
	}
	for name, tc := range map[string]struct {
		base []byte
		more bool
	}{
		"0":     {at(false, 0), true},
		"1":     {at(false, 1), true},
		"2":     {at(false, 2), false},
		"m - 2": {at(true, 0xBF), false},
		"m - 1": {at(true, 0xC0), true},
		"m":     {m, true},
		"m + 1": {at(true, 0xC2), true},
	} {
		f := &fixed{tc.base, at(false, 9), at(false, 8)}
		modulus, err := bigmod.NewModulus(m)
		if err != nil {
			t.Fatal(err)
		}
		tried, err := randomBase(&fixed{tc.base, at(false, 9)}, modulus)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readBase(f, limbsOf(m))
		if !bytes.Equal(got, tried.Bytes(modulus)) || err != nil || len(*f) != 1 && tc.more || len(*f) != 2 && !tc.more {
			t.Errorf("readBase for a base of %s: %x, %v, %d blocks left; randomBase gives %x", name, got, err, len(*f), tried.Bytes(modulus))
		}
	}
	if _, err := readBase(&fixed{m}, limbsOf(m)); err == nil {
		t.Error("readBase succeeds without a base")
	}
}

// The base of a candidate that the second sieve finds is no candidate, be it a prime.
func TestTheBaseOfASievedCandidateIsNoCandidate(t *testing.T) {
	r := testStream(t, "two primes")
	var primes [2][]byte
	for i := range primes {
		p, err := randomPrime(r, 64, 65537)
		if err != nil {
			t.Fatal(err)
		}
		primes[i] = p
	}
	// The highest multiple of 16411 that the first sieve does not find.
	const factor = 16411
	x := new(big.Int).Lsh(big.NewInt(1), 512)
	x.Sub(x, new(big.Int).Mod(x, big.NewInt(factor)))
	for x.Bit(0) == 0 || hasSmallFactor(limbsOf(x.Bytes()), 3, sieveBound) {
		x.Sub(x, big.NewInt(factor))
	}
	f := &fixed{x.Bytes(), primes[0], primes[1]}
	for i := range millerRabinRounds(64) {
		*f = append(*f, bytes.Repeat([]byte{byte(i + 2)}, 64))
	}
	if got, err := randomPrime(f, 64, 65537); !bytes.Equal(got, primes[1]) || err != nil || len(*f) != 0 {
		t.Errorf("prime after a candidate with a factor of %d and its base = %x, %v, %d blocks left; want %x", factor, got, err, len(*f), primes[1])
	}
}

func TestSievesDivideByJustTheirPrimes(t *testing.T) {
	r := testStream(t, "sieves")
	for range 60 {
		b, err := read(r, 64)
		if err != nil {
			t.Fatal(err)
		}
		x := limbsOf(b)
		for _, tc := range []struct {
			name     string
			groups   []sieveGroup
			from, to uint64
		}{{"first", sieveGroups(), 3, sieveBound}, {"second", furtherGroups(), sieveBound + 1, sieveFurther}} {
			want := false
			for p := tc.from; p < tc.to && !want; p += 2 {
				want = modShort(x, p) == 0 && (p < sieveBound || !hasSmallFactor([]uint64{p}, 3, 256))
			}
			if got := hasFactor(x, tc.groups); got != want {
				t.Errorf("%s sieve finds a factor of %x: %v, want %v", tc.name, b, got, want)
			}
		}
	}
	for _, groups := range [][]sieveGroup{sieveGroups(), furtherGroups()} {
		for _, g := range groups {
			for _, p := range g.primes {
				// With the next prime above both sieves, a number of two limbs.
				if !hasFactor([]uint64{p.prime * 65537, 0}, groups) {
					t.Fatalf("a multiple of %d passes its sieve", p.prime)
				}
			}
		}
	}
	if hasFactor([]uint64{65537, 0}, furtherGroups()) || hasFactor([]uint64{16381, 0}, furtherGroups()) {
		t.Error("the second sieve is not from 2^14 to 2^16")
	}
}
