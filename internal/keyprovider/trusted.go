package keyprovider

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/seal"
)

// A Releaser gives keys to this host when the host has proved how it booted, and to
// nobody else. Host attestation will make one; nothing else may.
type Releaser interface {
	// Wrap has the service that url names encrypt a data key.
	Wrap(ctx context.Context, url string, c seal.Context, key seal.Secret) ([]byte, error)
	// Unwrap has it decrypt one, which it does only for an attested host.
	Unwrap(ctx context.Context, url string, c seal.Context, wrapped []byte) (seal.Secret, error)
	// KeyID names the key that wraps.
	KeyID(ctx context.Context, url string) (string, error)
}

// ErrNotAttested is returned, wrapped, when a provider of kind trusted is asked by a
// host that is not attested.
var ErrNotAttested = errors.New("this host is not attested, and the provider gives keys to attested hosts only")

// A trusted provider asks a [Releaser].
type trusted struct {
	spec     Spec
	url      string
	releaser Releaser
}

func openTrusted(s Spec, env *Env) (holder, error) {
	o := s.options()
	if err := o.done(); err != nil {
		return nil, err
	}
	if _, err := serviceURL(s.place); err != nil {
		return nil, err
	}
	if env.Releaser == nil {
		return nil, fmt.Errorf("%w: %w (this version of assay does not attest hosts yet)", ErrRefused, ErrNotAttested)
	}
	return &trusted{s, s.place, env.Releaser}, nil
}

func (t *trusted) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	return t.releaser.Wrap(ctx, t.url, c, key)
}

func (t *trusted) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	return t.releaser.Unwrap(ctx, t.url, c, wrapped)
}

func (t *trusted) current(ctx context.Context) (string, error) { return t.releaser.KeyID(ctx, t.url) }

func (t *trusted) rotate(context.Context) (Spec, error) {
	return Spec{}, errors.New("the keys of a trusted provider are rotated where they are kept")
}

func (t *trusted) Close() error { return nil }
