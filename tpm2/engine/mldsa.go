package engine

import (
	"bytes"
	"errors"
	"io"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
)

// Keys of ML-DSA and HashML-DSA (version 1.85), and what they sign: a message
// representative, which is the hash of the public key, of a context and of the
// message, or of its digest (FIPS 204, 5.2 and 5.4). What the text of version 1.85
// leaves open is in docs/tpm-testing.md.

// mldsaSet returns the parameter set of a key; layouts let no other through.
func (o *object) mldsaSet() mldsa.Set {
	switch o.public.Parameters.MLDSA.ParameterSet {
	case tpm2.MLDSA44:
		return mldsa.MLDSA44
	case tpm2.MLDSA65:
		return mldsa.MLDSA65
	case tpm2.MLDSA87:
		return mldsa.MLDSA87
	}
	return 0
}

// offersHashMLDSA reports whether there is HashML-DSA by a hash.
func offersHashMLDSA(a tpm2.Alg) bool {
	h, ok := a.Hash()
	return ok && mldsa.Hashes(h)
}

func (o *object) generateMLDSA(r io.Reader) error {
	seed := make([]byte, mldsa.SeedSize)
	if err := readFull(r, seed); err != nil {
		return err
	}
	o.sensitive.Bits = seed
	k, err := o.mldsaKey()
	if err != nil {
		return err
	}
	o.public.Unique = tpm2.PublicID{MLDSA: clone(k.Public())}
	return nil
}

// mldsaKey returns the private key of an object, made on first use.
func (o *object) mldsaKey() (*mldsa.Key, error) {
	if o.mldsa == nil {
		k, err := mldsa.NewKey(o.mldsaSet(), o.sensitive.Bits)
		if err != nil {
			return nil, tpm2.RCKeySize
		}
		o.mldsa = k
	}
	return o.mldsa, nil
}

func (o *object) validateMLDSA(at blame) error {
	public := o.public.Unique.MLDSA
	if len(public) != o.mldsaSet().PublicSize() {
		return parameter(tpm2.RCKey, at.public)
	}
	if o.publicOnly {
		return nil
	}
	k, err := o.mldsaKey()
	if err != nil {
		return parameter(tpm2.RCKeySize, at.sensitive)
	}
	if !bytes.Equal(k.Public(), public) {
		return tpm2.RCBinding
	}
	return nil
}

// ownMLDSA is the scheme of a key of these types. ML-DSA has no hash of its own.
func (o *object) ownMLDSA() tpm2.SigScheme {
	s := tpm2.SigScheme{Scheme: o.public.Type}
	if s.Scheme == tpm2.AlgHashMLDSA {
		s.HashAlg = o.public.Parameters.MLDSA.HashAlg
	}
	return s
}

// messageMu is the representative of a whole message. There are contexts of at most
// 255 bytes: that of a command is no longer.
func (o *object) messageMu(context, message []byte) ([]byte, error) {
	if o.public.Type == tpm2.AlgHashMLDSA {
		digest, err := tpmcrypto.Hash(o.public.Parameters.MLDSA.HashAlg, message)
		if err != nil {
			return nil, err
		}
		return o.muOf(context, digest)
	}
	mu, err := mldsa.NewMu(o.public.Unique.MLDSA, context)
	if err != nil {
		return nil, mldsaCode(err)
	}
	return mu.Sum(message), nil
}

// muOf is the representative of what there is of a message: for ML-DSA it is that
// itself, for HashML-DSA it is made of the digest.
func (o *object) muOf(context, digest []byte) ([]byte, error) {
	if o.public.Type == tpm2.AlgMLDSA {
		return digest, nil
	}
	h, ok := o.public.Parameters.MLDSA.HashAlg.Hash()
	if !ok {
		return nil, tpm2.RCHash
	}
	mu, err := mldsa.HashMu(o.public.Unique.MLDSA, context, h, digest)
	if err != nil {
		return nil, mldsaCode(err)
	}
	return mu, nil
}

// maxAuthResponse is the largest TPMS_AUTH_RESPONSE: a nonce, attributes, an HMAC.
const maxAuthResponse = 2 + tpm2.MaxDigest + 1 + 2 + tpm2.MaxDigest

// signMu signs a representative for a response in which besides bytes go with the
// signature. One that does not fit into the buffer in front of the TPM is not made: a
// signature may be longer than that of a machine's TPM interface.
func (c *call) signMu(o *object, mu []byte, besides int) (tpm2.Signature, error) {
	own := o.ownMLDSA()
	sig := tpm2.Signature{SigAlg: own.Scheme, Hash: own.HashAlg}
	const frame = headerSize + 4 + 3*2 // with the size of the parameters, and what is in front of a signature
	if frame+besides+o.mldsaSet().SignatureSize()+c.nauths*maxAuthResponse > c.t.limits.Command {
		return sig, tpm2.RCNoResult
	}
	k, err := o.mldsaKey()
	if err != nil {
		return sig, err
	}
	if sig.MLDSA, err = k.SignMu(mu); err != nil {
		return sig, mldsaCode(err)
	}
	return sig, nil
}

// verifyMu checks a signature of a representative. Its errors are response codes.
func (o *object) verifyMu(mu, sig []byte) error {
	if o.mldsaSet().Verify(o.public.Unique.MLDSA, mu, sig) != nil {
		return tpm2.RCSignature
	}
	return nil
}

// mldsaCode is the code of what is refused before there is a signature.
func mldsaCode(err error) error {
	switch {
	case errors.Is(err, mldsa.ErrSize):
		return tpm2.RCSize
	case errors.Is(err, mldsa.ErrHash):
		return tpm2.RCHash
	}
	return err
}
