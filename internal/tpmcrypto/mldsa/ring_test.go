package mldsa

import (
	"crypto/sha3"
	"math/rand/v2"
	"testing"
)

// representative is μ of a message with no context (FIPS 204, 5.2 and 6.2).
func representative(public, message []byte) []byte {
	h := sha3.NewSHAKE256()
	h.Write(sha3.SumSHAKE256(public, 64))
	h.Write([]byte{0, 0})
	h.Write(message)
	mu := make([]byte, MuSize)
	h.Read(mu)
	return mu
}

// The table is that of 7.5, computed from its definition.
func TestZetasAreThePowersOfTheRoot(t *testing.T) {
	for i, got := range zetas {
		exponent := 0
		for b := range 8 {
			exponent |= i >> b & 1 << (7 - b)
		}
		want := uint32(1)
		for range exponent {
			want = mul(want, 1753)
		}
		if got != want {
			t.Errorf("zetas[%d] = %d, want %d", i, got, want)
		}
	}
}

func randomPoly(r *rand.Rand) (f poly) {
	for i := range f {
		f[i] = r.Uint32N(q)
	}
	return f
}

// A product of images is the image of the product modulo X^256 + 1.
func TestTransformMultiplies(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := randomPoly(r), randomPoly(r)
	a[0], a[1], b[255] = q-1, 0, q-1
	var want poly
	for i := range a {
		for j := range b {
			if p := mul(a[i], b[j]); i+j < n {
				want[i+j] = add(want[i+j], p)
			} else {
				want[i+j-n] = sub(want[i+j-n], p)
			}
		}
	}
	back := a
	back.ntt()
	back.inverse()
	if back != a {
		t.Error("inverse does not undo ntt")
	}
	a.ntt()
	b.ntt()
	var sum, difference poly
	sum.addProduct(&a, &b)
	difference.subProduct(&a, &b)
	sum.inverse()
	difference.inverse()
	if sum != want {
		t.Error("the product is another")
	}
	for i := range want {
		if add(difference[i], want[i]) != 0 {
			t.Fatalf("coefficient %d of the difference = %d", i, difference[i])
		}
	}
}

// High and low parts make up the number (7.4, algorithm 36): of numbers all over, and
// round those where a part changes.
func TestPartsMakeUpTheNumber(t *testing.T) {
	for _, s := range []Set{MLDSA44, MLDSA65} {
		p, _ := s.params()
		for r := 0; r < q; r += 101 {
			checkParts(t, &p, r)
		}
		for edge := 0; edge < q; edge += int(p.gamma2) {
			for r := max(0, edge-2); r < min(q, edge+3); r++ {
				checkParts(t, &p, r)
			}
		}
	}
}

func checkParts(t *testing.T, p *params, r int) {
	t.Helper()
	alpha := 2 * int(p.gamma2)
	high, positive := p.decompose(uint32(r))
	low := r - int(high)*alpha
	if low > q/2 {
		low -= q // high is 0 for q − 1 as well
	}
	if low > int(p.gamma2) || low < -int(p.gamma2) || positive != (low > 0) || int(high) >= (q-1)/alpha {
		t.Fatalf("γ2 %d: decompose(%d) = %d, %v, whose low part is %d", p.gamma2, r, high, positive, low)
	}
}

// Of all encodings of the same hints one decodes (7.1, algorithm 21).
func TestHintsHaveOneEncoding(t *testing.T) {
	p := &params{k: 3, omega: 4}
	for name, tc := range map[string]struct {
		encoded string
		want    bool
	}{
		"none":                          {"\x00\x00\x00\x00\x00\x00\x00", true},
		"two and none and one":          {"\x05\x09\x03\x00\x02\x02\x03", true},
		"all in the last":               {"\x00\x01\x02\xff\x00\x00\x04", true},
		"an end that steps back":        {"\x05\x09\x03\x00\x02\x01\x03", false},
		"an end that steps back at end": {"\x05\x09\x03\x00\x02\x03\x02", false},
		"an end behind the indices":     {"\x05\x09\x03\x04\x02\x03\x05", false},
		"an index twice":                {"\x05\x05\x03\x00\x02\x02\x03", false},
		"indices in another order":      {"\x09\x05\x03\x00\x02\x02\x03", false},
		"something behind the indices":  {"\x05\x09\x03\x01\x02\x02\x03", false},
	} {
		hints := make([]poly, p.k)
		if got := p.unpackHints(hints, []byte(tc.encoded)); got != tc.want {
			t.Errorf("%s: unpackHints = %v, want %v", name, got, tc.want)
		}
		if name == "two and none and one" && (hints[0][5] != 1 || hints[0][9] != 1 || hints[1] != poly{} || hints[2][3] != 1) {
			t.Errorf("%s: hints are %v", name, hints)
		}
	}
}
