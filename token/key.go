package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Generate makes a private key for alg. Since Go 1.26 the standard library draws
// from its own source and passes over random.
func Generate(random io.Reader, alg Alg) (crypto.Signer, error) {
	switch alg {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), random)
	case RS256:
		return rsa.GenerateKey(random, minRSA)
	default:
		return nil, fmt.Errorf("generate key: algorithm %q is none of %q, %q", alg, ES256, RS256)
	}
}

// KeyConfig says how a signing key is used.
type KeyConfig struct {
	// ID is the kid; "" means the key's [Thumbprint], or for a key with a
	// certificate of its own and RS256 its [AzureKeyID].
	ID string
	// Certificates go into x5c: DER, leaf first, the leaf being of this key.
	// Azure clients read nothing else.
	Certificates [][]byte
	// NotBefore and NotAfter bound when the key signs. A key set publishes it
	// before NotBefore too, so that relying parties know it when it is used.
	NotBefore, NotAfter time.Time
	// Rand is what a signer may draw from; it must be safe for concurrent use.
	Rand io.Reader
}

// A Key signs tokens. It is immutable and safe for concurrent use if its signer is.
type Key struct {
	signer              crypto.Signer
	random              io.Reader
	public              PublicKey
	notBefore, notAfter time.Time
}

// NewKey checks that signer can sign for one of the algorithms here, by signing
// and verifying once, and that the certificate is its own. The private key may be
// an *ecdsa.PrivateKey, an *rsa.PrivateKey, or a device that holds either.
func NewKey(signer crypto.Signer, cfg KeyConfig) (*Key, error) {
	if signer == nil || cfg.Rand == nil {
		return nil, errors.New("signing key or its random source is nil")
	}
	alg, err := algOf(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if !cfg.NotAfter.After(cfg.NotBefore) {
		return nil, fmt.Errorf("signing key ends %s, before it begins", stamp(cfg.NotAfter))
	}
	k := &Key{signer: signer, random: cfg.Rand, notBefore: cfg.NotBefore, notAfter: cfg.NotAfter}
	k.public = PublicKey{ID: cfg.ID, Alg: alg, Key: signer.Public(), Certificates: clone(cfg.Certificates)}
	if err := k.checkCertificate(); err != nil {
		return nil, err
	}
	if k.public.ID == "" {
		if k.public.ID, err = k.defaultID(); err != nil {
			return nil, err
		}
	}
	if len(k.public.ID) > maxName {
		return nil, fmt.Errorf("key id of %d bytes, more than %d", len(k.public.ID), maxName)
	}
	if private, ok := signer.(*ecdsa.PrivateKey); ok {
		if k.public.own, err = newOwnCheck(private); err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
	}
	return k, k.try()
}

func clone(list [][]byte) [][]byte {
	var out [][]byte
	for _, b := range list {
		out = append(out, bytes.Clone(b))
	}
	return out
}

func (k *Key) checkCertificate() error {
	if len(k.public.Certificates) == 0 {
		return nil
	}
	if len(k.public.Certificates) > maxChain {
		return fmt.Errorf("%d certificates, more than %d", len(k.public.Certificates), maxChain)
	}
	cert, err := x509.ParseCertificate(k.public.Certificates[0])
	if err != nil {
		return fmt.Errorf("certificate of signing key: %w", err)
	}
	if !sameKey(cert.PublicKey, k.public.Key) {
		return errors.New("certificate is of another key than the signing key")
	}
	return nil
}

func (k *Key) defaultID() (string, error) {
	if k.public.Alg == RS256 && len(k.public.Certificates) > 0 {
		return AzureKeyID(k.public.Key)
	}
	return Thumbprint(k.public.Key)
}

// try signs once and verifies by the public key alone, not by the own check.
func (k *Key) try() error {
	const message = "assay signing key self-test"
	sig, err := k.sign([]byte(message))
	if err != nil {
		return fmt.Errorf("try signing key: %w", err)
	}
	digest := sha256.Sum256([]byte(message))
	switch public := k.public.Key.(type) {
	case *ecdsa.PublicKey:
		r, s := new(big.Int).SetBytes(sig[:scalarSize]), new(big.Int).SetBytes(sig[scalarSize:])
		if !ecdsa.Verify(public, digest[:], r, s) {
			return errors.New("try signing key: its signature does not verify")
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig); err != nil {
			return fmt.Errorf("try signing key: %w", err)
		}
	}
	return nil
}

// ID is the kid.
func (k *Key) ID() string { return k.public.ID }

// Alg is how the key signs.
func (k *Key) Alg() Alg { return k.public.Alg }

// Public is what a key set publishes of the key.
func (k *Key) Public() PublicKey {
	public := k.public
	public.own = nil
	return public
}

// signsAt reports whether the key is to be used at t.
func (k *Key) signsAt(t time.Time) bool { return !t.Before(k.notBefore) && t.Before(k.notAfter) }

// opaque lets go-jose sign with any crypto.Signer.
type opaque struct{ key *Key }

// Public gives go-jose the kid for the header.
func (o *opaque) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: o.key.public.Key, KeyID: o.key.public.ID, Algorithm: string(o.key.public.Alg)}
}

// Algs is the one algorithm of the key.
func (o *opaque) Algs() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.SignatureAlgorithm(o.key.public.Alg)}
}

// SignPayload signs.
func (o *opaque) SignPayload(payload []byte, alg jose.SignatureAlgorithm) ([]byte, error) {
	if string(alg) != string(o.key.public.Alg) {
		return nil, fmt.Errorf("key is for %s, not %s", o.key.public.Alg, alg)
	}
	return o.key.sign(payload)
}

// sign signs as RFC 7518, 3.3 and 3.4 have it. ECDSA keys that are at hand sign as
// RFC 6979 has it, without a random source (nil): the nonce then costs half as much, and
// cannot repeat. What a fault of the machine would give away with such a signature
// stays here: the issuer lets out only what it has verified.
func (k *Key) sign(input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	random := k.random
	if _, ok := k.signer.(*ecdsa.PrivateKey); ok {
		random = nil
	}
	sig, err := k.signer.Sign(random, digest[:], crypto.SHA256)
	if err != nil || k.public.Alg == RS256 {
		return sig, err
	}
	return rawSignature(sig)
}

// rawSignature turns an ASN.1 ECDSA signature into r and s of equal length
// (RFC 7518, 3.4).
func rawSignature(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) != 0 {
		return nil, errors.New("signer returned no ECDSA signature")
	}
	if sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 8*scalarSize || sig.S.BitLen() > 8*scalarSize {
		return nil, errors.New("signer returned an ECDSA signature out of range")
	}
	out := make([]byte, 2*scalarSize)
	sig.R.FillBytes(out[:scalarSize])
	sig.S.FillBytes(out[scalarSize:])
	return out, nil
}
