package mldsa

import (
	"bytes"
	"crypto/sha3"
)

// Verify checks a signature of the message representative mu (6.3, algorithm 8,
// from step 8 on). Refusals: [ErrSize], [ErrHint], [ErrNorm] and [ErrMismatch].
func (s Set) Verify(public, mu, sig []byte) error {
	p, ok := s.params()
	if !ok || len(public) != p.publicSize() || len(mu) != MuSize || len(sig) != p.signatureSize() {
		return ErrSize
	}
	challenge, rest := sig[:p.challenge], sig[p.challenge:]
	z := make([]poly, p.l)
	for i := range z {
		if !p.unpackZ(&z[i], rest[:p.zSize()]) {
			return ErrNorm // step 13, ‖z‖∞ < γ1 − β
		}
		z[i].ntt()
		rest = rest[p.zSize():]
	}
	var hints [8]poly
	if !p.unpackHints(hints[:p.k], rest) {
		return ErrHint // step 3
	}
	var c poly
	c.sampleInBall(challenge, p.tau)
	c.ntt()
	h := sha3.NewSHAKE256()
	h.Write(mu)
	for r := range p.k {
		w := p.row(public, r, z, &c)
		h.Write(p.pack(p.useHint(&w, &hints[r])))
	}
	want := make([]byte, p.challenge)
	h.Read(want)
	if !bytes.Equal(challenge, want) {
		return ErrMismatch
	}
	return nil
}

// row computes row r of A·z − c·t1·2^d (step 9), of images of z and c.
func (p *params) row(public []byte, r int, z []poly, c *poly) poly {
	var w, a poly
	for s := range z {
		a.expand(public[:32], r, s)
		w.addProduct(&a, &z[s])
	}
	unpackT1(&a, public[32+r*t1Size:])
	a.ntt()
	w.subProduct(c, &a)
	w.inverse()
	return w
}

// unpackT1 decodes a polynomial of the public key and multiplies it by 2^d (7.1,
// algorithm 18, with ten bits a coefficient). Each encoding is of one key.
func unpackT1(f *poly, b []byte) {
	for i := range f {
		at := 10 * i
		v := uint32(b[at/8]) | uint32(b[at/8+1])<<8
		f[i] = v >> (at % 8) & (1<<10 - 1) << d
	}
}

// unpackZ decodes a polynomial of z (7.1, algorithm 19), of which no coefficient may
// have a magnitude of γ1 − β or more. All encodings decode, each to another value.
func (p *params) unpackZ(f *poly, b []byte) bool {
	limit := p.gamma1() - p.beta
	for i := range f {
		at := p.zBits * i
		// 18 and 20 bits begin at an even bit, and reach into the third byte.
		v := int(b[at/8]) | int(b[at/8+1])<<8 | int(b[at/8+2])<<16
		c := p.gamma1() - v>>(at%8)&(1<<p.zBits-1)
		if c >= limit || -c >= limit {
			return false
		}
		if c < 0 {
			c += q
		}
		f[i] = uint32(c) // below q
	}
	return true
}

// unpackHints decodes the hints (7.1, algorithm 21): the indices of the ones of each
// polynomial, then where those of each end. It refuses all encodings but one of the
// same hints, without which anybody could make another signature of one that he has.
func (p *params) unpackHints(hints []poly, b []byte) bool {
	indices, ends := b[:p.omega], b[p.omega:]
	index := 0
	for i, e := range ends {
		end := int(e)
		if end < index || end > p.omega {
			return false
		}
		for first := index; index < end; index++ {
			if index > first && indices[index-1] >= indices[index] {
				return false
			}
			hints[i][indices[index]] = 1
		}
	}
	for _, v := range indices[index:] {
		if v != 0 {
			return false
		}
	}
	return true
}

// useHint returns the high parts of w as the hints correct them (7.4, algorithm 40).
func (p *params) useHint(w, hints *poly) *poly {
	m := (q - 1) / (2 * p.gamma2)
	for i, r := range w {
		high, positive := p.decompose(r)
		switch {
		case hints[i] == 0:
		case positive:
			high = (high + 1) % m
		default:
			high = (high + m - 1) % m
		}
		w[i] = high
	}
	return w
}

// decompose returns the high part of r, and whether the low part is above zero (7.4,
// algorithm 36).
func (p *params) decompose(r uint32) (high uint32, positive bool) {
	low := r % (2 * p.gamma2)
	positive = low > 0 && low <= p.gamma2
	if low > p.gamma2 {
		r += 2 * p.gamma2 // the low part is low − 2·γ2
	}
	high = (r - low) / (2 * p.gamma2)
	if high == (q-1)/(2*p.gamma2) {
		return 0, false // r − low is q − 1: one class more than there are numbers for
	}
	return high, positive
}

// pack encodes high parts (7.1, algorithm 16, of w1Encode).
func (p *params) pack(f *poly) []byte {
	out := make([]byte, p.w1Bits*n/8)
	for i, c := range f {
		at := p.w1Bits * i
		c <<= at % 8
		out[at/8] |= byte(c)
		if c > 0xff {
			out[at/8+1] |= byte(c >> 8)
		}
	}
	return out
}
