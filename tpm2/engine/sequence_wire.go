package engine

import (
	"encoding"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// maxHashState bounds the state of a running hash: SHA-3 in crypto/sha3 has 207 bytes.
const maxHashState = 256

// Wire lays out a sequence in progress.
func (s *sequence) Wire(c *wire.Codec) {
	c.Sized16(&s.auth, tpm2.MaxDigest)
	wire.List32(c, &s.sums, tpm2.MaxPCRSelections)
	s.wireRest(c)
	c.Check(s.complete(), wire.ErrRange)
}

// Wire lays out a running hash: its algorithm, and its state as Go's hash writes it.
func (b *bankHash) Wire(c *wire.Codec) {
	wire.U16(c, &b.alg)
	if c.Err() != nil {
		return
	}
	if c.Decoding() {
		b.decode(c)
		return
	}
	m, ok := b.sum.(encoding.BinaryMarshaler)
	c.Check(ok, wire.ErrSelector)
	if c.Err() != nil {
		return
	}
	state, err := m.MarshalBinary()
	if err != nil {
		c.Fail(err)
		return
	}
	c.Sized16(&state, maxHashState)
}

func (b *bankHash) decode(c *wire.Codec) {
	var state []byte
	c.Sized16(&state, maxHashState)
	h, ok := b.alg.Hash()
	c.Check(ok, wire.ErrSelector)
	if c.Err() != nil {
		return
	}
	b.sum = h.New()
	m, ok := b.sum.(encoding.BinaryUnmarshaler)
	c.Check(ok, wire.ErrSelector)
	// SHA-3 keeps in its last byte whether it was read from; writing to such a one
	// would panic, and a running hash here never was.
	if sha3(b.alg) && len(state) > 0 {
		c.Check(state[len(state)-1] == 0, wire.ErrRange)
	}
	if c.Err() != nil {
		return
	}
	if m.UnmarshalBinary(state) != nil {
		c.Fail(wire.ErrRange)
	}
}

// sha3 reports whether the algorithm is of the SHA-3 family.
func sha3(a tpm2.Alg) bool {
	return a == tpm2.AlgSHA3x256 || a == tpm2.AlgSHA3x384 || a == tpm2.AlgSHA3x512
}
