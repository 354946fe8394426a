package tpmcrypto

import (
	"bytes"
	"crypto/ecdh"
	"crypto/fips140"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"testing"

	"filippo.io/bigmod"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
)

func TestSelfTestsPass(t *testing.T) {
	tests := NewSelfTests()
	algorithms := tests.Algorithms()
	for i, a := range algorithms {
		if slices.Index(algorithms, a) != i {
			t.Errorf("%s has two self-tests", a.BankName())
		}
		if err := tests.Run(a); err != nil {
			t.Error(err)
			got, _ := tests.all[i].run()
			t.Logf("answer %#04x %x", uint16(a), got)
		}
	}
	if err := SelfTestDRBG(); err != nil {
		t.Error(err)
	}
	if err := tests.Run(tpm2.AlgSM4); !errors.Is(err, tpm2.RCValue) {
		t.Errorf("self-test of SM4 = %v, want TPM_RC_VALUE", err)
	}
}

func TestAWrongAnswerFailsTheSelfTest(t *testing.T) {
	tests := NewSelfTests()
	for i, test := range tests.all {
		if test.answer == "" {
			continue // FIPS 140-3 mode
		}
		answer := []byte(test.answer)
		answer[0] ^= 1
		tests.all[i].answer = string(answer)
		if err := tests.Run(test.alg); !errors.Is(err, tpm2.RCFailure) {
			t.Errorf("%s with another answer: %v, want TPM_RC_FAILURE", test.alg.BankName(), err)
		}
		tests.all[i].run = func() ([]byte, error) { return nil, errors.New("broken") }
		if err := tests.Run(test.alg); !errors.Is(err, tpm2.RCFailure) {
			t.Errorf("%s that cannot run: %v, want TPM_RC_FAILURE", test.alg.BankName(), err)
		}
	}
}

// brokenGroup returns twice the point for one kind of product.
type brokenGroup struct {
	group
	size int
	kind string
}

func (g brokenGroup) spoil(kind string, p []byte) []byte {
	if kind != g.kind {
		return p
	}
	one := make([]byte, g.size)
	one[g.size-1] = 1
	return g.combine(one, p, one, p)
}

func (g brokenGroup) base(a []byte) []byte    { return g.spoil("base", g.group.base(a)) }
func (g brokenGroup) mult(a, p []byte) []byte { return g.spoil("mult", g.group.mult(a, p)) }
func (g brokenGroup) combine(a, p, b, q []byte) []byte {
	if g.kind == "combine" {
		a, b = b, a
	}
	return g.group.combine(a, p, b, q)
}

// broken returns a curve that computes one kind of product wrong.
func broken(sound func() *curve, kind string) func() *curve {
	c := *sound()
	c.group = brokenGroup{c.group, c.size, kind}
	return func() *curve { return &c }
}

// spoiled returns the key of the tests with one fault.
func spoiled(fault func(k *RSAKey)) func() (*RSAKey, error) {
	k, err := testRSAKey()
	if err == nil {
		fault(k)
	}
	return func() (*RSAKey, error) { return k, err }
}

