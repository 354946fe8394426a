package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// rsaKey returns the private RSA key of an object, made on first use.
func (o *object) rsaKey() (*tpmcrypto.RSAKey, error) {
	if o.rsa == nil {
		var k *tpmcrypto.RSAKey
		var err error
		if n, e := o.public.Unique.RSA, o.public.Parameters.RSA.Exponent; len(o.rsaInverse) != 0 {
			k, err = tpmcrypto.LoadRSAInverse(n, e, o.sensitive.Bits, o.rsaInverse)
		} else {
			k, err = tpmcrypto.LoadRSA(n, e, o.sensitive.Bits)
		}
		if err != nil {
			return nil, err
		}
		o.rsa = k
	}
	return o.rsa, nil
}

// eccKey returns the private ECC key of an object, made on first use.
func (o *object) eccKey() (*tpmcrypto.ECCKey, error) {
	if o.ecc == nil {
		k, err := tpmcrypto.LoadECC(o.public.Parameters.ECC.CurveID, o.sensitive.Bits)
		if err != nil {
			return nil, err
		}
		o.ecc = k
	}
	return o.ecc, nil
}

// rsaPublicKey returns the public RSA key of an object, made on first use.
func (o *object) rsaPublicKey() (*tpmcrypto.RSAPublic, error) {
	if o.rsaPublic == nil {
		k, err := tpmcrypto.NewRSAPublic(o.public.Unique.RSA, o.public.Parameters.RSA.Exponent)
		if err != nil {
			return nil, err
		}
		o.rsaPublic = k
	}
	return o.rsaPublic, nil
}

// eccPublicKey returns the public ECC key of an object, made on first use.
func (o *object) eccPublicKey() (*tpmcrypto.ECCPublic, error) {
	if o.eccPublic == nil {
		k, err := tpmcrypto.NewECCPublic(o.public.Parameters.ECC.CurveID, o.public.Unique.ECC)
		if err != nil {
			return nil, err
		}
		o.eccPublic = k
	}
	return o.eccPublic, nil
}

// terminated is a label with the zero that OAEP has behind it (Part 1, B.4).
func terminated(label string) []byte { return append([]byte(label), 0) }

// decryptSecret recovers a seed or salt that somebody encrypted to key for the
// purpose that label names: "SECRET", "IDENTITY" or "DUPLICATE" (Part 1, B.10.3, C.6.1).
// The key is an RSA, ECC or ML-KEM key with its private part.
func (t *TPM) decryptSecret(key *object, label string, secret []byte) ([]byte, error) {
	switch key.public.Type {
	case tpm2.AlgECC:
		return key.agreedSecret(label, secret)
	case tpm2.AlgMLKEM:
		return key.decapsulatedSecret(label, secret)
	}
	scheme := key.public.Parameters.RSA.Scheme
	if scheme.Scheme == tpm2.AlgNull {
		scheme = tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: key.public.NameAlg}
	}
	limit := scheme.HashAlg.DigestSize()
	if scheme.Scheme != tpm2.AlgOAEP || limit == 0 {
		return nil, tpm2.RCScheme
	}
	k, err := key.rsaKey()
	if err != nil {
		return nil, err
	}
	data, err := k.Decrypt(scheme, terminated(label), secret)
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, tpm2.RCValue
	}
	return data, nil
}

func (o *object) agreedSecret(label string, secret []byte) ([]byte, error) {
	var point tpm2.ECCPoint
	if err := wire.Decode(secret, &point); err != nil {
		return nil, tpm2.RCOf(err)
	}
	k, err := o.eccKey()
	if err != nil {
		return nil, err
	}
	z, err := k.Shared(point)
	if err != nil {
		return nil, err
	}
	return o.secretOf(label, z, point)
}

// secretOf derives the secret from the x-coordinate of a shared point (Part 1, C.6.1).
func (o *object) secretOf(label string, z []byte, ephemeral tpm2.ECCPoint) ([]byte, error) {
	nameAlg := o.public.NameAlg
	s, err := tpm2.KDFe(nameAlg, z, label, ephemeral.X, o.public.Unique.ECC.X, 8*nameAlg.DigestSize())
	if err != nil {
		return nil, tpm2.RCHash
	}
	return s, nil
}

// encryptSecret makes a secret and encrypts it to key; the inverse of
// [TPM.decryptSecret]. The secret has the size of a digest of key's Name algorithm.
// The key is an RSA, ECC or ML-KEM key, of which the public part is enough.
func (t *TPM) encryptSecret(key *object, label string) (data, secret []byte, err error) {
	if !key.attr(tpm2.AttrDecrypt) {
		return nil, nil, tpm2.RCAttributes
	}
	switch key.public.Type {
	case tpm2.AlgECC:
		return t.agreeSecret(key, label)
	case tpm2.AlgMLKEM:
		return t.encapsulateSecret(key, label)
	}
	k, err := key.rsaPublicKey()
	if err != nil {
		return nil, nil, tpm2.RCKey
	}
	data = t.newBytes(key.public.NameAlg.DigestSize())
	scheme := tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: key.public.NameAlg}
	secret, err = k.Encrypt(t.random, scheme, terminated(label), data)
	return data, secret, err
}

func (t *TPM) agreeSecret(key *object, label string) (data, secret []byte, err error) {
	k, err := key.eccPublicKey()
	if err != nil {
		return nil, nil, tpm2.RCKey
	}
	ephemeral, z, err := k.Share(t.random)
	if err != nil {
		return nil, nil, err
	}
	if data, err = key.secretOf(label, z, ephemeral); err != nil {
		return nil, nil, err
	}
	secret, err = wire.Encode(&ephemeral)
	return data, secret, err
}
