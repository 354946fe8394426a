package tpmcrypto_test

import (
	"bytes"
	"crypto/fips140"
	"io"
	"math/big"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// recorder keeps what was read.
type recorder struct {
	r    io.Reader
	read []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.read = append(r.read, b[:n]...)
	return n, err
}

// CVE-2021-3505: libtpms made RSA keys of 2048 bits of half the entropy. Each prime
// here is a string of random bytes, of which three bits are set; no bytes are used
// for both.
func TestCVE2021x3505PrimesAreRandomInAllTheirBits(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the validated module takes random numbers of its own")
	}
	for _, bits := range []int{1024, 2048} {
		seeded, err := tpmcrypto.Seeded(tpm2.AlgSHA256, pattern(64), "entropy", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &recorder{r: seeded}
		k, err := tpmcrypto.GenerateRSA(r, bits, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := new(big.Int).SetBytes(k.Prime())
		q := new(big.Int).Div(new(big.Int).SetBytes(k.Modulus()), p)
		at, other := candidate(r.read, p.Bytes()), candidate(r.read, q.Bytes())
		if at < 0 || other < 0 || at < other+bits/16 && other < at+bits/16 {
			t.Errorf("%d bits: the primes are the random bytes from %d and from %d on, want two places that do not overlap", bits, at, other)
		}
	}
}

// candidate finds the random bytes of which a prime was made, -1 when there are none.
func candidate(random, prime []byte) int {
	for at := range len(random) - len(prime) + 1 {
		b := bytes.Clone(random[at : at+len(prime)])
		b[0] |= 0xC0
		b[len(b)-1] |= 1
		if bytes.Equal(b, prime) {
			return at
		}
	}
	return -1
}
