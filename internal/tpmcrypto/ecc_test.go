package tpmcrypto_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// stdCurve is a curve as other implementations know it.
type stdCurve struct {
	id   tpm2.ECCCurve
	ec   elliptic.Curve
	ecdh ecdh.Curve
	size int
}

var stdCurves = []stdCurve{
	{tpm2.CurveNISTP256, elliptic.P256(), ecdh.P256(), 32},
	{tpm2.CurveNISTP384, elliptic.P384(), ecdh.P384(), 48},
	{tpm2.CurveNISTP521, elliptic.P521(), ecdh.P521(), 66},
}

func newECC(t testing.TB, id tpm2.ECCCurve, name string) *tpmcrypto.ECCKey {
	t.Helper()
	r, err := tpmcrypto.Seeded(tpm2.AlgSHA256, pattern(64), "ecc", []byte(name), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpmcrypto.GenerateECC(r, id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func stdECDSA(t testing.TB, c stdCurve, k *tpmcrypto.ECCPublic) *ecdsa.PublicKey {
	t.Helper()
	p := k.Point()
	key, err := ecdsa.ParseUncompressedPublicKey(c.ec, append(append([]byte{4}, p.X...), p.Y...))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Plain arithmetic on curves by their equation, to check against; nothing in it is
// shared with the code under test.

type affine struct{ x, y *big.Int } // nil x is infinity

func toAffine(p tpm2.ECCPoint) affine {
	return affine{new(big.Int).SetBytes(p.X), new(big.Int).SetBytes(p.Y)}
}

func (a affine) point(c stdCurve) tpm2.ECCPoint {
	return tpm2.ECCPoint{X: a.x.FillBytes(make([]byte, c.size)), Y: a.y.FillBytes(make([]byte, c.size))}
}

func (c stdCurve) add(a, b affine) affine {
	p := c.ec.Params().P
	switch {
	case a.x == nil:
		return b
	case b.x == nil:
		return a
	}
	num, den := new(big.Int).Sub(b.y, a.y), new(big.Int).Sub(b.x, a.x)
	if den.Sign() == 0 {
		if num.Sign() != 0 || a.y.Sign() == 0 {
			return affine{}
		}
		num.Mul(a.x, a.x)
		num.Sub(num.Mul(num, big.NewInt(3)), big.NewInt(3))
		den.Lsh(a.y, 1)
	}
	m := num.Mul(num, den.ModInverse(den.Mod(den, p), p))
	x := new(big.Int).Mul(m, m)
	x.Mod(x.Sub(x.Sub(x, a.x), b.x), p)
	y := new(big.Int).Sub(a.x, x)
	y.Mod(y.Sub(y.Mul(y, m), a.y), p)
	return affine{x, y}
}

func (c stdCurve) times(k *big.Int, a affine) affine {
	k = new(big.Int).Mod(k, c.ec.Params().N)
	var out affine
	for i := k.BitLen() - 1; i >= 0; i-- {
		out = c.add(out, out)
		if k.Bit(i) == 1 {
			out = c.add(out, a)
		}
	}
	return out
}

func (c stdCurve) g() affine { return affine{c.ec.Params().Gx, c.ec.Params().Gy} }

// Golden: seeded keys must never change.
func TestSeededECCKeysAreForEver(t *testing.T) {
	for i, want := range []string{
		"4d144804551770c550a49b2d160a78faad5a491ce9de917c43b6269ff9a22424",
		"43faca53ef326deaa507460cb0b949fbe05b7aae379f93b5f71f6805899ae5477edfb744b00256ce1679279dc6980637",
		"00bf69944c6ae76c15dbf24ba1c5aaa2b7a0b35e5e98f02ac68d8b8d05a062471afe6ccdc04a98eca40b5aabbcbd33f1848d523dca88ce770403deeadb5996a2799c",
	} {
		c := stdCurves[i]
		k := newECC(t, c.id, c.id.String())
		if got := fmt.Sprintf("%x", k.Scalar()); got != want {
			t.Errorf("seeded scalar on %v is %s, want %s", c.id, got, want)
		}
		want := c.times(new(big.Int).SetBytes(k.Scalar()), c.g()).point(c)
		if diff := cmp.Diff(want, k.Point()); diff != "" {
			t.Errorf("point on %v (-want +got):\n%s", c.id, diff)
		}
		again, err := tpmcrypto.LoadECC(c.id, k.Scalar())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(k.Point(), again.Point()); diff != "" || again.Curve() != c.id {
			t.Errorf("loaded point on %v (-want +got):\n%s", c.id, diff)
		}
	}
}

func TestECCRefusesUnusableKeys(t *testing.T) {
	for _, c := range stdCurves {
		n := c.ec.Params().N
		k := newECC(t, c.id, "a")
		p := k.Point()
		for name, d := range map[string][]byte{"none": nil, "zero": make([]byte, c.size), "order": n.Bytes(), "all ones": bytes.Repeat([]byte{0xFF}, c.size), "long": append([]byte{1}, k.Scalar()...)} {
			if _, err := tpmcrypto.LoadECC(c.id, d); !errors.Is(err, tpm2.RCKeySize) {
				t.Errorf("%v, scalar %s: LoadECC = %v, want TPM_RC_KEY_SIZE", c.id, name, err)
			}
		}
		if l, err := tpmcrypto.LoadECC(c.id, append(make([]byte, 5), k.Scalar()...)); err != nil || !bytes.Equal(l.Scalar(), k.Scalar()) {
			t.Errorf("%v: LoadECC with leading zeros = %v", c.id, err)
		}
		off := bytes.Clone(p.Y)
		off[c.size-1] ^= 1
		big := new(big.Int).Add(new(big.Int).SetBytes(p.X), c.ec.Params().P).Bytes()
		bad := map[string]tpm2.ECCPoint{
			"empty": {}, "zero": {X: make([]byte, c.size), Y: make([]byte, c.size)}, "off": {X: p.X, Y: off},
			"not reduced": {X: big, Y: p.Y}, "long": {X: append([]byte{1}, p.X...), Y: p.Y}, "half": {X: p.X},
		}
		for name, p := range bad {
			if _, err := tpmcrypto.NewECCPublic(c.id, p); !errors.Is(err, tpm2.RCECCPoint) {
				t.Errorf("%v, point %s: NewECCPublic = %v, want TPM_RC_ECC_POINT", c.id, name, err)
			}
			if err := tpmcrypto.OnCurve(c.id, p); !errors.Is(err, tpm2.RCECCPoint) {
				t.Errorf("%v, point %s: OnCurve = %v", c.id, name, err)
			}
			if _, err := k.Multiply(p); !errors.Is(err, tpm2.RCECCPoint) {
				t.Errorf("%v, point %s: Multiply = %v", c.id, name, err)
			}
			for _, scheme := range []tpm2.Alg{tpm2.AlgECDH, tpm2.AlgECMQV} {
				_, _, err1 := k.TwoPhase(scheme, k, p, k.Point())
				_, _, err2 := k.TwoPhase(scheme, k, k.Point(), p)
				if !errors.Is(err1, tpm2.RCECCPoint) || !errors.Is(err2, tpm2.RCECCPoint) {
					t.Errorf("%v, point %s: TwoPhase = %v, %v", c.id, name, err1, err2)
				}
			}
			_, _, _, err1 := k.Commit([]byte{1}, &p, nil)
			_, _, _, err2 := k.Commit([]byte{1}, nil, &p)
			if !errors.Is(err1, tpm2.RCECCPoint) || !errors.Is(err2, tpm2.RCECCPoint) {
				t.Errorf("%v, point %s: Commit = %v, %v", c.id, name, err1, err2)
			}
			if _, err := k.Decrypt(kdf2, p, nil, nil); !errors.Is(err, tpm2.RCECCPoint) {
				t.Errorf("%v, point %s: Decrypt = %v", c.id, name, err)
			}
		}
	}
	for _, id := range []tpm2.ECCCurve{0, tpm2.CurveNISTP192, tpm2.CurveSM2P256} {
		_, err1 := tpmcrypto.GenerateECC(newDRBG(t), id)
		_, err2 := tpmcrypto.LoadECC(id, []byte{1})
		_, err3 := tpmcrypto.NewECCPublic(id, tpm2.ECCPoint{})
		_, err4 := tpmcrypto.Parameters(id)
		for _, err := range []error{err1, err2, err3, err4, tpmcrypto.OnCurve(id, tpm2.ECCPoint{})} {
			if !errors.Is(err, tpm2.RCCurve) {
				t.Errorf("curve %v: %v, want TPM_RC_CURVE", id, err)
			}
		}
	}
	if _, err := tpmcrypto.GenerateECC(bytes.NewReader(nil), tpm2.CurveNISTP256); err == nil {
		t.Error("GenerateECC without randomness succeeds")
	}
}

func TestCurveParameters(t *testing.T) {
	for _, c := range stdCurves {
		p, err := tpmcrypto.Parameters(c.id)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"P": p.P, "A": p.A, "B": p.B, "GX": p.GX, "GY": p.GY, "N": p.N} {
			if len(b) != c.size {
				t.Errorf("%v: %s has %d bytes, want %d", c.id, name, len(b), c.size)
			}
		}
		// y² = x³ + ax + b at the generator, and its order.
		num := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
		x, y := num(p.GX), num(p.GY)
		right := new(big.Int).Mul(x, x)
		right.Add(right.Mul(right.Add(right, num(p.A)), x), num(p.B))
		if left := new(big.Int).Mul(y, y); left.Sub(left, right).Mod(left, num(p.P)).Sign() != 0 {
			t.Errorf("%v: the generator does not solve the equation", c.id)
		}
		if num(p.N).Cmp(c.ec.Params().N) != 0 || int(p.KeyBits) != c.ec.Params().BitSize || !bytes.Equal(p.H, []byte{1}) {
			t.Errorf("%v: order %x, %d bits, cofactor %x", c.id, p.N, p.KeyBits, p.H)
		}
	}
}

func TestECDSAAgreesWithTheStandardLibrary(t *testing.T) {
	for _, c := range stdCurves {
		k := newECC(t, c.id, "a")
		std := stdECDSA(t, c, &k.ECCPublic)
		d := newDRBG(t)
		for _, n := range []int{0, 20, 32, 48, 64} {
			digest := bytes.Repeat([]byte{0xFF}, n)
			r, s, err := k.SignECDSA(d, digest)
			if err != nil {
				t.Fatal(err)
			}
			if len(r) != c.size || len(s) != c.size || !ecdsa.Verify(std, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
				t.Errorf("%v: crypto/ecdsa refuses %x, %x of %d bytes", c.id, r, s, n)
			}
			if err := k.Verify(tpm2.AlgECDSA, tpm2.AlgNull, digest, r, s); err != nil {
				t.Errorf("%v: Verify = %v", c.id, err)
			}
			r2, s2, err := k.SignECDSA(d, digest)
			if err != nil || bytes.Equal(r, r2) || bytes.Equal(s, s2) {
				t.Errorf("%v: two signatures with different randomness share a part", c.id)
			}
		}
		if _, _, err := k.SignECDSA(newDRBG(t), pattern(65)); !errors.Is(err, tpm2.RCSize) {
			t.Errorf("%v: SignECDSA of 65 bytes = %v, want TPM_RC_SIZE", c.id, err)
		}
		if fips140.Enabled() {
			continue // the validated module brings its own randomness
		}
		r1, s1, err1 := k.SignECDSA(bytes.NewReader(make([]byte, 32)), pattern(32))
		r2, s2, err2 := k.SignECDSA(bytes.NewReader(make([]byte, 32)), pattern(32))
		r3, _, err3 := k.SignECDSA(bytes.NewReader(make([]byte, 32)), pattern(31))
		if r4, _, err := newECC(t, c.id, "b").SignECDSA(bytes.NewReader(make([]byte, 32)), pattern(32)); err != nil || bytes.Equal(r1, r4) {
			t.Errorf("%v: a broken reader gives two keys one nonce, %v", c.id, err)
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r1, r2) || !bytes.Equal(s1, s2) {
			t.Errorf("%v: equal randomness gives different signatures", c.id)
		}
		if bytes.Equal(r1, r3) {
			t.Errorf("%v: a broken reader repeats a nonce for another digest", c.id)
		}
		if _, _, err := k.SignECDSA(bytes.NewReader(nil), pattern(32)); err == nil {
			t.Errorf("%v: SignECDSA without randomness succeeds", c.id)
		}
	}
}

func TestECCSignatureRefusals(t *testing.T) {
	for _, c := range stdCurves {
		k := newECC(t, c.id, "a")
		digest := pattern(32)
		for _, scheme := range []tpm2.Alg{tpm2.AlgECDSA, tpm2.AlgECSchnorr} {
			var r, s []byte
			var err error
			if scheme == tpm2.AlgECDSA {
				r, s, err = k.SignECDSA(newDRBG(t), digest)
			} else {
				r, s, err = k.SignSchnorr(newDRBG(t), tpm2.AlgSHA256, digest)
			}
			if err != nil {
				t.Fatal(err)
			}
			n := c.ec.Params().N.Bytes()
			flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }
			for name, tc := range map[string]struct{ digest, r, s []byte }{
				"digest": {flip(digest), r, s}, "r": {digest, flip(r), s}, "s": {digest, r, flip(s)},
				"no r": {digest, nil, s}, "no s": {digest, r, nil}, "r is the order": {digest, n, s}, "s is the order": {digest, r, n},
				"s and the order": {digest, r, new(big.Int).Add(new(big.Int).SetBytes(s), c.ec.Params().N).Bytes()},
				"both zero":       {digest, make([]byte, c.size), make([]byte, c.size)},
			} {
				if err := k.Verify(scheme, tpm2.AlgSHA256, tc.digest, tc.r, tc.s); !errors.Is(err, tpm2.RCSignature) {
					t.Errorf("%v, %s: Verify %s = %v, want TPM_RC_SIGNATURE", c.id, name, scheme.BankName(), err)
				}
			}
			if err := newECC(t, c.id, "b").Verify(scheme, tpm2.AlgSHA256, digest, r, s); !errors.Is(err, tpm2.RCSignature) {
				t.Errorf("%v: Verify by another key = %v", c.id, err)
			}
		}
		if err := k.Verify(tpm2.AlgECDAA, tpm2.AlgSHA256, digest, nil, nil); !errors.Is(err, tpm2.RCScheme) {
			t.Errorf("Verify ECDAA = %v, want TPM_RC_SCHEME", err)
		}
		if err := k.Verify(tpm2.AlgECSchnorr, tpm2.AlgSM3, digest, nil, nil); !errors.Is(err, tpm2.RCHash) {
			t.Errorf("Verify Schnorr by SM3 = %v, want TPM_RC_HASH", err)
		}
		if _, _, err := k.SignSchnorr(newDRBG(t), tpm2.AlgSM3, digest); !errors.Is(err, tpm2.RCHash) {
			t.Errorf("SignSchnorr by SM3 = %v, want TPM_RC_HASH", err)
		}
		if _, _, err := k.SignECDAA(newDRBG(t), tpm2.AlgSM3, []byte{1}, digest); !errors.Is(err, tpm2.RCHash) {
			t.Errorf("SignECDAA by SM3 = %v, want TPM_RC_HASH", err)
		}
		for _, r := range [][]byte{nil, {0}, c.ec.Params().N.Bytes()} {
			if _, _, err := k.SignECDAA(newDRBG(t), tpm2.AlgSHA256, r, digest); !errors.Is(err, tpm2.RCValue) {
				t.Errorf("SignECDAA with r %x = %v, want TPM_RC_VALUE", r, err)
			}
			if _, _, _, err := k.Commit(r, nil, nil); !errors.Is(err, tpm2.RCValue) {
				t.Errorf("Commit with r %x = %v, want TPM_RC_VALUE", r, err)
			}
		}
	}
}

func TestSchnorrIsTheReferencesForm(t *testing.T) {
	for _, c := range stdCurves {
		for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA512} {
			k := newECC(t, c.id, "a")
			digest := pattern(a.DigestSize())
			r, s, err := k.SignSchnorr(newDRBG(t), a, digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Verify(tpm2.AlgECSchnorr, a, digest, r, s); err != nil {
				t.Errorf("%v %s: Verify = %v", c.id, a.BankName(), err)
			}
			// E = [s]G - [r]Q; r = the first bytes of H(E.x || digest).
			minus := new(big.Int).Neg(new(big.Int).SetBytes(r))
			e := c.add(c.times(new(big.Int).SetBytes(s), c.g()), c.times(minus, toAffine(k.Point())))
			h, err := tpmcrypto.Hash(a, e.point(c).X, digest)
			if err != nil {
				t.Fatal(err)
			}
			h = h[:min(len(h), c.size)]
			if want := append(make([]byte, c.size-len(h)), h...); !bytes.Equal(r, want) || len(s) != c.size {
				t.Errorf("%v %s: r = %x, want %x", c.id, a.BankName(), r, want)
			}
		}
	}
}

func TestCommitAndECDAABelongTogether(t *testing.T) {
	for _, c := range stdCurves {
		k := newECC(t, c.id, "a")
		d := new(big.Int).SetBytes(k.Scalar())
		rBytes := newECC(t, c.id, "r").Scalar()
		r := new(big.Int).SetBytes(rBytes)
		p1, p2 := newECC(t, c.id, "p1").Point(), newECC(t, c.id, "p2").Point()
		for name, tc := range map[string]struct{ p1, p2, wantK, wantL, wantE *tpm2.ECCPoint }{
			"none": {nil, nil, nil, nil, new(c.times(r, c.g()).point(c))},
			"P1":   {&p1, nil, nil, nil, new(c.times(r, toAffine(p1)).point(c))},
			"P2":   {nil, &p2, new(c.times(d, toAffine(p2)).point(c)), new(c.times(r, toAffine(p2)).point(c)), nil},
			"both": {&p1, &p2, new(c.times(d, toAffine(p2)).point(c)), new(c.times(r, toAffine(p2)).point(c)), new(c.times(r, toAffine(p1)).point(c))},
		} {
			gotK, gotL, gotE, err := k.Commit(rBytes, tc.p1, tc.p2)
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range []tpm2.ECCPoint{gotK, gotL, gotE} {
				want := []*tpm2.ECCPoint{tc.wantK, tc.wantL, tc.wantE}[i]
				if want == nil {
					want = new(tpm2.ECCPoint)
				}
				if diff := cmp.Diff(*want, got); diff != "" {
					t.Errorf("%v, %s, point %d (-want +got):\n%s", c.id, name, i, diff)
				}
			}
		}
		for _, a := range []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA512} {
			digest := pattern(a.DigestSize())
			nonce, s, err := k.SignECDAA(newDRBG(t), a, rBytes, digest)
			if err != nil {
				t.Fatal(err)
			}
			h, err := tpmcrypto.Hash(a, nonce, digest)
			if err != nil {
				t.Fatal(err)
			}
			// [s]G - [T]Q is the commitment E = [r]G.
			got := c.add(c.times(new(big.Int).SetBytes(s), c.g()), c.times(new(big.Int).Neg(new(big.Int).SetBytes(h)), toAffine(k.Point())))
			if diff := cmp.Diff(c.times(r, c.g()).point(c), got.point(c)); diff != "" {
				t.Errorf("%v %s: commitment (-want +got):\n%s", c.id, a.BankName(), diff)
			}
		}
	}
}

func TestTheNonceOfECDAAHasNoLeadingZeros(t *testing.T) {
	for _, c := range stdCurves {
		r := bytes.NewReader(append(make([]byte, c.size+7), 5)) // the nonce is one more
		nonce, _, err := newECC(t, c.id, "a").SignECDAA(r, tpm2.AlgSHA256, []byte{9}, pattern(32))
		if err != nil || !bytes.Equal(nonce, []byte{6}) {
			t.Errorf("%v: nonce = %x, %v; want 06", c.id, nonce, err)
		}
	}
}

func TestCommitPoint(t *testing.T) {
	c := stdCurves[0]
	for i := range byte(255) { // about half of all s2 give a point
		h, err := tpmcrypto.Hash(tpm2.AlgSHA256, []byte{i})
		if err != nil {
			t.Fatal(err)
		}
		x, p := new(big.Int).SetBytes(h), c.ec.Params().P
		y := new(big.Int).Mul(x, x)
		y.Add(y.Mul(y.Sub(y, big.NewInt(3)), x), c.ec.Params().B)
		if x.Cmp(p) >= 0 || y.ModSqrt(y.Mod(y, p), p) == nil {
			continue
		}
		got, err := tpmcrypto.CommitPoint(c.id, tpm2.AlgSHA256, []byte{i}, y.Bytes())
		if err != nil || !bytes.Equal(got.X, h) {
			t.Errorf("CommitPoint = %x, %v; want %x", got.X, err, h)
		}
		if _, err := tpmcrypto.CommitPoint(c.id, tpm2.AlgSHA256, []byte{i}, y.Add(y, big.NewInt(1)).Bytes()); !errors.Is(err, tpm2.RCECCPoint) {
			t.Errorf("CommitPoint with another y = %v, want TPM_RC_ECC_POINT", err)
		}
		return
	}
	t.Error("no s2 gives a point")
}

func TestDiffieHellman(t *testing.T) {
	for _, c := range stdCurves {
		a, b := newECC(t, c.id, "a"), newECC(t, c.id, "b")
		std, err := c.ecdh.NewPrivateKey(a.Scalar())
		if err != nil {
			t.Fatal(err)
		}
		p := b.Point()
		peer, err := c.ecdh.NewPublicKey(append(append([]byte{4}, p.X...), p.Y...))
		if err != nil {
			t.Fatal(err)
		}
		want, err := std.ECDH(peer)
		if err != nil {
			t.Fatal(err)
		}
		z, err := a.Multiply(p)
		if err != nil || !bytes.Equal(z.X, want) || tpmcrypto.OnCurve(c.id, z) != nil {
			t.Errorf("%v: Multiply = %x, %v; want %x", c.id, z.X, err, want)
		}
		short := tpm2.ECCPoint{X: bytes.TrimLeft(p.X, "\x00"), Y: bytes.TrimLeft(p.Y, "\x00")}
		if z2, err := a.Multiply(short); err != nil || !bytes.Equal(z2.X, want) {
			t.Errorf("%v: Multiply of a point without leading zeros = %v", c.id, err)
		}
		public, z, err := b.Agree(newDRBG(t))
		if err != nil {
			t.Fatal(err)
		}
		other, err := b.Multiply(public)
		if diff := cmp.Diff(z, other); err != nil || diff != "" {
			t.Errorf("%v: Agree and Multiply, %v (-agreed +multiplied):\n%s", c.id, err, diff)
		}
	}
}

func TestTwoPhaseAgreements(t *testing.T) {
	for _, c := range stdCurves {
		as, ae, bs, be := newECC(t, c.id, "as"), newECC(t, c.id, "ae"), newECC(t, c.id, "bs"), newECC(t, c.id, "be")
		for _, scheme := range []tpm2.Alg{tpm2.AlgECDH, tpm2.AlgECMQV} {
			a1, a2, err := as.TwoPhase(scheme, ae, bs.Point(), be.Point())
			if err != nil {
				t.Fatal(err)
			}
			b1, b2, err := bs.TwoPhase(scheme, be, as.Point(), ae.Point())
			if diff := cmp.Diff([]tpm2.ECCPoint{a1, a2}, []tpm2.ECCPoint{b1, b2}); err != nil || diff != "" {
				t.Errorf("%v %s: the parties differ: %v\n%s", c.id, scheme.BankName(), err, diff)
			}
			var wantZ1, wantZ2 affine
			num := func(k *tpmcrypto.ECCKey) *big.Int { return new(big.Int).SetBytes(k.Scalar()) }
			if scheme == tpm2.AlgECDH {
				wantZ1, wantZ2 = c.times(num(as), toAffine(bs.Point())), c.times(num(ae), toAffine(be.Point()))
			} else { // SP 800-56A, 5.7.2.3
				half := uint(c.ec.Params().N.BitLen()+1) / 2
				avf := func(p tpm2.ECCPoint) *big.Int {
					bit := new(big.Int).Lsh(big.NewInt(1), half)
					return bit.Or(bit, new(big.Int).And(new(big.Int).SetBytes(p.X), new(big.Int).Sub(bit, big.NewInt(1))))
				}
				sig := new(big.Int).Mul(avf(ae.Point()), num(as))
				sig.Add(sig, num(ae))
				wantZ1 = c.times(sig, c.add(toAffine(be.Point()), c.times(avf(be.Point()), toAffine(bs.Point()))))
				if a2.X != nil {
					t.Errorf("%v: MQV gives a second point", c.id)
				}
			}
			if diff := cmp.Diff(wantZ1.point(c), a1); diff != "" {
				t.Errorf("%v %s: Z1 (-want +got):\n%s", c.id, scheme.BankName(), diff)
			}
			if scheme == tpm2.AlgECDH {
				if diff := cmp.Diff(wantZ2.point(c), a2); diff != "" {
					t.Errorf("%v: Z2 (-want +got):\n%s", c.id, diff)
				}
			}
		}
		if _, _, err := as.TwoPhase(tpm2.AlgSM2, ae, bs.Point(), be.Point()); !errors.Is(err, tpm2.RCScheme) {
			t.Errorf("TwoPhase by SM2 = %v, want TPM_RC_SCHEME", err)
		}
	}
	a, b := newECC(t, tpm2.CurveNISTP256, "a"), newECC(t, tpm2.CurveNISTP384, "b")
	if _, _, err := a.TwoPhase(tpm2.AlgECDH, b, a.Point(), a.Point()); !errors.Is(err, tpm2.RCCurve) {
		t.Errorf("TwoPhase with keys of two curves = %v, want TPM_RC_CURVE", err)
	}
}

// MQV where the sum of their keys is infinity has no result (5.7.2.3.1, step 3).
func TestMQVWithoutAResult(t *testing.T) {
	c := stdCurves[0]
	a, b := newECC(t, c.id, "a"), newECC(t, c.id, "b")
	// Qe = -[avf(Qe)]Qs for Qs = -[1/avf(Qe)]Qe.
	half := uint(128)
	bit := new(big.Int).Lsh(big.NewInt(1), half)
	avf := new(big.Int).And(new(big.Int).SetBytes(b.Point().X), new(big.Int).Sub(bit, big.NewInt(1)))
	avf.Or(avf, bit)
	qs := c.times(new(big.Int).Neg(avf.ModInverse(avf, c.ec.Params().N)), toAffine(b.Point())).point(c)
	if z, _, err := a.TwoPhase(tpm2.AlgECMQV, a, qs, b.Point()); !errors.Is(err, tpm2.RCNoResult) {
		t.Errorf("TwoPhase = %x, %v; want TPM_RC_NO_RESULT", z.X, err)
	}
}

var kdf2 = tpm2.KDFScheme{Scheme: tpm2.AlgKDF2, HashAlg: tpm2.AlgSHA256}

func TestECCEncryptionIsThatOfPart3(t *testing.T) {
	for _, c := range stdCurves {
		k := newECC(t, c.id, "a")
		for _, n := range []int{0, 1, 32, 100, 1024} {
			c1, c2, c3, err := k.Encrypt(newDRBG(t), kdf2, pattern(n))
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Decrypt(kdf2, c1, c2, c3)
			if err != nil || !bytes.Equal(got, pattern(n)) {
				t.Errorf("%v: Decrypt of %d bytes = %x, %v", c.id, n, got, err)
			}
			p := c.times(new(big.Int).SetBytes(k.Scalar()), toAffine(c1)).point(c)
			want, err := tpmcrypto.Hash(tpm2.AlgSHA256, p.X, pattern(n), p.Y)
			if err != nil || !bytes.Equal(c3, want) {
				t.Errorf("%v: C3 = %x, want %x", c.id, c3, want)
			}
			for i := range n { // KDF2: H(x || y || counter), from 1
				mask, err := tpmcrypto.Hash(tpm2.AlgSHA256, p.X, p.Y, []byte{0, 0, 0, byte(1 + i/32)})
				if err != nil || c2[i]^mask[i%32] != pattern(n)[i] {
					t.Fatalf("%v: byte %d of C2 is %x", c.id, i, c2[i])
				}
			}
			c3[0] ^= 1
			if got, err := k.Decrypt(kdf2, c1, c2, c3); !errors.Is(err, tpm2.RCValue) || got != nil {
				t.Errorf("%v: Decrypt with another C3 = %x, %v", c.id, got, err)
			}
			if _, err := k.Decrypt(kdf2, c1, c2, nil); !errors.Is(err, tpm2.RCValue) {
				t.Errorf("%v: Decrypt without C3 = %v", c.id, err)
			}
		}
		for name, tc := range map[string]struct {
			kdf  tpm2.KDFScheme
			want tpm2.RC
		}{"KDF": {tpm2.KDFScheme{Scheme: tpm2.AlgKDF1, HashAlg: tpm2.AlgSHA256}, tpm2.RCScheme}, "hash": {tpm2.KDFScheme{Scheme: tpm2.AlgKDF2, HashAlg: tpm2.AlgSM3}, tpm2.RCHash}} {
			if _, _, _, err := k.Encrypt(newDRBG(t), tc.kdf, nil); !errors.Is(err, tc.want) {
				t.Errorf("%s: Encrypt = %v, want %v", name, err, tc.want)
			}
			if _, err := k.Decrypt(tc.kdf, k.Point(), nil, nil); !errors.Is(err, tc.want) {
				t.Errorf("%s: Decrypt = %v, want %v", name, err, tc.want)
			}
		}
	}
}

func FuzzECCPoint(f *testing.F) {
	for _, c := range stdCurves {
		p := newECC(f, c.id, "a").Point()
		f.Add(uint16(c.id), p.X, p.Y)
		f.Add(uint16(c.id), []byte{}, make([]byte, c.size))
	}
	f.Fuzz(func(t *testing.T, id uint16, x, y []byte) {
		p := tpm2.ECCPoint{X: x, Y: y}
		k, err := tpmcrypto.NewECCPublic(tpm2.ECCCurve(id), p)
		for _, c := range stdCurves {
			if c.id != tpm2.ECCCurve(id) {
				continue
			}
			ax, ay := new(big.Int).SetBytes(x), new(big.Int).SetBytes(y)
			right := new(big.Int).Mul(ax, ax)
			right.Add(right.Mul(right.Sub(right, big.NewInt(3)), ax), c.ec.Params().B)
			on := right.Sub(right, new(big.Int).Mul(ay, ay)).Mod(right, c.ec.Params().P).Sign() == 0 &&
				ax.Cmp(c.ec.Params().P) < 0 && ay.Cmp(c.ec.Params().P) < 0
			if on != (err == nil) {
				t.Fatalf("NewECCPublic = %v, on the curve: %v", err, on)
			}
			if on {
				z, err := newECC(t, c.id, "a").Multiply(p)
				if err != nil || tpmcrypto.OnCurve(c.id, z) != nil || len(k.Point().X) != c.size {
					t.Errorf("Multiply = %v", err)
				}
			}
		}
	})
}

func FuzzECCVerify(f *testing.F) {
	c := stdCurves[0]
	k := newECC(f, c.id, "a")
	std := stdECDSA(f, c, &k.ECCPublic)
	r, s, err := k.SignECDSA(newDRBG(f), pattern(32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pattern(32), r, s)
	if r, s, err = k.SignSchnorr(newDRBG(f), tpm2.AlgSHA256, pattern(32)); err != nil {
		f.Fatal(err)
	}
	f.Add(pattern(32), r, s)
	f.Fuzz(func(t *testing.T, digest, r, s []byte) {
		want := ecdsa.Verify(std, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
		if got := k.Verify(tpm2.AlgECDSA, 0, digest, r, s) == nil; got != want {
			t.Errorf("Verify ECDSA = %v, crypto/ecdsa says %v", got, want)
		}
		err := k.Verify(tpm2.AlgECSchnorr, tpm2.AlgSHA256, digest, r, s)
		if err == nil && !bytes.Equal(digest, pattern(32)) || err != nil && !errors.Is(err, tpm2.RCSignature) {
			t.Errorf("Verify Schnorr = %v", err)
		}
	})
}

func BenchmarkECC(b *testing.B) {
	for _, c := range stdCurves {
		k := newECC(b, c.id, "a")
		d := newDRBG(b)
		digest := pattern(32)
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/P%d", name, c.ec.Params().BitSize), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("Generate", func() error { _, err := tpmcrypto.GenerateECC(d, c.id); return err })
		run("Load", func() error { _, err := tpmcrypto.LoadECC(c.id, k.Scalar()); return err })
		run("SignECDSA", func() error { _, _, err := k.SignECDSA(d, digest); return err })
		r, s, err := k.SignECDSA(d, digest)
		if err != nil {
			b.Fatal(err)
		}
		run("VerifyECDSA", func() error { return k.Verify(tpm2.AlgECDSA, 0, digest, r, s) })
		run("SignSchnorr", func() error { _, _, err := k.SignSchnorr(d, tpm2.AlgSHA256, digest); return err })
		run("Multiply", func() error { _, err := k.Multiply(k.Point()); return err })
	}
}
