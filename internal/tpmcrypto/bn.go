package tpmcrypto

import (
	"crypto/elliptic"
	"errors"
	"math/big"
	"sync"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/tpm2"
)

// BN P-256 is the curve y² = x³ + 3 of ISO/IEC 15946-5, which ECDAA was made for
// (TCG Algorithm Registry, 6.4). There is no library for it to depend on; the group
// is computed here with the complete formulas of Renes, Costello and Batina
// ("Complete addition formulas for prime order elliptic curves", 2015, algorithm
// 7), which have no special cases, over the constant-time numbers of
// filippo.io/bigmod. It takes milliseconds where a NIST curve takes microseconds.
const (
	bnP = "\xff\xff\xff\xff\xff\xfc\xf0\xcd\x46\xe5\xf2\x5e\xee\x71\xa4\x9f\x0c\xdc\x65\xfb\x12\x98\x0a\x82\xd3\x29\x2d\xdb\xae\xd3\x30\x13"
	bnN = "\xff\xff\xff\xff\xff\xfc\xf0\xcd\x46\xe5\xf2\x5e\xee\x71\xa4\x9e\x0c\xdc\x65\xfb\x12\x99\x92\x1a\xf6\x2d\x53\x6c\xd1\x0b\x50\x0d"

	bnSize = 32
)

// bnField has the constants of the field.
type bnField struct {
	p      *bigmod.Modulus
	pLess2 []byte // exponent of the inverse, by Fermat
	b, b3  *bigmod.Nat
}

var theBNField = sync.OnceValue(func() *bnField {
	less2 := []byte(bnP)
	less2[bnSize-1] -= 2
	p := known(bigmod.NewModulus([]byte(bnP)))
	return &bnField{p: p, pLess2: less2, b: bnSmall(p, 3), b3: bnSmall(p, 9)}
})

// bnSmall returns a small number of the field, or a bit that is secret.
func bnSmall(p *bigmod.Modulus, v byte) *bigmod.Nat {
	return known(bigmod.NewNat().SetBytes([]byte{v}, p))
}

// A bnPoint is a point in projective coordinates; Z is 0 at infinity.
type bnPoint struct{ x, y, z *bigmod.Nat }

// newBNPoint returns infinity.
func newBNPoint() *bnPoint {
	p := theBNField().p
	return &bnPoint{bnSmall(p, 0), bnSmall(p, 1), bnSmall(p, 0)}
}

func (f *bnField) mul(a, b *bigmod.Nat) *bigmod.Nat { return f.copy(a).Mul(b, f.p) }
func (f *bnField) add(a, b *bigmod.Nat) *bigmod.Nat { return f.copy(a).Add(b, f.p) }
func (f *bnField) sub(a, b *bigmod.Nat) *bigmod.Nat { return f.copy(a).Sub(b, f.p) }

// copy returns a number of the field that may be changed.
func (f *bnField) copy(a *bigmod.Nat) *bigmod.Nat {
	return bigmod.NewNat().SetUint(0).ExpandFor(f.p).Add(a, f.p)
}

// Add sets r to a + b, which may be the same or infinity.
func (r *bnPoint) Add(a, b *bnPoint) *bnPoint {
	f := theBNField()
	xx, yy, zz := f.mul(a.x, b.x), f.mul(a.y, b.y), f.mul(a.z, b.z)
	xy := f.mul(f.add(a.x, a.y), f.add(b.x, b.y)).Sub(xx, f.p).Sub(yy, f.p)
	yz := f.mul(f.add(a.y, a.z), f.add(b.y, b.z)).Sub(yy, f.p).Sub(zz, f.p)
	xz := f.mul(f.add(a.x, a.z), f.add(b.x, b.z)).Sub(xx, f.p).Sub(zz, f.p)
	xx3 := f.add(f.add(xx, xx), xx)
	bzz, bxz := f.mul(f.b3, zz), f.mul(f.b3, xz)
	sum, diff := f.add(yy, bzz), f.sub(yy, bzz)
	r.x = f.sub(f.mul(xy, diff), f.mul(yz, bxz))
	r.y = f.add(f.mul(diff, sum), f.mul(bxz, xx3))
	r.z = f.add(f.mul(sum, yz), f.mul(xx3, xy))
	return r
}

// chosen sets r to b when bit is 1, to a when it is 0, as a + bit(b - a).
func (r *bnPoint) chosen(bit byte, a, b *bnPoint) {
	f := theBNField()
	s := bnSmall(f.p, bit)
	pick := func(u, v *bigmod.Nat) *bigmod.Nat { return f.sub(v, u).Mul(s, f.p).Add(u, f.p) }
	r.x, r.y, r.z = pick(a.x, b.x), pick(a.y, b.y), pick(a.z, b.z)
}

// ScalarMult sets r to [a]q. Each bit doubles, adds and chooses.
func (r *bnPoint) ScalarMult(q *bnPoint, a []byte) (*bnPoint, error) {
	*r = *newBNPoint()
	added := newBNPoint()
	for _, octet := range a {
		for bit := 7; bit >= 0; bit-- {
			r.Add(r, r)
			added.Add(r, q)
			r.chosen(octet>>bit&1, r, added)
		}
	}
	return r, nil
}

// ScalarBaseMult sets r to [a]G, where G is (1, 2).
func (r *bnPoint) ScalarBaseMult(a []byte) (*bnPoint, error) {
	p := theBNField().p
	return r.ScalarMult(&bnPoint{bnSmall(p, 1), bnSmall(p, 2), bnSmall(p, 1)}, a)
}

// Bytes writes the point as SEC 1, 2.3.3 does, uncompressed.
func (r *bnPoint) Bytes() []byte {
	if r.z.IsZero() == 1 {
		return []byte{0}
	}
	f := theBNField()
	inverse := bigmod.NewNat().Exp(r.z, f.pLess2, f.p)
	return append(append([]byte{4}, f.mul(r.x, inverse).Bytes(f.p)...), f.mul(r.y, inverse).Bytes(f.p)...)
}

var errNotOnBN = errors.New("not a point of BN P-256")

// SetBytes reads what Bytes writes, which must be a point of the curve. As the
// order of the curve is prime, it then is in the group.
func (r *bnPoint) SetBytes(b []byte) (*bnPoint, error) {
	f := theBNField()
	if len(b) != 1+2*bnSize || b[0] != 4 {
		return nil, errNotOnBN
	}
	x, errX := bigmod.NewNat().SetBytes(b[1:1+bnSize], f.p)
	y, errY := bigmod.NewNat().SetBytes(b[1+bnSize:], f.p)
	if errX != nil || errY != nil || f.mul(y, y).Equal(f.mul(f.mul(x, x), x).Add(f.b, f.p)) == 0 {
		return nil, errNotOnBN
	}
	r.x, r.y, r.z = x, y, bnSmall(f.p, 1)
	return r, nil
}

var curveBNP256 = sync.OnceValue(func() *curve {
	number := func(s string) *big.Int { return new(big.Int).SetBytes([]byte(s)) }
	c := newCurve(tpm2.CurveBNP256, &elliptic.CurveParams{
		P: number(bnP), N: number(bnN), B: big.NewInt(3), Gx: big.NewInt(1), Gy: big.NewInt(2), BitSize: 256, Name: "BN P-256",
	}, &nist[*bnPoint]{newBNPoint})
	c.a = make([]byte, bnSize)
	return c
})
