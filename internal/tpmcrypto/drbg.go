package tpmcrypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

const (
	// seedSize is seedlen of CTR_DRBG with AES-256 (SP 800-90A, table 3).
	seedSize = 32 + BlockSize
	// maxRequest is the most that one request may ask for: 2^19 bits (table 3).
	maxRequest = 1 << 16
	// reseedInterval is the most requests between two seeds (table 3).
	reseedInterval = 1 << 48
)

// A DRBG is CTR_DRBG of SP 800-90A, 10.2.1, with AES-256 and no derivation
// function: the random bit generator of one TPM. As an [io.Reader] it never fails
// but when its entropy source does. It is not safe for concurrent use.
//
// Two DRBGs with one state give the same bytes: after a snapshot was restored,
// call Reseed before anything is made from it.
type DRBG struct {
	key     [32]byte
	v       [BlockSize]byte
	counter uint64 // requests since the seed, from 1
	entropy io.Reader

	// Scratch of one request, clear between two: a cipher takes memory of the heap.
	out  [seedSize]byte
	next [BlockSize]byte
}

// NewDRBG seeds a generator with 48 bytes of entropy, which must have full
// entropy (SP 800-90A, 10.2.1.3.1), and a personalisation string that sets it
// apart from others; one longer than 48 bytes counts by its SHA-384.
func NewDRBG(entropy io.Reader, personalization []byte) (*DRBG, error) {
	d := &DRBG{entropy: entropy}
	return d, d.seed(personalization)
}

// Reseed takes 48 new bytes of entropy and additional input, as TPM2_StirRandom does.
func (d *DRBG) Reseed(additional []byte) error { return d.seed(additional) }

// seed is CTR_DRBG_Instantiate on a new DRBG and CTR_DRBG_Reseed on any other
// (10.2.1.3.1, 10.2.1.4.1): they differ in the state they find.
func (d *DRBG) seed(additional []byte) error {
	var material [seedSize]byte
	if _, err := io.ReadFull(d.entropy, material[:]); err != nil {
		return fmt.Errorf("read entropy: %w", err)
	}
	extra := condense(additional)
	subtle.XORBytes(material[:], material[:], extra[:])
	d.update(d.block(), &material)
	d.counter = 1
	return nil
}

// condense brings an input to the size of a seed: shorter ones get zeros behind
// them, longer ones are hashed, which is for the application to do (9.1, 8.7.1).
func condense(b []byte) (out [seedSize]byte) {
	if len(b) > seedSize {
		return sha512.Sum384(b)
	}
	copy(out[:], b)
	return out
}

// block is the cipher under the present key.
func (d *DRBG) block() cipher.Block {
	block, err := aes.NewCipher(d.key[:])
	if err != nil {
		panic("unreachable: AES refuses a key of 32 bytes")
	}
	return block
}

// update is CTR_DRBG_Update (10.2.1.2); block is the cipher under the present key.
func (d *DRBG) update(block cipher.Block, data *[seedSize]byte) {
	out := d.out[:]
	for i := 0; i < seedSize; i += BlockSize {
		increment(&d.v)
		block.Encrypt(out[i:], d.v[:])
	}
	subtle.XORBytes(out, out, data[:])
	copy(d.key[:], out)
	copy(d.v[:], out[len(d.key):])
	clear(out)
}

// increment adds one to a big-endian block.
func increment(v *[BlockSize]byte) {
	low := binary.BigEndian.Uint64(v[8:]) + 1
	binary.BigEndian.PutUint64(v[8:], low)
	if low == 0 {
		binary.BigEndian.PutUint64(v[:], binary.BigEndian.Uint64(v[:])+1)
	}
}

