package engine

import (
	"bytes"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// Which parameter a fault of a public or a sensitive area is told of.
type blame struct{ public, sensitive int }

// loadKeys checks an object that is being loaded: its public area, and unless a
// fixedTPM parent vouches for it, that its keys are sound and belong together. A
// nil sensitive area is that of a public object.
func (o *object) loadKeys(parent *object, at blame) error {
	p := &o.public
	if o.publicOnly || p.NameAlg == tpm2.AlgNull {
		// Part 3, 12.3.1: a public key may have any attributes, but a scheme that fits.
		if err := checkSchemes(nil, p); err != nil {
			return parameter(responseCode(err), at.public)
		}
	} else {
		if len(o.sensitive.SeedValue) > p.NameAlg.DigestSize() {
			return parameter(tpm2.RCKeySize, at.sensitive)
		}
		if err := checkPublic(parent, p); err != nil {
			return parameter(responseCode(err), at.public)
		}
	}
	// Under a fixedTPM parent this TPM made the blob, by creation or import, and
	// has checked it then. Else somebody else may know the parent's seed.
	if parent != nil && parent.attr(tpm2.AttrFixedTPM) {
		return nil
	}
	return o.validate(at)
}

// validate checks the keys of an object (CryptValidateKeys of the reference).
func (o *object) validate(at blame) error {
	if s := &o.sensitive; !o.publicOnly {
		if s.Type != o.public.Type {
			return parameter(tpm2.RCType, at.sensitive)
		}
		if n := o.public.NameAlg.DigestSize(); n > 0 && len(s.AuthValue) > n {
			return parameter(tpm2.RCSize, at.sensitive)
		}
	}
	var err error
	switch o.public.Type {
	case tpm2.AlgRSA:
		err = o.validateRSA(at)
	case tpm2.AlgECC:
		err = o.validateECC(at)
	case tpm2.AlgMLKEM:
		err = o.validateMLKEM(at)
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		err = o.validateMLDSA(at)
	default:
		err = o.validateSymmetric(at)
	}
	if err != nil {
		return err
	}
	// Part 1, 27.7.4: the seed of a parent is at least half a digest.
	if n := o.public.NameAlg.DigestSize(); n > 0 && !o.publicOnly && o.attr(tpm2.AttrRestricted|tpm2.AttrDecrypt) {
		if seed := len(o.sensitive.SeedValue); seed < n/2 || seed > n {
			return parameter(tpm2.RCSize, at.sensitive)
		}
	}
	// The reference looks for the other prime last.
	if o.public.Type == tpm2.AlgRSA && !o.publicOnly {
		if _, err := o.rsaKey(); err != nil {
			return tpm2.RCBinding
		}
	}
	return nil
}

func (o *object) validateRSA(at blame) error {
	size := int(o.public.Parameters.RSA.KeyBits) / 8
	if n := o.public.Unique.RSA; len(n) != size || n[0] < 0x80 {
		return parameter(tpm2.RCKey, at.public)
	}
	if e := o.public.Parameters.RSA.Exponent; e != 0 && e < 7 {
		return parameter(tpm2.RCValue, at.public)
	}
	if p := o.sensitive.Bits; !o.publicOnly && (2*len(p) != size || p[0] < 0x80) {
		return parameter(tpm2.RCKeySize, at.sensitive)
	}
	return nil
}

func (o *object) validateECC(at blame) error {
	curve, point := o.public.Parameters.ECC.CurveID, o.public.Unique.ECC
	named := o.public.NameAlg != tpm2.AlgNull
	if o.publicOnly {
		if size := fieldSize(curve); len(point.X) != size || len(point.Y) != size {
			return parameter(tpm2.RCKey, at.public)
		}
		if named {
			if _, err := tpmcrypto.NewECCPublic(curve, point); err != nil {
				return parameter(tpm2.RCECCPoint, at.public)
			}
		}
		return nil
	}
	k, err := o.eccKey()
	if err != nil {
		return tpm2.RCKeySize // without a parameter, as the reference has it
	}
	if own := k.Point(); named && !(sameNumber(own.X, point.X) && sameNumber(own.Y, point.Y)) {
		return tpm2.RCBinding
	}
	return nil
}

// fieldSize is the size of a coordinate on the curves that a profile can offer.
func fieldSize(c tpm2.ECCCurve) int {
	switch c {
	case tpm2.CurveNISTP256, tpm2.CurveBNP256:
		return 32
	case tpm2.CurveNISTP384:
		return 48
	case tpm2.CurveNISTP521:
		return 66
	}
	return 0
}

// sameNumber compares public big-endian numbers of any size.
func sameNumber(a, b []byte) bool {
	return bytes.Equal(bytes.TrimLeft(a, "\x00"), bytes.TrimLeft(b, "\x00"))
}

// validateSymmetric checks a keyed hash object or a symmetric key: its size, and
// that its unique value binds it.
func (o *object) validateSymmetric(at blame) error {
	p, s := &o.public, &o.sensitive
	digest := p.NameAlg.DigestSize()
	if o.publicOnly {
		if len(p.Unique.Digest) != digest {
			return parameter(tpm2.RCKey, at.public)
		}
		return nil
	}
	if p.Type == tpm2.AlgSymCipher {
		if 8*len(s.Bits) != int(p.Parameters.SymCipher.KeyBits) {
			return parameter(tpm2.RCKeySize, at.sensitive)
		}
	} else if len(s.Bits) > keyedHashLimit(p) {
		return parameter(tpm2.RCKeySize, at.sensitive)
	}
	if p.NameAlg == tpm2.AlgNull {
		return nil
	}
	if len(s.SeedValue) != digest {
		return parameter(tpm2.RCKeySize, at.sensitive)
	}
	unique, err := symmetricUnique(p, s)
	if err != nil {
		return err
	}
	if !equal(unique, p.Unique.Digest) {
		return tpm2.RCBinding
	}
	return nil
}

// keyedHashLimit is the size of the longest secret: a block of its hash, beyond
// which HMAC would shorten it, or what can be sealed (Part 2, 11.1.13).
func keyedHashLimit(p *tpm2.Public) int {
	if s := p.Parameters.KeyedHash; s.Scheme != tpm2.AlgNull {
		return blockSize(s.HashAlg)
	}
	return tpm2.MaxSymData
}

// blockSize is that of the hash function, 0 when there is none.
func blockSize(a tpm2.Alg) int {
	h, ok := a.Hash()
	if !ok {
		return 0
	}
	return h.New().BlockSize()
}

// symmetricUnique computes the public value that binds a symmetric secret: for a
// parent, whose seed must not be told, an HMAC (Part 1, 27.6.3.2).
func symmetricUnique(p *tpm2.Public, s *tpm2.Sensitive) ([]byte, error) {
	if p.Attributes.Has(tpm2.AttrRestricted | tpm2.AttrDecrypt) {
		return tpmcrypto.HMAC(p.NameAlg, s.SeedValue, s.Bits)
	}
	return tpmcrypto.Hash(p.NameAlg, s.SeedValue, s.Bits)
}
