package tpmcrypto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"io"
	"math/big"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/tpm2"
)

// elliptic returns the curve as the standard library has it, nil when it has none.
func (c *curve) elliptic() elliptic.Curve {
	switch c.id {
	case tpm2.CurveNISTP256:
		return elliptic.P256()
	case tpm2.CurveNISTP384:
		return elliptic.P384()
	case tpm2.CurveNISTP521:
		return elliptic.P521()
	}
	return nil
}

// noncesOf returns secret randomness for one try at a signature. It is bound to
// the key, the digest and 32 bytes from r: with a bad reader it is as good as a
// deterministic nonce (RFC 6979), and a fault in computing one signature cannot be
// compared with another of the same digest.
func (k *ECCKey) noncesOf(seed, digest []byte, try byte) (io.Reader, error) {
	b, err := tpm2.KDFa(tpm2.AlgSHA512, append(bytes.Clone(k.raw), seed...), "NONCE", digest, []byte{try}, 8*2*(k.c.size+8))
	return bytes.NewReader(b), err
}

// maxTries bounds how often a signature is tried: none in 2^32 fails once.
const maxTries = 16

// sign tries until try gives a signature.
func (k *ECCKey) sign(r io.Reader, digest []byte, try func(nonces io.Reader) (sigR, sigS []byte, err error)) (sigR, sigS []byte, err error) {
	seed, err := read(r, 32)
	if err != nil {
		return nil, nil, err
	}
	for i := range byte(maxTries) {
		nonces, err := k.noncesOf(seed, digest, i)
		if err != nil {
			return nil, nil, err
		}
		sigR, sigS, err = try(nonces)
		if err != nil || sigR != nil {
			return sigR, sigS, err
		}
	}
	return nil, nil, refuse(tpm2.RCNoResult, "sign: random source is broken")
}

// ephemeral draws a nonce and the x-coordinate of its point.
func (c *curve) ephemeral(nonces io.Reader) (k *bigmod.Nat, x []byte, err error) {
	if k, err = c.randomScalar(nonces); err != nil {
		return nil, nil, err
	}
	return k, c.base(k.Bytes(c.n))[1 : 1+c.size], nil
}

// SignECDSA signs a digest of any hash (FIPS 186-5, 6.4.1; Part 1, C.3.2). Both
// parts have the size of the order. Refusals are TPM_RC_SIZE for more bytes than
// any digest has, and TPM_RC_NO_RESULT.
func (k *ECCKey) SignECDSA(r io.Reader, digest []byte) (sigR, sigS []byte, err error) {
	if len(digest) > tpm2.MaxDigest {
		return nil, nil, refuse(tpm2.RCSize, "digest has %d bytes", len(digest))
	}
	if std := k.std(); std != nil {
		return k.signStd(std, r, digest)
	}
	c := k.c
	e := c.reduced(digest[:min(len(digest), c.size)]) // no digest has more bits than P-521, nor orders of the others a part of a byte
	return k.sign(r, digest, func(nonces io.Reader) ([]byte, []byte, error) {
		nonce, x, err := c.ephemeral(nonces)
		if err != nil {
			return nil, nil, err
		}
		blind, err := c.randomScalar(nonces)
		if err != nil {
			return nil, nil, err
		}
		sigR := c.reduced(x)
		if sigR.IsZero() == 1 {
			return nil, nil, nil
		}
		s := c.reduced(x).Mul(k.d, c.n).Add(e, c.n)
		s.Mul(c.inverseOfBlinded(nonce.Mul(blind, c.n)).Mul(blind, c.n), c.n)
		if s.IsZero() == 1 {
			return nil, nil, nil
		}
		return sigR.Bytes(c.n), s.Bytes(c.n), nil
	})
}

// inverseOfBlinded returns 1/x modulo the order for a product of a secret and a
// random number that serves once. The product is as random as that number and says
// nothing of the secret, so that it may go through math/big, whose time varies: it
// takes a tenth of the time of bigmod, whose inverse was half of a signature.
func (c *curve) inverseOfBlinded(x *bigmod.Nat) *bigmod.Nat {
	y := new(big.Int).ModInverse(new(big.Int).SetBytes(x.Bytes(c.n)), c.params.N) // x is not 0, and the order is prime
	return known(bigmod.NewNat().SetBytes(y.FillBytes(make([]byte, c.size)), c.n))
}

