package tpm2

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"filippo.io/bigmod"
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

// An rsaVerifier verifies RSASSA-PKCS1-v1_5 by one key, whose modulus it prepares
// once: crypto/rsa does so for each signature, at a third of its cost. It
// accepts exactly what crypto/rsa accepts.
type rsaVerifier struct {
	n    *bigmod.Modulus
	e    uint
	size int // of the modulus in bytes
}

// newRSAVerifier returns nil for a key that is left to crypto/rsa: an unusual
// one, or any when the validated module must do the work (FIPS 140-3 mode).
func newRSAVerifier(key *rsa.PublicKey) *rsaVerifier {
	if fips140.Enabled() || key.N.Bit(0) == 0 || key.N.BitLen() < 2048 || key.N.BitLen() > 4096 || key.N.BitLen()%8 != 0 ||
		key.E < 3 || key.E&1 == 0 || key.E > 1<<31-1 {
		return nil
	}
	n, err := bigmod.NewModulus(key.N.Bytes())
	if err != nil {
		return nil
	}
	return &rsaVerifier{n, uint(key.E), key.Size()}
}

// verify is RSASSA-PKCS1-V1_5-VERIFY (RFC 8017, 8.2.2). The encoded message is
// built and compared whole, so that nothing in it is parsed.
func (v *rsaVerifier) verify(h crypto.Hash, digest, sig []byte) bool {
	want := v.encode(h, digest)
	if want == nil || len(sig) != v.size {
		return false
	}
	s, err := bigmod.NewNat().SetBytes(sig, v.n) // 5.2.2, step 1: refuses what is not below n
	if err != nil {
		return false
	}
	return bytes.Equal(bigmod.NewNat().ExpShortVarTime(s, v.e, v.n).Bytes(v.n), want)
}

// DigestInfo before the digest (RFC 8017, 9.2, note 1).
const (
	infoSHA256 = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	infoSHA384 = "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
	infoSHA512 = "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
)

// encode is EMSA-PKCS1-v1_5 (RFC 8017, 9.2); nil for a hash that is not accepted.
func (v *rsaVerifier) encode(h crypto.Hash, digest []byte) []byte {
	info := ""
	switch h {
	case crypto.SHA256:
		info = infoSHA256
	case crypto.SHA384:
		info = infoSHA384
	case crypto.SHA512:
		info = infoSHA512
	}
	if info == "" || len(digest) != h.Size() {
		return nil
	}
	out := bytes.Repeat([]byte{0xFF}, v.size)
	out[0], out[1] = 0, 1
	at := v.size - len(info) - len(digest) // at least 173, as the modulus has 256 bytes
	out[at-1] = 0
	copy(out[at:], info)
	copy(out[at+len(info):], digest)
	return out
}
