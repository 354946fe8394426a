package tpmcrypto

import (
	"bytes"
	"crypto/fips140"
	"io"
	"math/big"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// notedGroup notes the scalars that a curve's points are multiplied by.
type notedGroup struct {
	group
	scalars [][]byte
}

func (g *notedGroup) base(a []byte) []byte {
	g.scalars = append(g.scalars, bytes.Clone(a))
	return g.group.base(a)
}

// noted returns a curve whose scalars are noted.
func noted(t *testing.T, id tpm2.ECCCurve) (*curve, *notedGroup) {
	t.Helper()
	c, err := curveOf(id)
	if err != nil {
		t.Fatal(err)
	}
	out, g := *c, &notedGroup{group: c.group}
	out.group = g
	return &out, g
}

var notedCurves = []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521, tpm2.CurveBNP256}

// TPM-Fail: TPMs signed faster with a nonce of leading zero bytes, and a few thousand
// signatures with their times gave the key. A nonce of any length goes into the
// multiplication with all its bytes, once.
func TestTPMFailNoncesKeepTheirLeadingZeros(t *testing.T) {
	for _, id := range notedCurves {
		c, g := noted(t, id)
		for zeros := range c.size {
			k := make([]byte, c.size)
			k[zeros] = 1 // the order has a bit there or above
			drawn := new(big.Int).Sub(new(big.Int).SetBytes(k), big.NewInt(1)).FillBytes(make([]byte, c.size+8))
			g.scalars = nil
			nonce, x, err := c.ephemeral(bytes.NewReader(drawn))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(nonce.Bytes(c.n), k) || len(x) != c.size {
				t.Fatalf("%v: the nonce is %x with a coordinate of %d bytes, want %x", id, nonce.Bytes(c.n), len(x), k)
			}
			if len(g.scalars) != 1 || !bytes.Equal(g.scalars[0], k) {
				t.Errorf("%v: a nonce of %d leading zero bytes is multiplied as %x, want %x once", id, zeros, g.scalars, k)
			}
		}
	}
}

// The same of whole signatures, ECDSA and Schnorr: their two parts have the size of the
// order, also where the nonce was short.
func TestTPMFailSignaturesTakeTheSameSteps(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the validated module draws nonces of its own")
	}
	c, g := noted(t, tpm2.CurveNISTP256)
	d, ok := c.scalar([]byte("some secret scalar"))
	if !ok {
		t.Fatal("the key is no scalar")
	}
	k := newECCKey(c, d)
	random, err := Seeded(tpm2.AlgSHA256, make([]byte, 64), "tpm-fail", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.scalars = nil
	const n = 2000 // the nonces of some eight begin with a zero byte
	for i := range n {
		sign := k.SignECDSA
		if i%2 == 1 {
			sign = func(r io.Reader, digest []byte) ([]byte, []byte, error) {
				return k.SignSchnorr(r, tpm2.AlgSHA256, digest)
			}
		}
		r, s, err := sign(random, make([]byte, 32))
		if err != nil || len(r) != c.size || len(s) != c.size {
			t.Fatalf("signature of %d and %d bytes, %v", len(r), len(s), err)
		}
	}
	short := 0
	for _, a := range g.scalars {
		if len(a) != c.size {
			t.Errorf("a nonce is multiplied with %d bytes, want %d", len(a), c.size)
		}
		if a[0] == 0 {
			short++
		}
	}
	if len(g.scalars) != n || short == 0 {
		t.Errorf("%d multiplications for %d signatures, %d of them by a short nonce; want one each, and a short one", len(g.scalars), n, short)
	}
}