// signStd signs with the validated module.
func (k *ECCKey) signStd(std *ecdsa.PrivateKey, r io.Reader, digest []byte) (sigR, sigS []byte, err error) {
	der, err := ecdsa.SignASN1(r, std, digest)
	if err != nil {
		return nil, nil, err
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, nil, err
	}
	return sig.R.FillBytes(make([]byte, k.c.size)), sig.S.FillBytes(make([]byte, k.c.size)), nil
}

// SignSchnorr signs a digest by the reference's form of EC Schnorr (Part 1, C.4.3):
// r is the first bytes of H(x || digest), as many as the order has, where x is the
// padded coordinate of the nonce's point, and s = k + r*d. Refusals are TPM_RC_HASH
// and TPM_RC_NO_RESULT.
func (k *ECCKey) SignSchnorr(r io.Reader, hash tpm2.Alg, digest []byte) (sigR, sigS []byte, err error) {
	if _, err := hashOf(hash); err != nil {
		return nil, nil, err
	}
	c := k.c
	return k.sign(r, digest, func(nonces io.Reader) ([]byte, []byte, error) {
		nonce, x, err := c.ephemeral(nonces)
		if err != nil {
			return nil, nil, err
		}
		t, ok := c.schnorrDigest(hash, x, digest)
		if !ok {
			return nil, nil, nil
		}
		s := k.schnorr(nonce, t)
		if s == nil {
			return nil, nil, nil
		}
		return t.Bytes(c.n), s, nil
	})
}

// schnorrDigest returns r; ok is false for one that no verifier takes.
func (c *curve) schnorrDigest(hash tpm2.Alg, x, digest []byte) (r *bigmod.Nat, ok bool) {
	b, err := Hash(hash, x, digest)
	if err != nil {
		return nil, false
	}
	return c.scalar(b[:min(len(b), c.size)])
}

// schnorr returns s = k + r*d, nil when it is 0.
func (k *ECCKey) schnorr(nonce, r *bigmod.Nat) []byte {
	n := k.c.n
	s := bigmod.NewNat().SetUint(0).ExpandFor(n).Add(r, n).Mul(k.d, n).Add(nonce, n)
	if s.IsZero() == 1 {
		return nil
	}
	return s.Bytes(n)
}

// SignECDAA signs a digest with the scalar r of a commitment that TPM2_Commit made
// (Part 1, C.4.2): with a new nonce K, T = H(K || digest), s = r + T*d. The first
// part of the signature is K without leading zeros, as it went into the hash. The
// commitment must serve once only. Refusals: TPM_RC_HASH, TPM_RC_VALUE for r,
// TPM_RC_NO_RESULT.
func (k *ECCKey) SignECDAA(rand io.Reader, hash tpm2.Alg, r, digest []byte) (nonceK, sigS []byte, err error) {
	if _, err := hashOf(hash); err != nil {
		return nil, nil, err
	}
	commit, ok := k.c.scalar(r)
	if !ok {
		return nil, nil, refuse(tpm2.RCValue, "commitment is not between 0 and the order of %v", k.c.id)
	}
	for range maxTries {
		nonce, err := k.c.randomScalar(rand)
		if err != nil {
			return nil, nil, err
		}
		nonceK = bytes.TrimLeft(nonce.Bytes(k.c.n), "\x00")
		h, err := Hash(hash, nonceK, digest)
		if err != nil {
			return nil, nil, err
		}
		t := k.c.digestMod(h)
		if t.IsZero() == 1 {
			continue
		}
		if s := k.schnorr(commit, t); s != nil {
			return nonceK, s, nil
		}
	}
	return nil, nil, refuse(tpm2.RCNoResult, "sign: random source is broken")
}

// Commit computes the points of TPM2_Commit for the scalar r (Part 1, C.4.2, step 5):
// with p2, K = [d]P2 and L = [r]P2; with p1, E = [r]P1; with neither, E = [r]G.
// Points that are not computed are empty. Refusals: TPM_RC_ECC_POINT, and
// TPM_RC_VALUE for r.
func (k *ECCKey) Commit(r []byte, p1, p2 *tpm2.ECCPoint) (outK, outL, outE tpm2.ECCPoint, err error) {
	commit, ok := k.c.scalar(r)
	if !ok {
		return outK, outL, outE, refuse(tpm2.RCValue, "commitment is not between 0 and the order of %v", k.c.id)
	}
	c, a := k.c, commit.Bytes(k.c.n)
	var m, b []byte
	if p1 != nil {
		if m, err = c.encode(*p1); err != nil {
			return outK, outL, outE, err
		}
	}
	if p2 != nil {
		if b, err = c.encode(*p2); err != nil {
			return outK, outL, outE, err
		}
		outK = known(c.decode(c.mult(k.raw, b)))
		outL = known(c.decode(c.mult(a, b)))
	}
	switch {
	case p1 != nil:
		outE = known(c.decode(c.mult(a, m)))
	case p2 == nil:
		outE = known(c.decode(c.base(a)))
	}
	return outK, outL, outE, nil
}

