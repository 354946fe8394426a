package tpmcrypto_test

import (
	"crypto/fips140"
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// smallPrimes are the odd primes below 170: of the primes that ROCA's keys were built
// with, those by which such a key is known.
func smallPrimes() []int64 {
	var out []int64
	for n := int64(3); n < 170; n += 2 {
		if big.NewInt(n).ProbablyPrime(0) {
			out = append(out, n)
		}
	}
	return out
}

// powersOf65537 are the residues of the powers of 65537 modulo p.
func powersOf65537(p int64) map[int64]bool {
	out := map[int64]bool{}
	for x := int64(1); !out[x]; x = x * (65537 % p) % p {
		out[x] = true
	}
	return out
}

// looksLikeROCA is the fingerprint of CVE-2017-15361: modulo each small prime the number
// is a power of 65537.
func looksLikeROCA(n *big.Int) bool {
	for _, p := range smallPrimes() {
		if !powersOf65537(p)[residue(n, p)] {
			return false
		}
	}
	return true
}

func residue(n *big.Int, p int64) int64 {
	return new(big.Int).Mod(n, big.NewInt(p)).Int64()
}

// rocaPrime is a prime as that library made them: k*M + (65537^a mod M), where M is the
// product of 2 and the small primes.
func rocaPrime(a int64) *big.Int {
	m := big.NewInt(2)
	for _, p := range smallPrimes() {
		m.Mul(m, big.NewInt(p))
	}
	base := new(big.Int).Exp(big.NewInt(65537), big.NewInt(a), m)
	for k := new(big.Int).Lsh(big.NewInt(1), uint(512-m.BitLen())); ; k.Add(k, big.NewInt(1)) {
		if p := new(big.Int).Mul(k, m); p.Add(p, base).ProbablyPrime(5) {
			return p
		}
	}
}

// rocaKeys make a key of 1024 bits by each of the two searches for primes.
var rocaKeys = map[string]func(n int) (*tpmcrypto.RSAKey, error){
	"ours": func(n int) (*tpmcrypto.RSAKey, error) {
		r, err := tpmcrypto.Seeded(tpm2.AlgSHA256, pattern(64), "ROCA", fmt.Appendf(nil, "%d", n), nil)
		if err != nil {
			return nil, err
		}
		return tpmcrypto.GenerateRSA(r, 1024, 0)
	},
	"libtpms": func(n int) (*tpmcrypto.RSAKey, error) {
		s := tpmcrypto.Libtpms(tpmcrypto.SeedPrimeFix, pattern(64), fmt.Appendf(nil, "%d", n), nil)
		return s.GenerateRSA(s, 1024, 0)
	},
}

// CVE-2017-15361, ROCA: the primes of one maker's TPMs were powers of 65537 modulo all
// small primes, so that a modulus could be factored, and be known from afar. Ours are
// spread over all residues: in each class as many as chance puts there.
func TestROCAPrimesAreSpreadOverAllResidues(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the validated module takes random numbers of its own")
	}
	if n := new(big.Int).Mul(rocaPrime(12345), rocaPrime(99999)); !looksLikeROCA(n) {
		t.Fatal("a key of ROCA's is not known as one")
	}
	const keys = 40
	for name, generate := range rocaKeys {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var primes []*big.Int
			for i := range keys {
				k, err := generate(i)
				if err != nil {
					t.Fatal(err)
				}
				n, p := new(big.Int).SetBytes(k.Modulus()), new(big.Int).SetBytes(k.Prime())
				if looksLikeROCA(n) || looksLikeROCA(p) {
					t.Errorf("key %d has the fingerprint of ROCA", i)
				}
				primes = append(primes, p, new(big.Int).Div(n, p))
			}
			for _, p := range smallPrimes() {
				checkSpread(t, primes, p)
			}
		})
	}
}

// checkSpread compares how many primes are in each class modulo p, and how many are powers
// of 65537, with what chance gives: no more than five standard deviations away.
func checkSpread(t *testing.T, primes []*big.Int, p int64) {
	t.Helper()
	powers, counts, inside, n := powersOf65537(p), make([]float64, p), 0, float64(len(primes))
	for _, x := range primes {
		r := residue(x, p)
		counts[r]++
		if powers[r] {
			inside++
		}
	}
	chi, expected, freedom := 0.0, n/float64(p-1), float64(p-2)
	for _, c := range counts[1:] {
		chi += (c - expected) * (c - expected) / expected
	}
	if counts[0] != 0 || chi > freedom+5*math.Sqrt(2*freedom) {
		t.Errorf("%.0f primes are in the classes %v modulo %d: chi square is %.0f", n, counts, p, chi)
	}
	share := float64(len(powers)) / float64(p-1)
	if math.Abs(float64(inside)-n*share) > 5*math.Sqrt(n*share*(1-share)) {
		t.Errorf("%d of %.0f primes are powers of 65537 modulo %d, want some %.0f", inside, n, p, n*share)
	}
}
