package tpmcrypto

import (
	"bytes"
	"fmt"
	"io"
	"math/big"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// counted counts what was read.
type counted struct {
	r io.Reader
	n int
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
	for _, tc := range []struct{ size, seeds int }{{64, 12}, {128, 1}} {
		for i := range tc.seeds {
			e := []uint32{65537, 3, 7}[i%3]
			name := fmt.Sprint(tc.size, i)
			r, plain := testStream(t, name), testStream(t, name)
			got, err := randomPrime(r, tc.size, e)
			if err != nil {
				t.Fatal(err)
			}
			want := plainSearch(t, plain, tc.size, uint64(e))
			if !bytes.Equal(got, want) || r.n != plain.n {
				t.Errorf("search %s for exponent %d = %x after %d bytes, want %x after %d", name, e, got, r.n, want, plain.n)
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

func TestASkippedBaseIsReadLikeOneThatIsTried(t *testing.T) {
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
		if err := skipBase(f, m); err != nil || len(*f) != 1 && tc.more || len(*f) != 2 && !tc.more {
			t.Errorf("skipBase for a base of %s: %v, %d blocks left", name, err, len(*f))
		}
	}
	if err := skipBase(&fixed{m}, m); err == nil {
		t.Error("skipBase succeeds without a base")
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