// Read fills p; it is Generate without additional input.
func (d *DRBG) Read(p []byte) (int, error) {
	if err := d.Generate(p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Fresh says for [Fresh] that nothing depends on which random bytes these are.
func (d *DRBG) Fresh() bool { return true }

// Mark is for the function [Mark]. It is not ok when a new seed is near: entropy that
// was taken does not come again.
func (d *DRBG) Mark() (back func(), ok bool) {
	key, v, counter := d.key, d.v, d.counter
	return func() { d.key, d.v, d.counter = key, v, counter }, counter-1 < reseedInterval-1<<20
}

// Generate fills p with CTR_DRBG_Generate (10.2.1.5.1), in requests of 64 KiB.
// It fails only when a new seed is due and cannot be had.
func (d *DRBG) Generate(p, additional []byte) error {
	for first := true; first || len(p) > 0; first = false {
		if d.counter > reseedInterval || d.counter == 0 {
			if err := d.Reseed(nil); err != nil {
				return err
			}
		}
		n := min(len(p), maxRequest)
		d.generate(p[:n], additional)
		p = p[n:]
	}
	return nil
}

func (d *DRBG) generate(p, additional []byte) {
	extra := condense(additional)
	if len(additional) > 0 {
		d.update(d.block(), &extra)
	}
	block := d.block()
	for len(p) > 0 {
		increment(&d.v)
		block.Encrypt(d.next[:], d.v[:])
		p = p[copy(p, d.next[:]):]
	}
	clear(d.next[:])
	d.update(block, &extra)
	d.counter++
}

// Wire lays out the working state, 56 bytes of it, for snapshots. It is secret.
// Decoding keeps the entropy source.
func (d *DRBG) Wire(c *wire.Codec) {
	c.Bytes(d.key[:])
	c.Bytes(d.v[:])
	wire.U64(c, &d.counter)
	c.Check(d.counter != 0 && d.counter <= reseedInterval+1, wire.ErrRange)
}

// RestoreDRBG continues from a state that Wire wrote. Call Reseed on it when the
// same state may have been continued before.
func RestoreDRBG(entropy io.Reader, state []byte) (*DRBG, error) {
	d := &DRBG{entropy: entropy}
	if err := wire.Decode(state, d); err != nil {
		return nil, fmt.Errorf("decode DRBG: %w", err)
	}
	return d, nil
}

// Seeded returns the endless stream of bytes from which a primary key is made
// (Part 1, 14.3, 14.4; Part 3, 24.1). The seed is that of the hierarchy, the label
// and the contexts are whatever sets this key apart: all of the template. The
// stream, and all that is made from it, is a promise for ever: equal arguments
// give equal bytes in every version of this project.
//
// The 48 bytes of KDFa(h, seed, label, contextU, contextV) are the entropy input of
// a [DRBG] without personalisation, of which each request takes 1024 bytes. It is
// never reseeded. How the stream is cut into reads changes nothing.
// The refusal is TPM_RC_HASH.
func Seeded(h tpm2.Alg, seed []byte, label string, contextU, contextV []byte) (io.Reader, error) {
	material, err := tpm2.KDFa(h, seed, label, contextU, contextV, 8*seedSize)
	if err != nil {
		return nil, refuse(tpm2.RCHash, "derive the seed of %q: %v", label, err)
	}
	s := new(seeded)
	s.drbg.update(s.drbg.block(), (*[seedSize]byte)(material))
	return s, nil
}

// seeded is a DRBG of fixed seed, cut into requests of one size.
type seeded struct {
	drbg DRBG
	buf  [1024]byte
	rest []byte // of buf, not yet read
}

func (s *seeded) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if len(s.rest) == 0 {
			s.drbg.generate(s.buf[:], nil)
			s.rest = s.buf[:]
		}
		k := copy(p[n:], s.rest)
		clear(s.rest[:k])
		s.rest = s.rest[k:]
		n += k
	}
	return len(p), nil
}

// Mark is for the function [Mark].
func (s *seeded) Mark() (back func(), ok bool) {
	key, v, counter := s.drbg.key, s.drbg.v, s.drbg.counter
	rest := bytes.Clone(s.rest)
	return func() {
		s.drbg.key, s.drbg.v, s.drbg.counter = key, v, counter
		s.rest = s.buf[len(s.buf)-len(rest):]
		copy(s.rest, rest)
	}, true
}

// Mark returns a function that brings r back to where it is now, so that it gives the
// same bytes again. A reader that can do that says so by a method Mark() (func(), bool);
// of any other, ok is false. Both the mark and what it leads back to are secret if r is.
func Mark(r io.Reader) (back func(), ok bool) {
	m, ok := r.(interface{ Mark() (func(), bool) })
	if !ok {
		return nil, false
	}
	return m.Mark()
}
