// Package seal keeps secrets from being shown, and encrypts what is stored.
//
// A [Secret] prints as [secret] whatever one does with it. [Seal] and
// [Envelope.Open] are authenticated encryption bound to what the text is for; an
// opened envelope proves that a holder of the key sealed this text for this
// purpose and name, not when, nor that it is the newest. Start with [Key].
//
// AES-256-GCM is NIST SP 800-38D, HKDF is RFC 5869. The envelope's format is that
// of docs/formats/sealed.md.
package seal

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// ErrSecret is returned by every attempt to marshal a [Secret].
var ErrSecret = errors.New("a secret is not marshalled")

// shown stands for a secret wherever it would be printed.
const shown = "[secret]"

// A Secret holds bytes that must not be shown. The zero Secret is empty, and
// equals nothing. Copies share the bytes: Destroy empties them all. It must not be
// destroyed while others use it.
type Secret struct {
	// Inside another's unexported field fmt may not call our methods, and with a
	// verb that does not fit it shows what one pointer leads to. It stops at two.
	held **held
}

type held struct{ b []byte }

// NewSecret takes ownership of b: the caller must not use it any more.
func NewSecret(b []byte) Secret {
	h := &held{b}
	return Secret{&h}
}

// Random returns a Secret of n bytes from random.
func Random(random io.Reader, n int) (Secret, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(random, b); err != nil {
		return Secret{}, fmt.Errorf("make secret: %w", err)
	}
	return NewSecret(b), nil
}

// Expose returns the bytes themselves, for the one call that needs them.
func (s Secret) Expose() []byte {
	if s.held == nil {
		return nil
	}
	return (*s.held).b
}

// Len is the number of bytes.
func (s Secret) Len() int { return len(s.Expose()) }

// Clone returns a Secret with bytes of its own.
func (s Secret) Clone() Secret { return NewSecret(bytes.Clone(s.Expose())) }

// Equal compares in constant time. An empty or destroyed Secret equals nothing,
// not even another such.
func (s Secret) Equal(other Secret) bool {
	return s.Len() > 0 && subtle.ConstantTimeCompare(s.Expose(), other.Expose()) == 1
}

// Destroy zeroes the bytes, here and in every copy.
func (s Secret) Destroy() {
	if s.held != nil {
		clear((*s.held).b)
		(*s.held).b = nil
	}
}

// Format prints [secret] under every verb, %x and %q among them.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, shown) } //nolint:errcheck // fmt keeps the error

func (s Secret) String() string { return shown }

// GoString is what %#v would call.
func (s Secret) GoString() string { return shown }

// LogValue keeps the bytes out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(shown) }

// MarshalJSON refuses.
func (s Secret) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText refuses; encoding/xml and YAML writers call it too.
func (s Secret) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalBinary refuses; encoding/gob calls it.
func (s Secret) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// MarshalYAML refuses.
func (s Secret) MarshalYAML() (any, error) { return nil, ErrSecret }
