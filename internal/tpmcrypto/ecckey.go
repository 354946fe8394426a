package tpmcrypto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/fips140"
	"io"
	"sync"

	"filippo.io/bigmod"

	"github.com/assay-project/assay/tpm2"
)

// An ECCPublic is the public half of an ECC key: a point that is on its curve. It
// is immutable and safe for concurrent use.
type ECCPublic struct {
	c *curve
	q []byte
}

// NewECCPublic checks a point. Refusals are TPM_RC_CURVE and TPM_RC_ECC_POINT.
func NewECCPublic(id tpm2.ECCCurve, p tpm2.ECCPoint) (*ECCPublic, error) {
	c, err := curveOf(id)
	if err != nil {
		return nil, err
	}
	q, err := c.encode(p)
	if err != nil {
		return nil, err
	}
	return &ECCPublic{c, q}, nil
}

// Curve returns the curve.
func (k *ECCPublic) Curve() tpm2.ECCCurve { return k.c.id }

// Point returns the point with coordinates of the size of the field. Callers must
// not change it.
func (k *ECCPublic) Point() tpm2.ECCPoint {
	return tpm2.ECCPoint{X: k.q[1 : 1+k.c.size : 1+k.c.size], Y: k.q[1+k.c.size:]}
}

// An ECCKey is an ECC private key. It is immutable and safe for concurrent use.
type ECCKey struct {
	ECCPublic
	d   *bigmod.Nat
	raw []byte // d in the size of the order
	std func() *ecdsa.PrivateKey
}

// GenerateECC makes a key (FIPS 186-5, A.2.1). Equal bytes from r give equal keys
// in every version of this project. The refusal is TPM_RC_CURVE.
func GenerateECC(r io.Reader, id tpm2.ECCCurve) (*ECCKey, error) {
	c, err := curveOf(id)
	if err != nil {
		return nil, err
	}
	if k, ok := c.generateValidated(r); ok {
		return k, nil
	}
	d, err := c.randomScalar(r)
	if err != nil {
		return nil, err
	}
	return newECCKey(c, d), nil
}

// LoadECC computes the public point of a private scalar. Refusals: TPM_RC_CURVE,
// and TPM_RC_KEY_SIZE for a scalar that is 0 or not below the order.
func LoadECC(id tpm2.ECCCurve, scalar []byte) (*ECCKey, error) {
	c, err := curveOf(id)
	if err != nil {
		return nil, err
	}
	d, ok := c.scalar(scalar)
	if !ok {
		return nil, refuse(tpm2.RCKeySize, "private scalar is not between 0 and the order of %v", id)
	}
	return newECCKey(c, d), nil
}

func newECCKey(c *curve, d *bigmod.Nat) *ECCKey {
	raw := d.Bytes(c.n)
	k := &ECCKey{ECCPublic: ECCPublic{c, c.base(raw)}, d: d, raw: raw}
	k.std = sync.OnceValue(k.newStd)
	return k
}

// newStd returns the key as crypto/ecdsa takes it in FIPS 140-3 mode, else nil.
func (k *ECCKey) newStd() *ecdsa.PrivateKey {
	if !fips140.Enabled() || k.c.elliptic() == nil {
		return nil
	}
	return known(ecdsa.ParseRawPrivateKey(k.c.elliptic(), k.raw))
}

// Scalar returns the private scalar in the size of the order. It is secret.
func (k *ECCKey) Scalar() []byte { return bytes.Clone(k.raw) }

// Multiply returns [d]P: the point of TPM2_ECDH_ZGen, whose X is the secret of
// ECDH (Part 1, C.6.1; SP 800-56A, 5.7.1.2). The refusal is TPM_RC_ECC_POINT.
func (k *ECCKey) Multiply(p tpm2.ECCPoint) (tpm2.ECCPoint, error) {
	q, err := k.c.encode(p)
	if err != nil {
		return tpm2.ECCPoint{}, err
	}
	return k.c.decode(k.c.mult(k.raw, q))
}

// Agree is TPM2_ECDH_KeyGen with a new key: its public point and [d]Q for the
// party that holds the private key of k (Part 3, 14.4).
func (k *ECCPublic) Agree(r io.Reader) (public, z tpm2.ECCPoint, err error) {
	ephemeral, err := GenerateECC(r, k.c.id)
	if err != nil {
		return tpm2.ECCPoint{}, tpm2.ECCPoint{}, err
	}
	z, err = k.c.decode(k.c.mult(ephemeral.raw, k.q))
	return ephemeral.Point(), z, err
}

