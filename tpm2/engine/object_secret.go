package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// rsaKey returns the private RSA key of an object, made on first use.
func (o *object) rsaKey() (*tpmcrypto.RSAKey, error) {
	if o.rsa == nil {
		k, err := tpmcrypto.LoadRSA(o.public.Unique.RSA, o.public.Parameters.RSA.Exponent, o.sensitive.Bits)
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

// decryptSecret recovers a seed or salt that somebody encrypted to key for the
// purpose that label names: "SECRET", "IDENTITY" or "DUPLICATE" (Part 1, B.10.3, C.6.1).
func (t *TPM) decryptSecret(key *object, label string, secret []byte) ([]byte, error) {
	if key.public.Type == tpm2.AlgECC {
		return key.agreedSecret(label, secret)
	}
	k, err := key.rsaKey()
	if err != nil {
		return nil, err
	}
	scheme := tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: key.public.NameAlg}
	return k.Decrypt(scheme, append([]byte(label), 0), secret)
}

func (o *object) agreedSecret(label string, secret []byte) ([]byte, error) {
	var point tpm2.ECCPoint
	if err := wire.Decode(secret, &point); err != nil {
		return nil, err
	}
	k, err := o.eccKey()
	if err != nil {
		return nil, err
	}
	z, err := k.Multiply(point)
	if err != nil {
		return nil, err
	}
	nameAlg := o.public.NameAlg
	return tpm2.KDFe(nameAlg, z.X, label, point.X, o.public.Unique.ECC.X, 8*nameAlg.DigestSize())
}
