package tpm2

import (
	"fmt"

	"github.com/assay-project/assay/wire"
)

// Signature is a TPMT_SIGNATURE (Part 2, 11.3.4). SigAlg says which members are
// meant; AlgNull is no signature at all.
type Signature struct {
	SigAlg Alg
	Hash   Alg
	RSA    []byte // RSASSA and RSAPSS
	R, S   []byte // ECDSA, ECDAA, SM2 and EC Schnorr
	HMAC   []byte // HMAC: the digest of a TPMT_HA
	MLDSA  []byte // ML-DSA, which has no Hash, and HashML-DSA (version 1.85)
}

// Wire lays out a TPMT_SIGNATURE+.
func (s *Signature) Wire(c *wire.Codec) {
	selector(c, (*algSigSchemeOrNull)(&s.SigAlg))
	if s.SigAlg != AlgNull {
		s.wireRest(c)
	}
}

// WireNotNull lays out a TPMT_SIGNATURE where Part 2 has no "+": all commands take such.
func (s *Signature) WireNotNull(c *wire.Codec) {
	selector(c, (*algSigScheme)(&s.SigAlg))
	s.wireRest(c)
}

func (s *Signature) wireRest(c *wire.Codec) {
	if c.Err() != nil {
		return
	}
	if s.SigAlg != AlgMLDSA {
		selector(c, (*algHash)(&s.Hash))
	}
	switch s.SigAlg {
	case AlgRSASSA, AlgRSAPSS:
		c.Sized16(&s.RSA, MaxRSAKeyBytes)
	case AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr:
		c.Sized16(&s.R, MaxECCKeyBytes)
		c.Sized16(&s.S, MaxECCKeyBytes)
	case AlgMLDSA, AlgHashMLDSA:
		c.Sized16(&s.MLDSA, MaxMLDSASignature)
	case AlgHMAC:
		c.Raw(&s.HMAC, s.Hash.DigestSize())
	}
}

// SigScheme is a TPMT_SIG_SCHEME: what to sign with (Part 2, 11.2.1.5).
type SigScheme struct {
	Scheme  Alg // AlgNull: as the key says
	HashAlg Alg
	Count   uint16 // of ECDAA: what TPM2_Commit returned
}

// Wire lays out a TPMT_SIG_SCHEME+.
func (s *SigScheme) Wire(c *wire.Codec) {
	selector(c, (*algSigSchemeOrNull)(&s.Scheme))
	// ML-DSA and HashML-DSA have a hash, or none, by their key.
	if s.Scheme == AlgNull || s.Scheme == AlgMLDSA || s.Scheme == AlgHashMLDSA || c.Err() != nil {
		return
	}
	selector(c, (*algHash)(&s.HashAlg))
	if s.Scheme == AlgECDAA {
		wire.U16(c, &s.Count)
	}
}

// ParseSignature decodes a TPMT_SIGNATURE that fills all of b. The result aliases b.
func ParseSignature(b []byte) (*Signature, error) {
	s := new(Signature)
	if err := wire.Decode(b, s); err != nil {
		return nil, fmt.Errorf("decode TPMT_SIGNATURE: %w", err)
	}
	return s, nil
}
