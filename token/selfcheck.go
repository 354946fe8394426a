package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/bigmod"
	"filippo.io/nistec"
)

// scalarSize is the length in bytes of a P-256 scalar, and of r and s in a JWS
// (RFC 7518, 3.4).
const scalarSize = 32

// An ownCheck verifies ECDSA P-256 signatures of a key whose private scalar d is
// at hand.
//
// A verifier computes R = u1*G + u2*Q with u1 = z/s and u2 = r/s (FIPS 186-5,
// 6.4.2). As Q = d*G, that is ((z + r*d)/s)*G: the same point by one
// multiplication of the base point instead of two, at a fifth of the cost. It
// accepts exactly what a verifier with Q accepts; newOwnCheck proves Q = d*G
// once. The scalar t = (z + r*d)/s of a good signature is its secret nonce, so
// all that touches d or t takes constant time.
type ownCheck struct {
	order *bigmod.Modulus
	n     *big.Int // the same order
	d     *bigmod.Nat
}

// newOwnCheck returns nil without an error when the check must be left to the
// validated module (FIPS 140-3 mode), which has no such operation.
func newOwnCheck(key *ecdsa.PrivateKey) (*ownCheck, error) {
	if fips140.Enabled() {
		return nil, nil //nolint:nilnil // documented: there is no check to be had
	}
	if key.Curve != elliptic.P256() {
		return nil, errors.New("private key is not on P-256")
	}
	scalar, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read private key: %v", err)
	}
	defer clear(scalar)
	point, err := nistec.NewP256Point().ScalarBaseMult(scalar)
	if err != nil {
		return nil, fmt.Errorf("compute public key: %v", err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read public key: %v", err)
	}
	if subtle.ConstantTimeCompare(point.Bytes(), public) != 1 {
		return nil, errors.New("private key does not belong to its public key")
	}
	c := &ownCheck{n: elliptic.P256().Params().N}
	if c.order, err = bigmod.NewModulus(c.n.Bytes()); err != nil {
		return nil, err
	}
	if c.d, err = bigmod.NewNat().SetBytes(scalar, c.order); err != nil {
		return nil, err
	}
	return c, nil
}

// verify reports whether sig, r and s of 32 bytes each, signs the SHA-256 digest.
func (c *ownCheck) verify(digest, sig []byte) bool {
	if len(digest) != scalarSize || len(sig) != 2*scalarSize {
		return false
	}
	// FIPS 186-5, 6.4.2, step 1: r and s are in [1, n-1]. SetBytes refuses n and above.
	r, err := bigmod.NewNat().SetBytes(sig[:scalarSize], c.order)
	if err != nil || r.IsZero() == 1 {
		return false
	}
	z, err := bigmod.NewNat().SetOverflowingBytes(digest, c.order)
	if err != nil {
		return false
	}
	w, err := c.inverse(sig[scalarSize:])
	if err != nil {
		return false
	}
	t := bigmod.NewNat().ExpandFor(c.order).Add(r, c.order)
	t.Mul(c.d, c.order).Add(z, c.order).Mul(w, c.order)
	defer clear(t.Bits())
	scalar := t.Bytes(c.order)
	defer clear(scalar)
	point, err := nistec.NewP256Point().ScalarBaseMult(scalar)
	if err != nil {
		return false
	}
	x, err := point.BytesX() // refuses the point at infinity, step 5
	if err != nil {
		return false
	}
	v, err := bigmod.NewNat().SetOverflowingBytes(x, c.order)
	return err == nil && v.Equal(r) == 1
}

// inverse returns 1/s, which is as public as s; math/big takes a tenth of the
// time of the constant-time arithmetic. It refuses an s outside [1, n-1].
func (c *ownCheck) inverse(sig []byte) (*bigmod.Nat, error) {
	s := new(big.Int).SetBytes(sig)
	if s.Sign() == 0 || s.Cmp(c.n) >= 0 {
		return nil, errors.New("s is out of range")
	}
	var w [scalarSize]byte
	s.ModInverse(s, c.n).FillBytes(w[:])
	return bigmod.NewNat().SetBytes(w[:], c.order)
}
