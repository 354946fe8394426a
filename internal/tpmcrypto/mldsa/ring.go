package mldsa

import "crypto/sha3"

// A poly is a polynomial of the ring Z_q[X]/(X^256 + 1), or its image under ntt.
// Coefficients are below q.
type poly [n]uint32

// mul multiplies modulo q.
func mul(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % q) }

// add adds modulo q.
func add(a, b uint32) uint32 {
	if a += b; a >= q {
		a -= q
	}
	return a
}

// sub subtracts modulo q.
func sub(a, b uint32) uint32 { return add(a, q-b) }

// ntt transforms a polynomial in place (7.5, algorithm 41).
func (f *poly) ntt() {
	m := 0
	for size := n / 2; size >= 1; size /= 2 {
		for start := 0; start < n; start += 2 * size {
			m++
			z := zetas[m]
			for j := start; j < start+size; j++ {
				t := mul(z, f[j+size])
				f[j+size] = sub(f[j], t)
				f[j] = add(f[j], t)
			}
		}
	}
}

// inverse undoes ntt (7.5, algorithm 42).
func (f *poly) inverse() {
	m := n
	for size := 1; size < n; size *= 2 {
		for start := 0; start < n; start += 2 * size {
			m--
			z := q - zetas[m]
			for j := start; j < start+size; j++ {
				t := f[j]
				f[j] = add(t, f[j+size])
				f[j+size] = mul(z, sub(t, f[j+size]))
			}
		}
	}
	const scale = 8347681 // 1/256
	for j := range f {
		f[j] = mul(scale, f[j])
	}
}

// addProduct adds the product of two images to f (7.6).
func (f *poly) addProduct(a, b *poly) {
	for i := range f {
		f[i] = add(f[i], mul(a[i], b[i]))
	}
}

// subProduct subtracts it.
func (f *poly) subProduct(a, b *poly) {
	for i := range f {
		f[i] = sub(f[i], mul(a[i], b[i]))
	}
}

// expand makes the polynomial of A in row r and column s (7.3, algorithms 30 and
// 32): what SHAKE128 gives, three bytes a try.
func (f *poly) expand(rho []byte, r, s int) {
	h := sha3.NewSHAKE128()
	h.Write(rho)
	h.Write([]byte{byte(s), byte(r)})
	var block [168]byte // the rate of SHAKE128, a multiple of three
	for i := 0; i < n; {
		h.Read(block[:])
		for b := block[:]; len(b) > 0 && i < n; b = b[3:] {
			// Algorithm 14: of the third byte the highest bit is left out.
			if c := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2]&0x7f)<<16; c < q {
				f[i] = c
				i++
			}
		}
	}
}

// sampleInBall makes the challenge, which has tau coefficients of 1 or −1 (7.3,
// algorithm 29).
func (f *poly) sampleInBall(challenge []byte, tau int) {
	h := sha3.NewSHAKE256()
	h.Write(challenge)
	var signs [8]byte
	h.Read(signs[:])
	*f = poly{}
	for i := n - tau; i < n; i++ {
		var j [1]byte
		for h.Read(j[:]); int(j[0]) > i; {
			h.Read(j[:])
		}
		f[i] = f[j[0]]
		bit := i + tau - n
		if f[j[0]] = 1; signs[bit/8]>>(bit%8)&1 == 1 {
			f[j[0]] = q - 1
		}
	}
}
