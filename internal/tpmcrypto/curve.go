package tpmcrypto

import (
	"bytes"
	"crypto/elliptic"
	"io"
	"sync"

	"filippo.io/bigmod"
	"filippo.io/nistec"

	"github.com/assay-project/assay/tpm2"
)

// A curve is one of the curves here, with what is computed about it once.
type curve struct {
	group
	id     tpm2.ECCCurve
	params *elliptic.CurveParams // public numbers only
	a      []byte                // the coefficient that params takes to be -3
	size   int                   // of a coordinate and of a scalar, in bytes; for these curves the same

	n       *bigmod.Modulus // the order
	nMinus1 *bigmod.Modulus
	wide    *bigmod.Modulus // above any number of size+8 bytes but the last
	wider   *bigmod.Modulus // above any digest
}

// A group computes with points as SEC 1, 2.3.3 writes them, uncompressed, and
// scalars of the size of the order. A point at infinity has one byte. Points must
// have passed check, and scalars be below the order.
type group interface {
	check(p []byte) bool               // on the curve, and not infinity
	base(a []byte) []byte              // [a]G
	mult(a, p []byte) []byte           // [a]P
	combine(a, p, b, q []byte) []byte  // [a]P + [b]Q
	baseCombine(a, b, q []byte) []byte // [a]G + [b]Q
}

// point is what the types of nistec have in common.
type point[P any] interface {
	Add(P, P) P
	Bytes() []byte
	SetBytes([]byte) (P, error)
	ScalarMult(P, []byte) (P, error)
	ScalarBaseMult([]byte) (P, error)
}

// nist is a group of nistec, or of another package with the same methods.
type nist[P point[P]] struct{ new func() P }

func (g *nist[P]) check(p []byte) bool {
	if len(p) < 2 || p[0] != 4 {
		return false
	}
	_, err := g.new().SetBytes(p)
	return err == nil
}

// known panics on an error that a checked point and a scalar of the right size
// cannot give.
//
//go:noinline
func known[P any](p P, err error) P {
	if err != nil {
		panic("unreachable: " + err.Error())
	}
	return p
}

func (g *nist[P]) base(a []byte) []byte { return known(g.new().ScalarBaseMult(a)).Bytes() }

func (g *nist[P]) times(a, p []byte) P {
	return known(g.new().ScalarMult(known(g.new().SetBytes(p)), a))
}

func (g *nist[P]) mult(a, p []byte) []byte { return g.times(a, p).Bytes() }

func (g *nist[P]) combine(a, p, b, q []byte) []byte {
	return g.new().Add(g.times(a, p), g.times(b, q)).Bytes()
}

func (g *nist[P]) baseCombine(a, b, q []byte) []byte {
	return g.new().Add(known(g.new().ScalarBaseMult(a)), g.times(b, q)).Bytes()
}

var (
	curveP256 = sync.OnceValue(func() *curve {
		return newCurve(tpm2.CurveNISTP256, elliptic.P256().Params(), &nist[*nistec.P256Point]{nistec.NewP256Point})
	})
	curveP384 = sync.OnceValue(func() *curve {
		return newCurve(tpm2.CurveNISTP384, elliptic.P384().Params(), &nist[*nistec.P384Point]{nistec.NewP384Point})
	})
	curveP521 = sync.OnceValue(func() *curve {
		return newCurve(tpm2.CurveNISTP521, elliptic.P521().Params(), &nist[*nistec.P521Point]{nistec.NewP521Point})
	})
)

func newCurve(id tpm2.ECCCurve, params *elliptic.CurveParams, g group) *curve {
	n := params.N.Bytes()
	minus1 := bytes.Clone(n)
	minus1[len(n)-1]-- // the orders are odd
	a := params.P.Bytes()
	a[len(a)-1] -= 3 // SP 800-186, 3.2.1: a is -3 for the curves of NIST; their p ends in FF
	return &curve{
		group: g, id: id, params: params, a: a, size: len(n),
		n:       known(bigmod.NewModulus(n)),
		nMinus1: known(bigmod.NewModulus(minus1)),
		wide:    known(bigmod.NewModulus(bytes.Repeat([]byte{0xFF}, len(n)+8))),
		wider:   known(bigmod.NewModulus(bytes.Repeat([]byte{0xFF}, tpm2.MaxDigest+8))),
	}
}

