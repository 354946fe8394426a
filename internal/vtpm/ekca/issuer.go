package ekca

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/tpm2"
)

// An Issuer certifies the keys of new TPMs. [Authority], [External] and [None] are
// issuers. It is safe for concurrent use.
type Issuer interface {
	// Issue certifies a batch, all of it or nothing. The caller checks that
	// certificates and keys belong together.
	Issue(ctx context.Context, b *Batch) (*Certificates, error)
}

// A Batch is the keys of one TPM. They are certified together because the
// certificates of its device keys and of its platform name that of its first
// endorsement key.
type Batch struct {
	TPM        string // UUID
	CommonName string
	Device     Device
	Keys       []BatchKey // endorsement keys first
	Platform   *Platform  // nil for no platform certificate
}

// A BatchKey is one key to be certified.
type BatchKey struct {
	Kind   Kind
	Public tpm2.Public
}

// Certificates are what a batch was given.
type Certificates struct {
	Keys     [][]byte // DER, by the keys of the batch; nil for one that has none
	Platform []byte   // DER of an attribute certificate; may be nil
	Chain    [][]byte // DER, from the issuer of the keys upwards, without the root
}

// None issues nothing: the TPM has keys, and its owner asks an authority himself
// ([NewRequest]).
type None struct{}

// Issue returns no certificates.
func (None) Issue(_ context.Context, b *Batch) (*Certificates, error) {
	return &Certificates{Keys: make([][]byte, len(b.Keys))}, nil
}

// Why a certificate is not one for a key; errors wrap one of them.
var (
	// ErrOtherKey is a certificate of another key.
	ErrOtherKey = errors.New("certificate is for another key")
	// ErrUsage is a certificate that does not say what its key is for, or says
	// something else, as one of an authority does.
	ErrUsage = errors.New("certificate is not for this kind of key")
	// ErrExpired is a certificate that is not valid now.
	ErrExpired = errors.New("certificate is not valid at this time")
	// ErrChain is a certificate that does not follow from those that come with it.
	ErrChain = errors.New("certificate does not follow from its chain")
)

// matches holds that cert is for the key and for what keys of its kind do.
func matches(cert *x509.Certificate, k Kind, p *tpm2.Public) error {
	key, err := p.Key()
	if err != nil {
		return err
	}
	if !sameKey(key, cert.PublicKey) {
		return ErrOtherKey
	}
	return checkUsage(cert, k)
}

// sameKey compares public keys.
func sameKey(a, b any) bool {
	switch a := a.(type) {
	case *rsa.PublicKey:
		b, ok := b.(*rsa.PublicKey)
		return ok && a.Equal(b)
	case *ecdsa.PublicKey:
		b, ok := b.(*ecdsa.PublicKey)
		return ok && a.Equal(b)
	}
	return false
}

// checkUsage holds that the certificate is one for keys of its kind (EK Credential
// Profile, 3.2.14 to 3.2.16; Device Identity, 8.1).
func checkUsage(cert *x509.Certificate, k Kind) error {
	if cert.IsCA {
		return fmt.Errorf("it is one of an authority: %w", ErrUsage)
	}
	want := usageOf(k, cert.PublicKey)
	if cert.KeyUsage&want == 0 {
		return fmt.Errorf("its key usage lacks %s: %w", usageName(want), ErrUsage)
	}
	if k.Endorsement() && !slices.ContainsFunc(cert.UnknownExtKeyUsage, oidEKUsage.Equal) {
		return fmt.Errorf("its extended key usage lacks %v (tcg-kp-EKCertificate): %w", oidEKUsage, ErrUsage)
	}
	return nil
}

// usageOf is the key usage of a kind: an endorsement key is encrypted to, by RSA,
// or agreed with, by ECC.
func usageOf(k Kind, key any) x509.KeyUsage {
	if !k.Endorsement() {
		return x509.KeyUsageDigitalSignature
	}
	if _, ok := key.(*rsa.PublicKey); ok {
		return x509.KeyUsageKeyEncipherment
	}
	return x509.KeyUsageKeyAgreement
}

func usageName(u x509.KeyUsage) string {
	switch u {
	case x509.KeyUsageKeyEncipherment:
		return "keyEncipherment"
	case x509.KeyUsageKeyAgreement:
		return "keyAgreement"
	}
	return "digitalSignature"
}