// Shared returns the secret that k shares with who holds the private key of p: the
// x-coordinate of [d]P in the size of the field (Part 1, C.6.1; SP 800-56A, 5.7.1.2).
// The refusal is TPM_RC_ECC_POINT.
func (k *ECCKey) Shared(p tpm2.ECCPoint) ([]byte, error) {
	q, err := k.c.encode(p)
	if err != nil {
		return nil, err
	}
	if z, ok := k.sharedValidated(q); ok {
		return z, nil
	}
	z, err := k.c.decode(k.c.mult(k.raw, q))
	return z.X, err
}

// Share is the other side of [ECCKey.Shared]: the public point of a new key, and the
// secret that the holder of the private key of k finds with it.
func (k *ECCPublic) Share(r io.Reader) (public tpm2.ECCPoint, secret []byte, err error) {
	ephemeral, err := GenerateECC(r, k.c.id)
	if err != nil {
		return tpm2.ECCPoint{}, nil, err
	}
	secret, err = ephemeral.Shared(k.Point())
	return ephemeral.Point(), secret, err
}

// TwoPhase agrees with two keys of either party (Part 3, 14.7, TPM2_ZGen_2Phase):
// k and ephemeral are ours, the points are theirs. The scheme is TPM_ALG_ECDH, the
// full unified model with Z1 from the static and Z2 from the ephemeral keys
// (SP 800-56A, 6.1.1.2), or TPM_ALG_ECMQV, full MQV with one result in Z1
// (6.1.1.4). Refusals: TPM_RC_SCHEME, TPM_RC_ECC_POINT, TPM_RC_CURVE for keys of
// two curves, TPM_RC_NO_RESULT for infinity.
func (k *ECCKey) TwoPhase(scheme tpm2.Alg, ephemeral *ECCKey, theirStatic, theirEphemeral tpm2.ECCPoint) (z1, z2 tpm2.ECCPoint, err error) {
	if ephemeral.c != k.c {
		return z1, z2, refuse(tpm2.RCCurve, "ephemeral key is on %v, the static one on %v", ephemeral.c.id, k.c.id)
	}
	qs, err := k.c.encode(theirStatic)
	if err != nil {
		return z1, z2, err
	}
	qe, err := k.c.encode(theirEphemeral)
	if err != nil {
		return z1, z2, err
	}
	switch scheme {
	case tpm2.AlgECDH:
		if z1, err = k.c.decode(k.c.mult(k.raw, qs)); err == nil {
			z2, err = k.c.decode(k.c.mult(ephemeral.raw, qe))
		}
	case tpm2.AlgECMQV:
		z1, err = k.mqv(ephemeral, qs, qe)
	default:
		err = refuse(tpm2.RCScheme, "two-phase scheme %s", scheme.BankName())
	}
	return z1, z2, err
}

// mqv is SP 800-56A, 5.7.2.3.1, steps 1 to 3. The reference code forgets to set
// avf of their ephemeral key from that key; here the standard is followed.
func (k *ECCKey) mqv(ephemeral *ECCKey, qs, qe []byte) (tpm2.ECCPoint, error) {
	c := k.c
	t := c.avf(ephemeral.q).Mul(k.d, c.n)
	t.Add(ephemeral.d, c.n) // implicitsig
	u := c.avf(qe).Mul(t, c.n)
	return c.decode(c.combine(t.Bytes(c.n), qe, u.Bytes(c.n), qs))
}

// avf is the associate value function (SP 800-56A, 5.7.2.2): the lower half of the
// x-coordinate, with the bit above it set.
func (c *curve) avf(q []byte) *bigmod.Nat {
	half := (c.n.BitLen() + 1) / 2
	x := bytes.Clone(q[1 : 1+c.size])
	top := c.size - 1 - half/8 // the byte with the bit above the half
	clear(x[:top])
	x[top] &= 1<<(half%8) - 1
	x[top] |= 1 << (half % 8)
	return known(bigmod.NewNat().SetBytes(x, c.n))
}
