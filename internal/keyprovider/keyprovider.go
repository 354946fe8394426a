// Package keyprovider holds the key-encryption keys, or asks who holds them: it
// wraps the keys that encrypt what is stored, and unwraps them again.
//
// [OpenSpec] opens a provider of any kind: keys in a file ([Local]), which may be
// sealed to this machine's TPM, Vault or OpenBao, a KMIP server, or a PKCS #11
// token. Each protects a copied database, a backup or a stolen disk that does not
// hold its keys as well; none protects against who may use it, such as root on the
// running machine: docs/key-providers.md says of each kind against whom it helps.
// That a data key unwraps proves that the provider wrapped it for this context,
// not when, nor that it is the newest. Start with [OpenSpec] and [Seal]. [Set] is
// the list of providers that an operator has given names.
package keyprovider

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/internal/seal"
)

// The failures that a caller acts on. What does not open although its key is held
// is seal.ErrOpen or seal.ErrFormat, as with every sealed text.
var (
	// ErrUnknownKey is returned, wrapped, for what was wrapped under a key that the
	// provider does not hold: another provider's, or one that was destroyed.
	ErrUnknownKey = errors.New("key-encryption key is not held")
	// ErrUnavailable is a provider that cannot be reached, is not ready or does not
	// answer in time. Asking again later helps.
	ErrUnavailable = errors.New("key provider is not available")
	// ErrRefused is a provider that does not let this caller use the key: the
	// credential is missing, wrong, expired or not entitled. Asking again does not help.
	ErrRefused = errors.New("key provider refuses the credential")
	// ErrGarbage is an answer that the provider's protocol does not allow.
	ErrGarbage = errors.New("key provider answers garbage")
)

// A Provider wraps data keys. What it wraps for one context it unwraps for that
// context only. It is safe for concurrent use.
type Provider interface {
	// Wrap encrypts a data key of seal.KeySize bytes.
	Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error)
	// Unwrap is the inverse. The caller destroys the result.
	Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error)
}

// Seal encrypts plaintext under a new data key and keeps that key, wrapped by p,
// in the envelope (docs/formats/sealed.md).
func Seal(ctx context.Context, p Provider, random io.Reader, c seal.Context, plaintext []byte) ([]byte, error) {
	key, err := seal.Random(random, seal.KeySize)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	wrapped, err := p.Wrap(ctx, c, key)
	if err != nil {
		return nil, fmt.Errorf("wrap key of %q: %w", c.Name, err)
	}
	return seal.Seal(random, seal.Key{Secret: key, Wrapped: wrapped}, c, plaintext)
}

// Open decrypts what [Seal] made for the same context.
func Open(ctx context.Context, p Provider, c seal.Context, sealed []byte) (seal.Secret, error) {
	e, err := seal.Parse(sealed)
	if err != nil {
		return seal.Secret{}, err
	}
	if len(e.Wrapped()) == 0 {
		return seal.Secret{}, fmt.Errorf("%q: envelope has no wrapped key: %w", c.Name, seal.ErrFormat)
	}
	key, err := p.Unwrap(ctx, c, e.Wrapped())
	if err != nil {
		return seal.Secret{}, fmt.Errorf("unwrap key of %q: %w", c.Name, err)
	}
	defer key.Destroy()
	return e.Open(seal.Key{Secret: key}, c)
}

// WrappedUnder returns the name of the key-encryption key that an envelope of
// [Seal] says it needs. Only opening it proves that.
func WrappedUnder(sealed []byte) (id string, err error) {
	e, err := seal.Parse(sealed)
	if err != nil {
		return "", err
	}
	return KeyIDOf(e.Wrapped())
}

// KeyIDOf returns the name of the key-encryption key that a wrapped key says it
// needs. Only unwrapping it proves that.
func KeyIDOf(wrapped []byte) (id string, err error) {
	e, err := seal.Parse(wrapped)
	if err != nil {
		return "", fmt.Errorf("wrapped key: %w", err)
	}
	return e.KeyID(), nil
}
