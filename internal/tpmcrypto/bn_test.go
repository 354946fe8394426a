package tpmcrypto_test

import (
	"bytes"
	"errors"
	"math/big"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// bnAffine is BN P-256 by the schoolbook: y² = x³ + 3, slopes and special cases,
// in math/big. Nil is infinity.
type bnAffine struct{ x, y *big.Int }

func bnModulus(t *testing.T) (p, n *big.Int) {
	t.Helper()
	c, err := tpmcrypto.Parameters(tpm2.CurveBNP256)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(c.P), new(big.Int).SetBytes(c.N)
}

func affineAdd(p *big.Int, a, b *bnAffine) *bnAffine {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	slope := new(big.Int)
	if a.x.Cmp(b.x) == 0 {
		if a.y.Cmp(b.y) != 0 {
			return nil
		}
		slope.Mul(big.NewInt(3), slope.Mul(a.x, a.x))
		slope.Mul(slope, new(big.Int).ModInverse(new(big.Int).Lsh(a.y, 1), p))
	} else {
		slope.Sub(b.y, a.y)
		dx := new(big.Int).Sub(b.x, a.x)
		slope.Mul(slope, dx.ModInverse(dx.Mod(dx, p), p))
	}
	x := new(big.Int).Mul(slope, slope)
	x.Sub(x, a.x).Sub(x, b.x).Mod(x, p)
	y := new(big.Int).Sub(a.x, x)
	y.Mul(y, slope).Sub(y, a.y).Mod(y, p)
	return &bnAffine{x, y}
}

func affineMult(p, k *big.Int, a *bnAffine) *bnAffine {
	var r *bnAffine
	for i := k.BitLen() - 1; i >= 0; i-- {
		r = affineAdd(p, r, r)
		if k.Bit(i) == 1 {
			r = affineAdd(p, r, a)
		}
	}
	return r
}

func (a *bnAffine) point() tpm2.ECCPoint {
	return tpm2.ECCPoint{X: a.x.FillBytes(make([]byte, 32)), Y: a.y.FillBytes(make([]byte, 32))}
}

func TestBNP256IsItsEquation(t *testing.T) {
	p, n := bnModulus(t)
	if !p.ProbablyPrime(20) || !n.ProbablyPrime(20) || p.BitLen() != 256 {
		t.Fatalf("p = %x, n = %x", p, n)
	}
	g := &bnAffine{big.NewInt(1), big.NewInt(2)}
	if affineMult(p, n, g) != nil {
		t.Error("n is not the order of (1, 2)")
	}
	minus1 := new(big.Int).Sub(n, big.NewInt(1))
	random := newDRBG(t)
	scalars := []*big.Int{big.NewInt(1), big.NewInt(2), big.NewInt(3), minus1, new(big.Int).Sub(n, big.NewInt(2)), new(big.Int).Rsh(n, 1)}
	for range 8 {
		b := make([]byte, 32)
		if _, err := random.Read(b); err != nil {
			t.Fatal(err)
		}
		k := new(big.Int).SetBytes(b)
		scalars = append(scalars, k.Add(k.Mod(k, minus1), big.NewInt(1)))
	}
	for _, k := range scalars {
		key, err := tpmcrypto.LoadECC(tpm2.CurveBNP256, k.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		public := affineMult(p, k, g)
		if want := public.point(); !bytes.Equal(key.Point().X, want.X) || !bytes.Equal(key.Point().Y, want.Y) {
			t.Errorf("[%x]G = %x, want %x", k, key.Point(), want)
		}
		// Multiplied by another scalar, the product of both comes out.
		z, err := key.Multiply(affineMult(p, scalars[2], g).point())
		if err != nil {
			t.Fatal(err)
		}
		if want := affineMult(p, new(big.Int).Mul(k, scalars[2]), g).point(); !bytes.Equal(z.X, want.X) || !bytes.Equal(z.Y, want.Y) {
			t.Errorf("[%x][3]G = %x, want %x", k, z, want)
		}
	}
}

func TestPointsOffBNP256AreRefused(t *testing.T) {
	p, _ := bnModulus(t)
	for name, tc := range map[string]struct {
		point tpm2.ECCPoint
		want  error
	}{
		"generator":    {tpm2.ECCPoint{X: []byte{1}, Y: []byte{2}}, nil},
		"off":          {tpm2.ECCPoint{X: []byte{1}, Y: []byte{3}}, tpm2.RCECCPoint},
		"zero":         {tpm2.ECCPoint{X: []byte{0}, Y: []byte{0}}, tpm2.RCECCPoint},
		"empty":        {tpm2.ECCPoint{}, tpm2.RCECCPoint},
		"x plus p":     {tpm2.ECCPoint{X: new(big.Int).Add(p, big.NewInt(1)).Bytes(), Y: []byte{2}}, tpm2.RCECCPoint},
		"y plus p":     {tpm2.ECCPoint{X: []byte{1}, Y: new(big.Int).Add(p, big.NewInt(2)).Bytes()}, tpm2.RCECCPoint},
		"33 bytes":     {tpm2.ECCPoint{X: bytes.Repeat([]byte{1}, 33), Y: []byte{2}}, tpm2.RCECCPoint},
		"on a NIST's":  {generatorP256(t), tpm2.RCECCPoint},
		"its negative": {tpm2.ECCPoint{X: []byte{1}, Y: new(big.Int).Sub(p, big.NewInt(2)).Bytes()}, nil},
	} {
		if err := tpmcrypto.OnCurve(tpm2.CurveBNP256, tc.point); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func generatorP256(t *testing.T) tpm2.ECCPoint {
	t.Helper()
	c, err := tpmcrypto.Parameters(tpm2.CurveNISTP256)
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.ECCPoint{X: c.GX, Y: c.GY}
}

func TestBNP256Signs(t *testing.T) {
	random := newDRBG(t)
	key, err := tpmcrypto.GenerateECC(random, tpm2.CurveBNP256)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{20, 32, 64} {
		digest := bytes.Repeat([]byte{0xd1}, size)
		for name, sign := range map[tpm2.Alg]func() ([]byte, []byte, error){
			tpm2.AlgECDSA:     func() ([]byte, []byte, error) { return key.SignECDSA(random, digest) },
			tpm2.AlgECSchnorr: func() ([]byte, []byte, error) { return key.SignSchnorr(random, tpm2.AlgSHA256, digest) },
		} {
			r, s, err := sign()
			if err != nil {
				t.Fatalf("%#x: %v", name, err)
			}
			if err := key.Verify(name, tpm2.AlgSHA256, digest, r, s); err != nil {
				t.Errorf("%#x of %d bytes: %v", name, size, err)
			}
			for _, bad := range []*[]byte{&r, &s, &digest} {
				kept := *bad
				*bad = bytes.Clone(kept)
				(*bad)[3] ^= 1
				if err := key.Verify(name, tpm2.AlgSHA256, digest, r, s); !errors.Is(err, tpm2.RCSignature) {
					t.Errorf("%#x of %d bytes with one changed: %v", name, size, err)
				}
				*bad = kept
			}
		}
	}
	if err := key.Verify(tpm2.AlgECDSA, tpm2.AlgSHA256, make([]byte, 32), make([]byte, 32), make([]byte, 32)); !errors.Is(err, tpm2.RCSignature) {
		t.Errorf("a signature of zeros: %v", err)
	}
}
