package tpmcrypto

import (
	"bytes"
	"crypto"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// Encrypt is TPM2_ECC_Encrypt (Part 3, 14.8): C1 is a new public point, C2 the
// message under the mask of KDF2 over the shared point, C3 = H(x || message || y),
// with padded coordinates. Refusals: TPM_RC_SCHEME for another KDF, TPM_RC_HASH.
func (k *ECCPublic) Encrypt(r io.Reader, kdf tpm2.KDFScheme, message []byte) (c1 tpm2.ECCPoint, c2, c3 []byte, err error) {
	h, err := kdf2Hash(kdf)
	if err != nil {
		return c1, nil, nil, err
	}
	c1, p, err := k.Agree(r)
	if err != nil {
		return c1, nil, nil, err
	}
	c2 = bytes.Clone(message)
	mgf(h, c2, append(bytes.Clone(p.X), p.Y...), 1)
	return c1, c2, eccCheck(h, p, message), nil
}

// Decrypt is TPM2_ECC_Decrypt (Part 3, 14.9), the inverse of [ECCPublic.Encrypt].
// Refusals: TPM_RC_SCHEME, TPM_RC_HASH, TPM_RC_ECC_POINT for C1, TPM_RC_VALUE when
// C3 does not agree; no part of the message leaves then.
func (k *ECCKey) Decrypt(kdf tpm2.KDFScheme, c1 tpm2.ECCPoint, c2, c3 []byte) ([]byte, error) {
	h, err := kdf2Hash(kdf)
	if err != nil {
		return nil, err
	}
	p, err := k.Multiply(c1)
	if err != nil {
		return nil, err
	}
	message := append([]byte{}, c2...)
	mgf(h, message, append(bytes.Clone(p.X), p.Y...), 1)
	if !Equal(eccCheck(h, p, message), c3) {
		return nil, refuse(tpm2.RCValue, "ciphertext does not decrypt")
	}
	return message, nil
}

func kdf2Hash(kdf tpm2.KDFScheme) (crypto.Hash, error) {
	if kdf.Scheme != tpm2.AlgKDF2 {
		return 0, refuse(tpm2.RCScheme, "key derivation %s", kdf.Scheme.BankName())
	}
	return hashOf(kdf.HashAlg)
}

func eccCheck(h crypto.Hash, p tpm2.ECCPoint, message []byte) []byte {
	sum := h.New()
	sum.Write(p.X)
	sum.Write(message)
	sum.Write(p.Y)
	return sum.Sum(nil)
}
