package tpmcrypto

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

func TestSelfTestsPass(t *testing.T) {
	algorithms := SelfTestAlgorithms()
	for i, a := range algorithms {
		if slices.Index(algorithms, a) != i {
			t.Errorf("%s has two self-tests", a.BankName())
		}
		if err := SelfTest(a); err != nil {
			t.Error(err)
			got, _ := selfTests()[i].run()
			t.Logf("answer %#04x %x", uint16(a), got)
		}
	}
	if err := SelfTestDRBG(); err != nil {
		t.Error(err)
	}
	if err := SelfTest(tpm2.AlgSM4); !errors.Is(err, tpm2.RCValue) {
		t.Errorf("SelfTest of SM4 = %v, want TPM_RC_VALUE", err)
	}
}

func TestAWrongAnswerFailsTheSelfTest(t *testing.T) {
	tests := selfTests()
	for i := range tests {
		if tests[i].answer == "" {
			continue // FIPS 140-3 mode
		}
		answer := []byte(tests[i].answer)
		answer[0] ^= 1
		tests[i].answer = string(answer)
		if err := runSelfTest(tests, tests[i].alg); !errors.Is(err, tpm2.RCFailure) {
			t.Errorf("%s with another answer: %v, want TPM_RC_FAILURE", tests[i].alg.BankName(), err)
		}
		tests[i].run = func() ([]byte, error) { return nil, errors.New("broken") }
		if err := runSelfTest(tests, tests[i].alg); !errors.Is(err, tpm2.RCFailure) {
			t.Errorf("%s that cannot run: %v, want TPM_RC_FAILURE", tests[i].alg.BankName(), err)
		}
	}
}

func TestTheSelfTestKeyIsTheSeededOne(t *testing.T) {
	r, err := Seeded(tpm2.AlgSHA256, testPattern(64), "rsa", []byte("2048"), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := GenerateRSA(r, 2048, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, p := hex.EncodeToString(k.Modulus()), hex.EncodeToString(k.Prime()); n != testModulus || p != testPrime {
		t.Errorf("key is\n%s\n%s", n, p)
	}
}

func TestLimbsAgreeWithDivision(t *testing.T) {
	// What a prime search cannot reach: inverses that do not exist, and the ends of ranges.
	for _, tc := range []struct {
		x, m uint64
		ok   bool
	}{{1, 3, true}, {2, 3, true}, {0, 3, false}, {3, 9, false}, {65536, 65537, true}, {1<<32 - 2, 1<<32 - 1, true}, {5, 1<<32 - 1, false}} {
		inverse, ok := inverseShort(tc.x, tc.m)
		if ok != tc.ok || ok && (inverse >= tc.m || tc.x*inverse%tc.m != 1) {
			t.Errorf("inverseShort(%d, %d) = %d, %v", tc.x, tc.m, inverse, ok)
		}
	}
	p := []uint64{1<<64 - 1, 1<<64 - 1}
	q := []uint64{1<<64 - 3, 1 << 63}
	n := make([]uint64, 4)
	for i, a := range p { // the product, by plain multiplication
		var carry uint64
		for j, b := range q {
			hi, lo := mulAdd(a, b, n[i+j], carry)
			n[i+j], carry = lo, hi
		}
		n[i+2] = carry
	}
	if got := divExact(n, p); !slices.Equal(got, q) {
		t.Errorf("divExact = %x, want %x", got, q)
	}
	if farApart(make([]byte, 64), append(make([]byte, 52), make([]byte, 12)...)) {
		t.Error("farApart of equal numbers")
	}
	for _, at := range []int{0, 11, 12, 13, 63} {
		b := make([]byte, 64)
		b[at] = 0x10
		if got, want := farApart(make([]byte, 64), b), at <= 12; got != want || farApart(b, make([]byte, 64)) != want {
			t.Errorf("farApart at byte %d = %v, want %v", at, got, want)
		}
	}
}

func mulAdd(a, b, c, d uint64) (hi, lo uint64) {
	mask := uint64(1<<32 - 1)
	ll, lh, hl, hh := (a&mask)*(b&mask), (a&mask)*(b>>32), (a>>32)*(b&mask), (a>>32)*(b>>32)
	mid := ll>>32 + lh&mask + hl&mask
	lo, hi = ll&mask|mid<<32, hh+lh>>32+hl>>32+mid>>32
	for _, x := range []uint64{c, d} {
		if lo+x < lo {
			hi++
		}
		lo += x
	}
	return hi, lo
}

func TestCompositesAreNotPrimes(t *testing.T) {
	r, err := Seeded(tpm2.AlgSHA256, nil, "composites", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	prime, err := hex.DecodeString(testPrime)
	if err != nil {
		t.Fatal(err)
	}
	modulus, err := hex.DecodeString(testModulus)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		p    []byte
		want bool
	}{
		"1":                     {[]byte{1}, false},
		"a prime":               {prime, true},
		"product of two primes": {modulus, false},
		// These pass a Fermat test to every base that is prime to them.
		"Carmichael 561":    {[]byte{2, 0x31}, false},
		"Carmichael 294409": {[]byte{4, 0x7E, 9}, false},
		"square of 65537":   {[]byte{1, 0, 2, 0, 1}, false},
	} {
		if got, err := probablyPrime(r, tc.p, millerRabinRounds(len(tc.p))); got != tc.want || err != nil {
			t.Errorf("%s: probablyPrime = %v, %v; want %v", name, got, err, tc.want)
		}
	}
	if !hasFactor([]uint64{3 * 16381, 0}, sieveGroups()) || hasFactor([]uint64{16411, 0}, sieveGroups()) || !hasFactor([]uint64{16381}, sieveGroups()) {
		t.Error("the first sieve does not end at 2^14")
	}
}
