// Package pki makes the certificates that this project issues, each by a profile:
// a service's token-signing certificate, and its own certificate authority and
// server certificate for TLS.
//
// It proves nothing about who asks for one. Start with [NewCA]. X.509 as in RFC 5280.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"time"
)

// Validity is what differs between two certificates of one profile.
type Validity struct {
	// Serial is positive and at most 20 bytes (RFC 5280, 4.1.2.2); see NewSerial.
	Serial              *big.Int
	NotBefore, NotAfter time.Time
}

// maxSerial is the length of the longest serial number in bits.
const maxSerial = 159

// maxLife bounds every certificate here.
const maxLife = 30 * 365 * 24 * time.Hour

func (v Validity) check() error {
	switch {
	case v.Serial == nil || v.Serial.Sign() <= 0 || v.Serial.BitLen() > maxSerial:
		return errors.New("serial number is missing or out of range")
	case !v.NotAfter.After(v.NotBefore):
		return errors.New("certificate ends before it begins")
	case v.NotAfter.Sub(v.NotBefore) > maxLife:
		return fmt.Errorf("certificate lives longer than %d years", maxLife/(365*24*time.Hour))
	}
	return nil
}

// NewSerial draws a serial number of 159 bits.
func NewSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 20)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	b[0] = b[0]&0x3F | 0x40 // positive, never zero, of one length
	return new(big.Int).SetBytes(b), nil
}

// GenerateKey makes a P-256 key, for every profile here but RS256 tokens. Since
// Go 1.26 the standard library draws from its own source and passes over random.
func GenerateKey(random io.Reader) (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), random)
}

// TokenSigning makes the self-signed certificate of a token-signing key. Azure's
// clients look for the issuer's URL in its common name.
func TokenSigning(random io.Reader, key crypto.Signer, issuer string, v Validity) ([]byte, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("token-signing certificate of %q: issuer is not a URL", issuer)
	}
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("token-signing certificate of %q: %w", issuer, err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: v.Serial, NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		Subject:               pkix.Name{CommonName: issuer},
		URIs:                  []*url.URL{u},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, // not an authority: the key signs tokens, no certificates
	}
	return create(random, tmpl, tmpl, key.Public(), key)
}

// create signs tmpl and checks what came out against the signer's key.
func create(random io.Reader, tmpl, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
	if err := checkKey(pub); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(random, tmpl, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("create certificate: %w", err)
	}
	return der, nil
}

// checkKey accepts keys of at least 112 bits of strength (SP 800-131A).
func checkKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("RSA key of %d bits, want 2048 to 4096", n)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errors.New("elliptic curve is not P-256, P-384 or P-521")
		}
	default:
		return fmt.Errorf("key is a %T, want RSA or ECDSA", pub)
	}
	return nil
}
