// Package keyprovider holds the key-encryption keys: it wraps the keys that
// encrypt what the service stores, and unwraps them again.
//
// [Local] keeps its keys in a file. That protects a copied database, a backup, or
// a stolen disk that does not hold the file as well; it does not protect against
// who can read both, such as root on the machine or whoever takes the whole disk.
// A passphrase on the file protects it at rest, a systemd credential against being
// on the disk in the clear. Start with [Seal] and [ReadFile].
package keyprovider

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/internal/seal"
)

// ErrUnknownKey is returned, wrapped, for what was wrapped under a key that the
// provider does not hold.
var ErrUnknownKey = errors.New("key-encryption key is not held")

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
	wrapped, err := seal.Parse(e.Wrapped())
	if err != nil {
		return "", fmt.Errorf("wrapped key: %w", err)
	}
	return wrapped.KeyID(), nil
}
