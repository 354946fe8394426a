package mldsa

const (
	q = 8380417 // the modulus, 2^23 − 2^13 + 1
	n = 256     // coefficients of a polynomial
	d = 13      // bits that the public key leaves out of t
)

// params are what the sets differ in (table 1).
type params struct {
	k, l      int    // rows and columns of A
	tau       int    // coefficients of c that are not zero
	challenge int    // size of c̃, λ/4
	zBits     int    // of a coefficient of z: 1 + log2 γ1
	gamma2    uint32 // range of the low part of w
	omega     int    // how many hints there may be
	beta      int    // τ·η
	w1Bits    int    // of a coefficient of w1
}

// params returns the parameters of a set; false for a number that is none.
func (s Set) params() (p params, ok bool) {
	switch s {
	case MLDSA44:
		return params{k: 4, l: 4, tau: 39, challenge: 32, zBits: 18, gamma2: (q - 1) / 88, omega: 80, beta: 78, w1Bits: 6}, true
	case MLDSA65:
		return params{k: 6, l: 5, tau: 49, challenge: 48, zBits: 20, gamma2: (q - 1) / 32, omega: 55, beta: 196, w1Bits: 4}, true
	case MLDSA87:
		return params{k: 8, l: 7, tau: 60, challenge: 64, zBits: 20, gamma2: (q - 1) / 32, omega: 75, beta: 120, w1Bits: 4}, true
	}
	return params{}, false
}

// gamma1 is the range of the coefficients of z.
func (p *params) gamma1() int { return 1 << (p.zBits - 1) }

// publicSize is 32 + 32·k·(bitlen(q−1) − d), of pkEncode (7.2, algorithm 22).
func (p *params) publicSize() int { return 32 + p.k*t1Size }

// signatureSize is λ/4 + l·32·(1 + bitlen(γ1−1)) + ω + k, of sigEncode (7.2,
// algorithm 26).
func (p *params) signatureSize() int { return p.challenge + p.l*p.zSize() + p.omega + p.k }

// Sizes of packed polynomials, of t1 with ten bits a coefficient.
const t1Size = 10 * n / 8

func (p *params) zSize() int { return p.zBits * n / 8 }

// PublicSize is the size of a public key in bytes, 0 for a number that is no set.
func (s Set) PublicSize() int {
	p, ok := s.params()
	if !ok {
		return 0
	}
	return p.publicSize()
}

// SignatureSize is the size of a signature in bytes, 0 for a number that is no set.
func (s Set) SignatureSize() int {
	p, ok := s.params()
	if !ok {
		return 0
	}
	return p.signatureSize()
}
