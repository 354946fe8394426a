package tpmcrypto

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rsa"
	"io"
	"math/big"

	"github.com/assay-project/assay/tpm2"
)

// Validated reports whether the validated module computes: FIPS 140-3 mode, which a
// process is in from its start to its end, or never.
func Validated() bool { return fips140.Enabled() }

// fipsRSA is a key as the validated module takes it.
type fipsRSA struct{ key *rsa.PrivateKey } // nil when the module must not or cannot take it

// newFIPS prepares k for crypto/rsa. Its key holds secrets as big.Int, which is why
// this happens in FIPS 140-3 mode only.
func (k *RSAKey) newFIPS() *fipsRSA {
	if !Validated() || k.n.BitLen() < 2048 || k.e > 1<<31-1 {
		return new(fipsRSA)
	}
	p, q := new(big.Int).SetBytes(k.Prime()), new(big.Int).SetBytes(k.q.Nat().Bytes(k.q))
	one := big.NewInt(1)
	pm, qm := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	lambda := new(big.Int).Mul(pm, qm)
	lambda.Div(lambda, new(big.Int).GCD(nil, nil, pm, qm))
	d := new(big.Int).ModInverse(big.NewInt(int64(k.e)), lambda)
	if d == nil {
		return new(fipsRSA)
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus()), E: int(k.e)},
		D:         d,
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	if key.Validate() != nil {
		return new(fipsRSA)
	}
	return &fipsRSA{key}
}

// Fresh reports whether the bytes of r are random and no more, as those of a
// [DRBG] are: then others may stand for them. A reader that does not say so by a
// method Fresh() bool is one whose stream decides the result, as that of [Seeded].
func Fresh(r io.Reader) bool {
	f, ok := r.(interface{ Fresh() bool })
	return ok && f.Fresh()
}

// generateFIPS makes a key with the validated module and its randomness. A key
// that must come from r's stream is not for it.
func generateFIPS(r io.Reader, bits int, e uint32) (*RSAKey, bool) {
	if !Fresh(r) || !Validated() || bits < 2048 || e != DefaultExponent {
		return nil, false
	}
	std, err := rsa.GenerateKey(r, bits)
	if err != nil {
		return nil, false
	}
	k, err := LoadRSA(std.N.Bytes(), e, std.Primes[0].Bytes())
	return k, err == nil
}

// validated returns the key for the validated module; nil when that must not or
// cannot take it.
func (k *RSAPublic) validated() *rsa.PublicKey {
	if !Validated() || k.n.BitLen() < 2048 || k.e > 1<<31-1 {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus()), E: int(k.e)}
}

// verifyValidated is the end of [RSAPublic.Verify]; its refusal is TPM_RC_SIGNATURE.
func verifyValidated(key *rsa.PublicKey, scheme tpm2.Alg, h crypto.Hash, digest, sig []byte) error {
	var err error
	if scheme == tpm2.AlgRSASSA {
		err = rsa.VerifyPKCS1v15(key, h, digest, sig)
	} else {
		err = rsa.VerifyPSS(key, h, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	}
	if err != nil {
		return refuse(tpm2.RCSignature, "RSA signature does not verify")
	}
	return nil
}

// encryptOAEPValidated is [RSAPublic.Encrypt] by OAEP; the seed is from r.
func encryptOAEPValidated(key *rsa.PublicKey, r io.Reader, a tpm2.Alg, label, message []byte) ([]byte, error) {
	h, err := checkOAEP(a, message, key.Size())
	if err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(h.New(), r, key, message, label)
}

// decryptOAEPValidated is the end of [RSAKey.Decrypt] by OAEP; its refusal is
// TPM_RC_VALUE.
func decryptOAEPValidated(key *rsa.PrivateKey, h crypto.Hash, label, ciphertext []byte) ([]byte, error) {
	message, err := rsa.DecryptOAEP(h.New(), nil, key, ciphertext, label)
	if err != nil {
		return nil, refuse(tpm2.RCValue, "ciphertext does not decrypt")
	}
	return message, nil
}

// ecdh returns the curve as the validated module takes it; nil when that must not or
// cannot.
func (c *curve) ecdh() ecdh.Curve {
	if Validated() {
		switch c.id {
		case tpm2.CurveNISTP256:
			return ecdh.P256()
		case tpm2.CurveNISTP384:
			return ecdh.P384()
		case tpm2.CurveNISTP521:
			return ecdh.P521()
		}
	}
	return nil
}

// generateValidated makes a key with the validated module and its randomness. One
// that must come from r's stream is not for it.
func (c *curve) generateValidated(r io.Reader) (*ECCKey, bool) {
	if !Fresh(r) || c.ecdh() == nil {
		return nil, false
	}
	std, err := ecdsa.GenerateKey(c.elliptic(), r)
	if err != nil {
		return nil, false
	}
	raw, err := std.Bytes()
	if err != nil {
		return nil, false
	}
	d, ok := c.scalar(raw)
	if !ok {
		return nil, false
	}
	return newECCKey(c, d), true
}

// sharedValidated is the x-coordinate of [d]Q, all that the module gives of a product.
// The point has passed check.
func (k *ECCKey) sharedValidated(q []byte) (x []byte, ok bool) {
	c := k.c.ecdh()
	if c == nil {
		return nil, false
	}
	secret, err := known(c.NewPrivateKey(k.raw)).ECDH(known(c.NewPublicKey(q)))
	return secret, err == nil
}
