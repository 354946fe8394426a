package tpm2

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// The ways in which a signature fails.
var (
	// ErrScheme is a signature by another scheme or hash than its key's, or one
	// that is not accepted at all: a SHA-1 digest, ECDAA, HMAC.
	ErrScheme = errors.New("signature scheme is not accepted")
	// ErrSignature is a signature that does not verify.
	ErrSignature = errors.New("signature does not verify")
)

// A Verifier checks signatures of one key. It is immutable and safe for
// concurrent use; the zero Verifier refuses everything.
type Verifier struct {
	key    crypto.PublicKey
	scheme Alg // AlgNull when the key leaves it to its user
	hash   Alg
	rsa    *rsaVerifier // nil when crypto/rsa verifies RSASSA, too
}

// NewVerifier converts the key of p once, for any number of signatures. Errors wrap [ErrKey].
func NewVerifier(p *Public) (*Verifier, error) {
	key, err := p.Key()
	if err != nil {
		return nil, err
	}
	v := &Verifier{key: key, scheme: AlgNull, hash: AlgNull}
	switch p.Type {
	case AlgRSA:
		v.scheme, v.hash = p.Parameters.RSA.Scheme.Scheme, p.Parameters.RSA.Scheme.HashAlg
	case AlgECC:
		v.scheme, v.hash = p.Parameters.ECC.Scheme.Scheme, p.Parameters.ECC.Scheme.HashAlg
	}
	if key, ok := key.(*rsa.PublicKey); ok {
		v.rsa = newRSAVerifier(key)
	}
	return v, nil
}

// Verify reports whether s is the key's signature over message: nil, or an
// error that wraps [ErrScheme] or [ErrSignature]. RSASSA, RSAPSS and ECDSA with
// SHA-256, SHA-384 and SHA-512 are accepted, and when the key names a scheme and
// a hash, only those (Part 2, 12.2.3.7).
func (v *Verifier) Verify(message []byte, s *Signature) error {
	if v.scheme != AlgNull && (s.SigAlg != v.scheme || s.Hash != v.hash) {
		return fmt.Errorf("signed by %#04x with %s, the key is for %#04x with %s: %w",
			uint16(s.SigAlg), s.Hash.BankName(), uint16(v.scheme), v.hash.BankName(), ErrScheme)
	}
	h, err := strongHash(s.Hash)
	if err != nil {
		return err
	}
	hash := h.New()
	hash.Write(message)
	return v.verifyDigest(h, hash.Sum(make([]byte, 0, MaxDigest)), s)
}

func strongHash(a Alg) (crypto.Hash, error) {
	switch a {
	case AlgSHA256, AlgSHA384, AlgSHA512:
		h, _ := a.Hash()
		return h, nil
	}
	return 0, fmt.Errorf("digest is by %s: %w", a.BankName(), ErrScheme)
}

func (v *Verifier) verifyDigest(h crypto.Hash, digest []byte, s *Signature) error {
	var ok bool
	switch key := v.key.(type) {
	case *rsa.PublicKey:
		switch s.SigAlg {
		case AlgRSASSA:
			if v.rsa != nil {
				ok = v.rsa.verify(h, digest, s.RSA)
			} else {
				ok = rsa.VerifyPKCS1v15(key, h, digest, s.RSA) == nil
			}
		case AlgRSAPSS:
			// Part 1, B.7: the salt is as long as the block allows, or, in FIPS
			// mode, as long as the digest; both occur.
			ok = rsa.VerifyPSS(key, h, digest, s.RSA, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		default:
			return fmt.Errorf("scheme %#04x for an RSA key: %w", uint16(s.SigAlg), ErrScheme)
		}
	case *ecdsa.PublicKey:
		if s.SigAlg != AlgECDSA {
			return fmt.Errorf("scheme %#04x for an ECC key: %w", uint16(s.SigAlg), ErrScheme)
		}
		ok = ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.R), new(big.Int).SetBytes(s.S))
	default:
		return fmt.Errorf("no key: %w", ErrSignature)
	}
	if !ok {
		return ErrSignature
	}
	return nil
}