// CommitPoint returns the point P2 of TPM2_Commit: x is H(s2) modulo the prime of
// the field, y is y2 (Part 3, 19.2). Refusals: TPM_RC_HASH, TPM_RC_CURVE,
// TPM_RC_ECC_POINT.
func CommitPoint(id tpm2.ECCCurve, hash tpm2.Alg, s2, y2 []byte) (tpm2.ECCPoint, error) {
	h, err := Hash(hash, s2)
	if err != nil {
		return tpm2.ECCPoint{}, err
	}
	c, err := curveOf(id)
	if err != nil {
		return tpm2.ECCPoint{}, err
	}
	prime := known(bigmod.NewModulus(c.params.P.Bytes()))
	x := bigmod.NewNat().Mod(known(bigmod.NewNat().SetBytes(h, c.wider)), prime)
	p := tpm2.ECCPoint{X: x.Bytes(prime), Y: y2}
	return p, OnCurve(id, p)
}

// Verify checks a signature of a digest by TPM_ALG_ECDSA or, with its hash,
// TPM_ALG_ECSCHNORR. A signature that does not verify is TPM_RC_SIGNATURE; other
// refusals are TPM_RC_SCHEME, also for ECDAA, which only its verifier's group key
// can judge, and TPM_RC_HASH.
func (k *ECCPublic) Verify(scheme, hash tpm2.Alg, digest, sigR, sigS []byte) error {
	switch scheme {
	case tpm2.AlgECDSA:
		return k.verifyECDSA(digest, sigR, sigS)
	case tpm2.AlgECSchnorr:
		return k.verifySchnorr(hash, digest, sigR, sigS)
	}
	return refuse(tpm2.RCScheme, "ECC signature scheme %s", scheme.BankName())
}

func (k *ECCPublic) verifyECDSA(digest, sigR, sigS []byte) error {
	if k.c.elliptic() == nil {
		return k.verifyOther(digest, sigR, sigS)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(k.c.elliptic(), k.q)
	if err != nil || !ecdsa.Verify(key, digest, new(big.Int).SetBytes(sigR), new(big.Int).SetBytes(sigS)) {
		return refuse(tpm2.RCSignature, "ECDSA signature does not verify")
	}
	return nil
}

// verifyOther is FIPS 186-5, 6.4.2, on a curve that the standard library lacks.
func (k *ECCPublic) verifyOther(digest, sigR, sigS []byte) error {
	c := k.c
	r, okR := c.scalar(sigR)
	s, okS := c.scalar(sigS)
	if okR && okS {
		w := c.inverseOfBlinded(s) // all is public here
		u := c.reduced(leftmost(digest, c.size)).Mul(w, c.n)
		v := w.Mul(r, c.n)
		e := c.baseCombine(u.Bytes(c.n), v.Bytes(c.n), k.q) // [u]G + [v]Q
		if len(e) == 1+2*c.size && c.reduced(e[1:1+c.size]).Equal(r) == 1 {
			return nil
		}
	}
	return refuse(tpm2.RCSignature, "ECDSA signature does not verify")
}

// leftmost returns the first size bytes of a digest, or a shorter one with zeros
// before it.
func leftmost(digest []byte, size int) []byte {
	b := make([]byte, size)
	n := min(len(digest), size)
	copy(b[size-n:], digest[:n])
	return b
}

func (k *ECCPublic) verifySchnorr(hash tpm2.Alg, digest, sigR, sigS []byte) error {
	if _, err := hashOf(hash); err != nil {
		return err
	}
	c := k.c
	r, okR := c.scalar(sigR)
	s, okS := c.scalar(sigS)
	if !okR || !okS {
		return refuse(tpm2.RCSignature, "part of a Schnorr signature is not between 0 and the order of %v", c.id)
	}
	minusR := bigmod.NewNat().SetUint(0).ExpandFor(c.n).Sub(r, c.n)
	e := c.baseCombine(s.Bytes(c.n), minusR.Bytes(c.n), k.q) // [s]G - [r]Q
	if len(e) == 1+2*c.size {
		if want, ok := c.schnorrDigest(hash, e[1:1+c.size], digest); ok && want.Equal(r) == 1 {
			return nil
		}
	}
	return refuse(tpm2.RCSignature, "Schnorr signature does not verify")
}
