package keyprovider

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/assay-project/assay/internal/seal"
)

// A crypter encrypts outside of this process: under a key that is not here.
type crypter interface {
	// encrypt encrypts 32 bytes for a context, of which it gets a digest, and names
	// the key that it used.
	encrypt(ctx context.Context, binding []byte, key []byte) (keyID string, ciphertext []byte, err error)
	// decrypt is the inverse, under the key of that name.
	decrypt(ctx context.Context, binding []byte, keyID string, ciphertext []byte) ([]byte, error)
}

// maxOutside bounds what a provider outside may make of 32 bytes: together with our
// header it fits the wrapped key of an envelope.
const maxOutside = 3584

// A remote is a provider whose key is elsewhere. What it wraps is an envelope under a
// key of its own, which is encrypted outside and stands in the envelope. So the data
// key itself never leaves this process, the context holds whatever the other side
// can do, and an answer that is not right does not open the envelope.
type remote struct {
	kind   string
	random io.Reader
	crypter
}

// Wrap encrypts a data key. It has the other side decrypt its answer before it
// counts: a data key that nobody can unwrap would be lost.
func (r *remote) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	if key.Len() != seal.KeySize {
		return nil, fmt.Errorf("data key has %d bytes, want %d", key.Len(), seal.KeySize)
	}
	inner, err := seal.Random(r.random, seal.KeySize)
	if err != nil {
		return nil, err
	}
	defer inner.Destroy()
	id, ciphertext, err := r.encrypt(ctx, binding(c), inner.Expose())
	if err != nil {
		return nil, err
	}
	if len(ciphertext) == 0 || len(ciphertext) > maxOutside {
		return nil, fmt.Errorf("%w: ciphertext of %d bytes", ErrGarbage, len(ciphertext))
	}
	again, err := r.inner(ctx, c, id, ciphertext)
	if err != nil {
		return nil, fmt.Errorf("decrypt what was just encrypted: %w", err)
	}
	defer again.Destroy()
	if !again.Equal(inner) {
		return nil, fmt.Errorf("%w: what it encrypted decrypts to another key", ErrGarbage)
	}
	return seal.Seal(r.random, seal.Key{ID: id, Secret: inner, Wrapped: ciphertext}, wrapContext(c), key.Expose())
}

// Unwrap decrypts a data key. The error is seal.ErrOpen when the answer does not fit:
// the wrapped key was altered, is of another context, or the answer is of another key.
func (r *remote) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	e, err := seal.Parse(wrapped)
	if err != nil {
		return seal.Secret{}, err
	}
	if !strings.HasPrefix(e.KeyID(), r.kind+":") {
		return seal.Secret{}, fmt.Errorf("%w: %q is not of a provider of kind %s", ErrUnknownKey, e.KeyID(), r.kind)
	}
	if len(e.Wrapped()) == 0 {
		return seal.Secret{}, fmt.Errorf("wrapped key without its key: %w", seal.ErrFormat)
	}
	inner, err := r.inner(ctx, c, e.KeyID(), e.Wrapped())
	if err != nil {
		return seal.Secret{}, err
	}
	defer inner.Destroy()
	key, err := e.Open(seal.Key{Secret: inner}, wrapContext(c))
	if err == nil && key.Len() != seal.KeySize {
		key.Destroy()
		return seal.Secret{}, seal.ErrFormat
	}
	return key, err
}

// inner has the other side decrypt.
func (r *remote) inner(ctx context.Context, c seal.Context, id string, ciphertext []byte) (seal.Secret, error) {
	b, err := r.decrypt(ctx, binding(c), id, ciphertext)
	if err != nil {
		clear(b)
		return seal.Secret{}, err
	}
	if len(b) != seal.KeySize {
		clear(b)
		return seal.Secret{}, fmt.Errorf("%w: a key of %d bytes, want %d", ErrGarbage, len(b), seal.KeySize)
	}
	return seal.NewSecret(b), nil
}

// binding is what the other side gets to see of a context: a digest, because names of
// machines are nobody's business.
func binding(c seal.Context) []byte {
	h := sha256.New()
	for _, part := range []string{"assay data key, version 1", c.Purpose, c.Name} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// maxKeyID bounds the name of a key in an envelope (docs/formats/sealed.md).
const maxKeyID = 64

// keyID names a key outside: its kind and what tells it from others of the kind. A
// name that is too long ends with a digest of the whole.
func keyID(kind string, parts ...string) string {
	id := kind + ":" + strings.Join(parts, ":")
	if len(id) <= maxKeyID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return id[:maxKeyID-33] + "~" + hex.EncodeToString(sum[:16])
}