// curveOf returns a curve, or TPM_RC_CURVE.
func curveOf(id tpm2.ECCCurve) (*curve, error) {
	switch id {
	case tpm2.CurveNISTP256:
		return curveP256(), nil
	case tpm2.CurveNISTP384:
		return curveP384(), nil
	case tpm2.CurveNISTP521:
		return curveP521(), nil
	case tpm2.CurveBNP256:
		return curveBNP256(), nil
	}
	return nil, refuse(tpm2.RCCurve, "curve %v is not implemented", id)
}

// CurveParameters are the numbers of a TPMS_ALGORITHM_DETAIL_ECC (Part 2, 11.2.5.8),
// big endian.
type CurveParameters struct {
	KeyBits               uint16
	P, A, B, GX, GY, N, H []byte
}

// Parameters describes a curve; the refusal is TPM_RC_CURVE.
func Parameters(id tpm2.ECCCurve) (*CurveParameters, error) {
	c, err := curveOf(id)
	if err != nil {
		return nil, err
	}
	pad := func(b []byte) []byte { return append(make([]byte, c.size-len(b), c.size), b...) }
	return &CurveParameters{
		KeyBits: uint16(c.params.BitSize), // at most 521
		P:       c.params.P.Bytes(), A: bytes.Clone(c.a), B: pad(c.params.B.Bytes()),
		GX: pad(c.params.Gx.Bytes()), GY: pad(c.params.Gy.Bytes()),
		N: pad(c.params.N.Bytes()), H: []byte{1},
	}, nil
}

// encode writes a point of a TPM as SEC 1 does; leading zeros may be missing or
// too many (Part 2, 11.2.5.1). The refusal is TPM_RC_ECC_POINT, also for infinity.
func (c *curve) encode(p tpm2.ECCPoint) ([]byte, error) {
	x, y := bytes.TrimLeft(p.X, "\x00"), bytes.TrimLeft(p.Y, "\x00")
	if len(x) <= c.size && len(y) <= c.size {
		out := make([]byte, 1+2*c.size)
		out[0] = 4
		copy(out[1+c.size-len(x):], x)
		copy(out[1+2*c.size-len(y):], y)
		if c.check(out) {
			return out, nil
		}
	}
	return nil, refuse(tpm2.RCECCPoint, "point is not on %v", c.id)
}

// decode is the inverse of encode, with coordinates padded to the size of the
// field; infinity is TPM_RC_NO_RESULT.
func (c *curve) decode(p []byte) (tpm2.ECCPoint, error) {
	if len(p) != 1+2*c.size {
		return tpm2.ECCPoint{}, refuse(tpm2.RCNoResult, "point at infinity")
	}
	return tpm2.ECCPoint{X: p[1 : 1+c.size : 1+c.size], Y: p[1+c.size:]}, nil
}

// OnCurve checks that a point is on the curve and not infinity. Refusals are
// TPM_RC_CURVE and TPM_RC_ECC_POINT.
func OnCurve(id tpm2.ECCCurve, p tpm2.ECCPoint) error {
	c, err := curveOf(id)
	if err != nil {
		return err
	}
	_, err = c.encode(p)
	return err
}

// scalar reads a number below the order; ok is false for any other, and for 0.
func (c *curve) scalar(b []byte) (x *bigmod.Nat, ok bool) {
	b = bytes.TrimLeft(b, "\x00")
	if len(b) > c.size {
		return nil, false
	}
	x, err := bigmod.NewNat().SetBytes(b, c.n)
	if err != nil || x.IsZero() == 1 {
		return nil, false
	}
	return x, true
}

// reduced reads a number of at most the size of the order and less than twice its
// value, modulo the order: a coordinate, or the first bytes of a digest.
func (c *curve) reduced(b []byte) *bigmod.Nat {
	return known(bigmod.NewNat().SetOverflowingBytes(b, c.n))
}

// digestMod returns a digest of any size as a number modulo the order.
func (c *curve) digestMod(b []byte) *bigmod.Nat {
	return bigmod.NewNat().Mod(known(bigmod.NewNat().SetBytes(b, c.wider)), c.n)
}

// randomScalar draws a number from 1 to the order less one with 64 bits more than
// it needs (FIPS 186-5, A.2.1). What it reads is part of the promise of [Seeded].
func (c *curve) randomScalar(r io.Reader) (*bigmod.Nat, error) {
	for {
		b, err := read(r, c.size+8)
		if err != nil {
			return nil, err
		}
		x, err := bigmod.NewNat().SetBytes(b, c.wide)
		if err != nil {
			continue // all bits are set
		}
		d := bigmod.NewNat().Mod(x, c.nMinus1).ExpandFor(c.n)
		return d.Add(known(bigmod.NewNat().SetBytes([]byte{1}, c.n)), c.n), nil
	}
}
