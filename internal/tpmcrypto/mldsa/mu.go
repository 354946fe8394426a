package mldsa

import (
	"crypto"
	"crypto/sha3"
)

// MaxContext is the longest context in bytes (5.2).
const MaxContext = 255

// A Mu is the message representative of a message that comes in parts (5.2, step 10
// and 6.2, step 6).
type Mu struct{ shake *sha3.SHAKE }

// newMu starts one by what is in front of a message: the hash of the public key, the
// form, and the context.
func newMu(form byte, public, context []byte) (*Mu, error) {
	if len(context) > MaxContext {
		return nil, ErrSize
	}
	m := &Mu{sha3.NewSHAKE256()}
	m.Write(sha3.SumSHAKE256(public, 64)) // tr
	m.Write([]byte{form, byte(len(context))})
	m.Write(context)
	return m, nil
}

// NewMu starts one for a public key and a context. The refusal is [ErrSize], for a
// context.
func NewMu(public, context []byte) (*Mu, error) { return newMu(0, public, context) }

// Write adds a part of the message; it never fails.
func (m *Mu) Write(p []byte) (int, error) { return m.shake.Write(p) }

// Sum returns the representative of the message that ends with last. What was written
// stays as it is.
func (m *Mu) Sum(last []byte) []byte {
	end := *m.shake
	end.Write(last)
	mu := make([]byte, MuSize)
	end.Read(mu)
	return mu
}

// StateSize is the size in bytes of what State returns.
const StateSize = 207

// State returns a representative in progress, for [Restore].
func (m *Mu) State() []byte {
	b, err := m.shake.MarshalBinary()
	if err != nil {
		panic(err) // crypto/sha3 has no error to return
	}
	return b
}

// Restore continues from what State returned; the refusal is [ErrState].
func Restore(state []byte) (*Mu, error) {
	m := &Mu{sha3.NewSHAKE256()}
	// crypto/sha3 takes more bytes, for cSHAKE, and keeps in the last whether the
	// state was read from; writing to one that was would panic.
	if len(state) != StateSize || state[len(state)-1] != 0 || m.shake.UnmarshalBinary(state) != nil {
		return nil, ErrState
	}
	return m, nil
}

// HashMu returns the message representative of a message of which the caller has the
// digest, for HashML-DSA (5.4). Refusals: [ErrHash], and [ErrSize] for the digest and
// the context.
func HashMu(public, context []byte, h crypto.Hash, digest []byte) ([]byte, error) {
	arc := arcs(h)
	if arc == 0 {
		return nil, ErrHash
	}
	if len(digest) != h.Size() {
		return nil, ErrSize
	}
	m, err := newMu(1, public, context)
	if err != nil {
		return nil, err
	}
	// 5.4.1, step 10: an object identifier below 2.16.840.1.101.3.4.2.
	m.Write([]byte{0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc})
	return m.Sum(digest), nil
}

// Hashes reports whether there is HashML-DSA by a hash: not by SHA-1, which signs
// nothing new. Who makes a key chooses whether its hash is as strong as its parameter
// set, which 5.4 needs for the strength of the set.
func Hashes(h crypto.Hash) bool { return arcs(h) != 0 }

// arcs has the last arc of each hash's object identifier at NIST.
func arcs(h crypto.Hash) byte {
	switch h {
	case crypto.SHA256:
		return 1
	case crypto.SHA384:
		return 2
	case crypto.SHA512:
		return 3
	case crypto.SHA3_256:
		return 8
	case crypto.SHA3_384:
		return 9
	case crypto.SHA3_512:
		return 10
	}
	return 0
}