// Each part that is broken fails the algorithms that are built on it, although what
// they share is tested once.
func TestABrokenPartFailsItsAlgorithms(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the validated module computes with parts of its own")
	}
	rsa := []tpm2.Alg{tpm2.AlgRSA, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP}
	other := known(NewRSAPublic(testBytes(testModulus), 3))
	parts := theSelfTestParts()
	for name, tc := range map[string]struct {
		parts selfTestParts
		want  []tpm2.Alg
	}{
		"none":                   {parts, nil},
		"first RSA exponent":     {selfTestParts{spoiled(func(k *RSAKey) { k.dp[40] ^= 1 }), parts.p256, parts.p384, parts.p521}, rsa},
		"second RSA exponent":    {selfTestParts{spoiled(func(k *RSAKey) { k.dq[len(k.dq)-1] ^= 1 }), parts.p256, parts.p384, parts.p521}, rsa},
		"inverse of RSA prime":   {selfTestParts{spoiled(func(k *RSAKey) { k.qInv = sync.OnceValue(func() *bigmod.Nat { return k.q.Nat().ExpandFor(k.p) }) }), parts.p256, parts.p384, parts.p521}, rsa},
		"public RSA exponent":    {selfTestParts{spoiled(func(k *RSAKey) { k.RSAPublic = *other }), parts.p256, parts.p384, parts.p521}, rsa},
		"RSA key does not load":  {selfTestParts{func() (*RSAKey, error) { return nil, errors.New("broken") }, parts.p256, parts.p384, parts.p521}, rsa},
		"P-256 generator":        {selfTestParts{parts.rsa, broken(parts.p256, "base"), parts.p384, parts.p521}, []tpm2.Alg{tpm2.AlgECC, tpm2.AlgECDSA, tpm2.AlgECSchnorr, tpm2.AlgECDAA, tpm2.AlgECDH, tpm2.AlgECMQV}},
		"P-256 products":         {selfTestParts{parts.rsa, broken(parts.p256, "mult"), parts.p384, parts.p521}, []tpm2.Alg{tpm2.AlgECDH}},
		"P-256 sums of products": {selfTestParts{parts.rsa, broken(parts.p256, "combine"), parts.p384, parts.p521}, []tpm2.Alg{tpm2.AlgECMQV}},
		"P-384":                  {selfTestParts{parts.rsa, parts.p256, broken(parts.p384, "mult"), parts.p521}, []tpm2.Alg{tpm2.AlgECC}},
		"P-521":                  {selfTestParts{parts.rsa, parts.p256, parts.p384, broken(parts.p521, "mult")}, []tpm2.Alg{tpm2.AlgECC}},
	} {
		t.Run(name, func(t *testing.T) {
			tests := &SelfTests{selfTests(tc.parts)}
			var failed []tpm2.Alg
			for _, a := range tests.Algorithms() {
				if err := tests.Run(a); err != nil {
					failed = append(failed, a)
				}
			}
			if diff := cmp.Diff(tc.want, failed); diff != "" {
				t.Errorf("algorithms that fail (-want +got):\n%s", diff)
			}
		})
	}
}

// An algorithm that is tested alone is tested with what it is built on.
func TestOneAlgorithmAloneDoesThePrivateOperation(t *testing.T) {
	for _, a := range []tpm2.Alg{tpm2.AlgRSA, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP} {
		parts := theSelfTestParts()
		parts.rsa = spoiled(func(k *RSAKey) { k.dp[40] ^= 1 })
		if err := (&SelfTests{selfTests(parts)}).Run(a); !errors.Is(err, tpm2.RCFailure) {
			t.Errorf("%s with a broken key: %v, want TPM_RC_FAILURE", a.BankName(), err)
		}
	}
}

// The multiples of the other curves are those of another implementation, and need no
// table of multiples of the generator.
func TestTheMultiplesOfTheSelfTestAreRight(t *testing.T) {
	for _, tc := range []struct {
		c     *curve
		other ecdh.Curve
	}{{curveP384(), ecdh.P384()}, {curveP521(), ecdh.P521()}} {
		g := known(tc.c.encode(tpm2.ECCPoint{X: tc.c.params.Gx.Bytes(), Y: tc.c.params.Gy.Bytes()}))
		padded := make([]byte, tc.c.size)
		copy(padded[tc.c.size-8:], testBytes(testMultiple))
		want := known(tc.other.NewPrivateKey(padded)).PublicKey().Bytes()
		if diff := cmp.Diff(want, tc.c.mult(testBytes(testMultiple), g)); diff != "" {
			t.Errorf("multiple on %v (-want +got):\n%s", tc.c.id, diff)
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
	if inverse := hex.EncodeToString(k.qInv().Bytes(k.p)); inverse != testInverse {
		t.Errorf("inverse of its second prime is\n%s", inverse)
	}
	for scheme, want := range map[tpm2.Alg]string{tpm2.AlgRSASSA: testRSASSA, tpm2.AlgRSAPSS: testRSAPSS} {
		block, err := k.encodeDigest(bytes.NewReader(testPattern(32)), scheme, tpm2.AlgSHA256, testPattern(32))
		if err != nil {
			t.Fatal(err)
		}
		if sig, err := k.private(block); hex.EncodeToString(sig) != want {
			t.Errorf("%s signature is\n%x, %v", scheme.BankName(), sig, err)
		}
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
