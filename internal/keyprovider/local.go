package keyprovider

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/internal/seal"
)

// Local is a [Provider] whose keys are in this process's memory.
type Local struct {
	random io.Reader
	keys   []seal.Key // newest first
}

// NewLocal makes a provider that wraps under the first key and unwraps under all.
// random must be safe for concurrent use.
func NewLocal(random io.Reader, keys ...seal.Key) (*Local, error) {
	if random == nil || len(keys) == 0 {
		return nil, errors.New("local key provider without a random source or a key")
	}
	seen := map[string]bool{}
	for _, k := range keys {
		switch {
		case k.ID == "" || seen[k.ID]:
			return nil, fmt.Errorf("key-encryption key %q has no name or one that is taken", k.ID)
		case k.Secret.Len() != seal.KeySize:
			return nil, fmt.Errorf("key-encryption key %q has %d bytes, want %d", k.ID, k.Secret.Len(), seal.KeySize)
		}
		seen[k.ID] = true
	}
	return &Local{random: random, keys: append([]seal.Key(nil), keys...)}, nil
}

// NewKey makes a key-encryption key with a name of its own.
func NewKey(random io.Reader) (seal.Key, error) {
	id := make([]byte, 8)
	if _, err := io.ReadFull(random, id); err != nil {
		return seal.Key{}, fmt.Errorf("name key: %w", err)
	}
	secret, err := seal.Random(random, seal.KeySize)
	if err != nil {
		return seal.Key{}, err
	}
	return seal.Key{ID: hex.EncodeToString(id), Secret: secret}, nil
}

// KeyIDs are the names of the keys, newest first: the one that wraps.
func (l *Local) KeyIDs() []string {
	ids := make([]string, len(l.keys))
	for i, k := range l.keys {
		ids[i] = k.ID
	}
	return ids
}

// wrapPurpose keeps wrapped keys apart from texts that a key sealed itself.
const wrapPurpose = "data key: "

func wrapContext(c seal.Context) seal.Context {
	return seal.Context{Purpose: wrapPurpose + c.Purpose, Name: c.Name}
}

// Wrap encrypts under the newest key.
func (l *Local) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if key.Len() != seal.KeySize {
		return nil, fmt.Errorf("data key has %d bytes, want %d", key.Len(), seal.KeySize)
	}
	return seal.Seal(l.random, l.keys[0], wrapContext(c), key.Expose())
}

// Unwrap decrypts under the key that the wrapped form names. The error is
// [ErrUnknownKey] when that key is not held, seal.ErrOpen when it does not fit.
func (l *Local) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	if err := ctx.Err(); err != nil {
		return seal.Secret{}, err
	}
	e, err := seal.Parse(wrapped)
	if err != nil {
		return seal.Secret{}, err
	}
	for _, k := range l.keys {
		if k.ID != e.KeyID() {
			continue
		}
		key, err := e.Open(k, wrapContext(c))
		if err == nil && key.Len() != seal.KeySize {
			key.Destroy()
			return seal.Secret{}, seal.ErrFormat
		}
		return key, err
	}
	return seal.Secret{}, fmt.Errorf("%w: %q", ErrUnknownKey, e.KeyID())
}

// Close destroys the keys. The provider is of no use afterwards.
func (l *Local) Close() error {
	for _, k := range l.keys {
		k.Secret.Destroy()
	}
	return nil
}
