package tpmcrypto

import (
	"encoding/binary"
	"math/bits"
)

// Arithmetic on numbers of a fixed count of 64-bit limbs, the least significant
// first, for what bigmod does not offer: a division by a short number, and one
// that is known to be exact. Its time depends on the counts alone, as far as the
// processor's own division does so.

// limbsOf converts a big-endian number, whose size is a multiple of 8.
func limbsOf(b []byte) []uint64 {
	x := make([]uint64, len(b)/8)
	for i := range x {
		x[i] = binary.BigEndian.Uint64(b[len(b)-8*(i+1):])
	}
	return x
}

// bytesOf is the inverse of limbsOf.
func bytesOf(x []uint64) []byte {
	b := make([]byte, 8*len(x))
	for i, v := range x {
		binary.BigEndian.PutUint64(b[len(b)-8*(i+1):], v)
	}
	return b
}

// subShort returns x - y; x must not be less than y.
func subShort(x []uint64, y uint64) []uint64 {
	out := make([]uint64, len(x))
	for i := range x {
		out[i], y = bits.Sub64(x[i], y, 0)
	}
	return out
}

// below reports whether x < y; both have as many limbs.
func below(x, y []uint64) bool {
	var borrow uint64
	for i := range x {
		_, borrow = bits.Sub64(x[i], y[i], borrow)
	}
	return borrow == 1
}

// modShort returns x mod d.
func modShort(x []uint64, d uint64) uint64 {
	var r uint64
	for i := len(x) - 1; i >= 0; i-- {
		_, r = bits.Div64(r, x[i], d)
	}
	return r
}

// mulAddDiv returns (x*k + 1) / d, which must have as many limbs as x.
func mulAddDiv(x []uint64, k, d uint64) []uint64 {
	product := make([]uint64, len(x)+1)
	carry := uint64(1)
	for i := range x {
		hi, lo := bits.Mul64(x[i], k)
		var c uint64
		product[i], c = bits.Add64(lo, carry, 0)
		carry = hi + c
	}
	product[len(x)] = carry
	var r uint64
	for i := len(x); i >= 0; i-- {
		product[i], r = bits.Div64(r, product[i], d)
	}
	return product[:len(x)]
}

// inverse64 returns 1/x modulo 2^64 for an odd x.
func inverse64(x uint64) uint64 {
	inverse := x // of three bits; Newton's method doubles them
	for range 5 {
		inverse *= 2 - x*inverse
	}
	return inverse
}

// divExact returns n / p for an odd p of half as many limbs as n that divides it;
// for any other p, a number whose product with p is not n.
func divExact(n, p []uint64) []uint64 {
	inverse := inverse64(p[0])
	rest := append([]uint64{}, n[:len(p)]...)
	q := make([]uint64, len(p))
	for i := range q {
		q[i] = rest[i] * inverse
		var carry uint64
		for j := range len(p) - i {
			hi, lo := bits.Mul64(q[i], p[j])
			lo, c := bits.Add64(lo, carry, 0)
			carry = hi + c
			rest[i+j], c = bits.Sub64(rest[i+j], lo, 0)
			carry += c
		}
	}
	return q
}

// inverseShort returns 1/x mod m for x below m; ok is false when there is none.
func inverseShort(x, m uint64) (inverse uint64, ok bool) {
	// Euclid's algorithm; both factors stay below m, which is below 2^32.
	a, b := int64(m), int64(x)
	u, v := int64(0), int64(1)
	for b != 0 {
		a, b, u, v = b, a%b, v, u-a/b*v
	}
	if a != 1 {
		return 0, false
	}
	if u < 0 {
		u += int64(m)
	}
	return uint64(u), true
}
