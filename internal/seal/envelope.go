package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/wire"
)

// KeySize is the length in bytes of a key.
const KeySize = 32

// MaxPlaintext bounds what one envelope holds, in bytes.
const MaxPlaintext = 16 << 20

// Limits of the header.
const (
	maxKeyID   = 64
	maxWrapped = 4096
	maxExtra   = 1024
)

// The failures that a caller acts on.
var (
	// ErrFormat is what is no envelope, or not whole.
	ErrFormat = errors.New("not a sealed envelope")
	// ErrVersion is an envelope that only a newer version of this program can read.
	ErrVersion = errors.New("sealed envelope is of a newer version")
	// ErrOpen is a wrong key, another purpose or name, or an altered envelope;
	// which of them cannot be told.
	ErrOpen = errors.New("sealed envelope does not open")
)

// A Key encrypts. Its zero value is refused.
type Key struct {
	// ID tells the holder which of his keys it is; at most 64 bytes.
	ID string
	// Secret has KeySize bytes.
	Secret Secret
	// Wrapped is the key itself as encrypted by somebody else, to be kept with the
	// text; nil when there is none. At most 4096 bytes.
	Wrapped []byte
}

// A Context says what a text is for. An envelope opens only under the context
// that it was sealed in, so none can be put in another's place.
type Context struct {
	Purpose string // "token signing key"
	Name    string // which one
}

// The algorithms.
const algAES256GCM = 1 // AES-256-GCM under a key derived for this envelope alone

// Version is the newest format that this package writes and reads.
const Version = 1

// magic begins every envelope.
const magic = "ASSAYSEL"

// An Envelope is what was parsed, not opened: all of it is a claim.
type Envelope struct {
	header
	head       []byte // the header as it stands: the associated data
	ciphertext []byte
}

// header is what stands before the ciphertext.
type header struct {
	Version, Oldest uint16
	alg             uint8
	keyID, wrapped  []byte
	// extra is for later versions that this one can still read.
	extra []byte
	salt  [16]byte
	nonce [12]byte
}

// Wire lays out the header (docs/formats/sealed.md).
func (h *header) Wire(c *wire.Codec) {
	m := [len(magic)]byte([]byte(magic))
	c.Bytes(m[:])
	c.Check(string(m[:]) == magic, ErrFormat)
	wire.U16(c, &h.Version)
	wire.U16(c, &h.Oldest)
	c.Check(h.Oldest <= Version, ErrVersion)
	c.Check(h.Version >= 1 && h.Oldest >= 1 && h.Oldest <= h.Version, ErrFormat)
	wire.U8(c, &h.alg)
	c.Check(h.alg == algAES256GCM, ErrFormat)
	c.Sized16(&h.keyID, maxKeyID)
	c.Sized16(&h.wrapped, maxWrapped)
	c.Sized16(&h.extra, maxExtra)
	// Version 1 has nothing to say there: one spelling only.
	c.Check(h.Version > 1 || len(h.extra) == 0, ErrFormat)
	c.Bytes(h.salt[:])
	c.Bytes(h.nonce[:])
}

// Parse reads the header of an envelope. The error is [ErrFormat] or [ErrVersion].
// The Envelope aliases sealed.
func Parse(sealed []byte) (*Envelope, error) {
	var e Envelope
	rest, err := wire.DecodePrefix(sealed, &e.header)
	if err != nil {
		if errors.Is(err, ErrVersion) {
			return nil, fmt.Errorf("%w: %d, and readable from %d on", ErrVersion, e.Version, e.Oldest)
		}
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if len(rest) < tagSize || len(rest) > MaxPlaintext+tagSize {
		return nil, fmt.Errorf("%w: ciphertext of %d bytes", ErrFormat, len(rest))
	}
	e.head, e.ciphertext = sealed[:len(sealed)-len(rest)], rest
	return &e, nil
}

// tagSize is what AES-GCM adds to the text.
const tagSize = 16

// KeyID names the key that opens the envelope.
func (e *Envelope) KeyID() string { return string(e.keyID) }

// Wrapped is the wrapped form of that key; empty when there is none.
func (e *Envelope) Wrapped() []byte { return e.wrapped }

// Seal encrypts plaintext under key for c. Each envelope has a key of its own,
// derived with a salt from random, so one key may seal without a count.
func Seal(random io.Reader, key Key, c Context, plaintext []byte) ([]byte, error) {
	if err := key.check(); err != nil {
		return nil, err
	}
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("seal %q: %d bytes, more than %d", c.Name, len(plaintext), MaxPlaintext)
	}
	h := header{Version: Version, Oldest: Version, alg: algAES256GCM, keyID: []byte(key.ID), wrapped: key.Wrapped}
	for _, b := range [][]byte{h.salt[:], h.nonce[:]} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("seal %q: %w", c.Name, err)
		}
	}
	head, err := wire.Encode(&h)
	if err != nil {
		return nil, fmt.Errorf("seal %q: %w", c.Name, err)
	}
	aead, err := h.cipher(key.Secret)
	if err != nil {
		return nil, fmt.Errorf("seal %q: %w", c.Name, err)
	}
	out := make([]byte, len(head), len(head)+len(plaintext)+tagSize)
	copy(out, head)
	return aead.Seal(out, h.nonce[:], plaintext, c.bind(head)), nil
}

// Open decrypts. The error is [ErrOpen] for a wrong key, context or content.
func (e *Envelope) Open(key Key, c Context) (Secret, error) {
	if err := key.check(); err != nil {
		return Secret{}, err
	}
	if e == nil || e.head == nil {
		return Secret{}, ErrFormat
	}
	aead, err := e.cipher(key.Secret)
	if err != nil {
		return Secret{}, err
	}
	plaintext, err := aead.Open(nil, e.nonce[:], e.ciphertext, c.bind(e.head))
	if err != nil {
		return Secret{}, fmt.Errorf("%q for %q: %w", c.Name, c.Purpose, ErrOpen)
	}
	return NewSecret(plaintext), nil
}

func (k Key) check() error {
	if k.Secret.Len() != KeySize {
		return fmt.Errorf("key %q has %d bytes, want %d", k.ID, k.Secret.Len(), KeySize)
	}
	if len(k.ID) > maxKeyID || len(k.Wrapped) > maxWrapped {
		return fmt.Errorf("key %q: its name or wrapped form is too long", k.ID)
	}
	return nil
}

// cipher derives the key of this envelope alone (RFC 5869) and sets up AES-256-GCM.
func (h *header) cipher(key Secret) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key.Expose(), h.salt[:], "assay sealed envelope, version 1", KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bind returns the associated data: the header, and the context with a length
// before each text, so that no two contexts give the same bytes.
func (c Context) bind(head []byte) []byte {
	out := make([]byte, 0, len(head)+len(c.Purpose)+len(c.Name)+24)
	for _, part := range []string{string(head), c.Purpose, c.Name} {
		out = binary.BigEndian.AppendUint64(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}
