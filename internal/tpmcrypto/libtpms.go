package tpmcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// A SeedLevel says how libtpms makes RSA primes from a seed: by the age of the
// seed, so that keys of old states stay what they were.
type SeedLevel uint8

const (
	// SeedOriginal is that of seeds made before libtpms 0.7.
	SeedOriginal SeedLevel = iota
	// SeedPrimeFix is that of later ones.
	SeedPrimeFix
)

// A LibtpmsStream is the randomness from which libtpms makes a primary key. Each
// Read is one request to its generator, so that not only the bytes but also how
// they are asked for decides what comes: callers read what they need at once.
//
// It serves TPMs whose seeds came from swtpm and nothing else; [Seeded] is what
// TPMs of this project use. Its derivation function is that of SP 800-90A, 10.3.2,
// with the departures of the TCG's reference code, which are marked.
type LibtpmsStream struct {
	drbg  DRBG
	level SeedLevel
}

// Libtpms returns the stream of a primary key: from the seed of its hierarchy, the
// Name of its template, and the data of its TPM2_CreatePrimary.
func Libtpms(level SeedLevel, seed, name, data []byte) *LibtpmsStream {
	s := &LibtpmsStream{level: level}
	// The reference counts the zero behind its string.
	s.mix(seed, []byte("Primary Object Creation\x00"), name, data)
	return s
}

// Read makes p of one request. It never fails.
func (s *LibtpmsStream) Read(p []byte) (int, error) {
	s.drbg.generate(p, nil)
	return len(p), nil
}

// Mix adds a proof, as the reference does before it makes the seed value of a key
// of the endorsement hierarchy.
func (s *LibtpmsStream) Mix(proof []byte) {
	if len(proof) > 0 {
		s.mix(proof)
	}
}

func (s *LibtpmsStream) mix(parts ...[]byte) {
	seed := referenceDF(parts...)
	s.drbg.update(s.drbg.block(), &seed)
	s.drbg.counter = 1
}

// GenerateRSA makes the key that libtpms makes from the same stream. It is read by
// way of r, which passes each request on to s and may end the search with an error.
// The refusals are those of the function [GenerateRSA].
func (s *LibtpmsStream) GenerateRSA(r io.Reader, bits int, exponent uint32) (*RSAKey, error) {
	e, err := rsaExponent(exponent)
	if err != nil {
		return nil, err
	}
	if !rsaBits(bits) {
		return nil, refuse(tpm2.RCValue, "RSA key of %d bits", bits)
	}
	return generateRSA(e, func() ([]byte, error) { return libtpmsSearch{r, s.level}.prime(bits/16, e) })
}

// referenceDF is the derivation function: 48 bytes from all parts.
func referenceDF(parts ...[]byte) [seedSize]byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	d := newReferenceDF(uint32(size))
	for _, p := range parts {
		d.write(p)
	}
	d.write([]byte{0x80})
	if d.filled > 0 {
		d.compute()
	}
	var out [seedSize]byte
	for i := range d.chain {
		copy(out[i*BlockSize:], d.chain[i][:])
	}
	return out
}

// dfState is three chains of CBC-MACs over one input (BCC, 10.3.3), side by side.
type dfState struct {
	block  cipher.Block
	chain  [seedSize / BlockSize][BlockSize]byte
	buf    [BlockSize]byte
	filled int
}

func newReferenceDF(size uint32) *dfState {
	var key [32]byte
	for i := range key {
		key[i] = byte(i) // 10.3.2, step 8
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("unreachable: AES refuses a key of 32 bytes")
	}
	d := &dfState{block: block}
	for i := range d.chain {
		d.chain[i][3] = byte(i)
	}
	d.compute()
	// The lengths of the input and of the output belong in front of the input. The
	// reference puts them over the first chain instead, and has the input begin
	// behind four zeros.
	binary.BigEndian.PutUint32(d.chain[0][0:], size)
	binary.BigEndian.PutUint32(d.chain[0][4:], seedSize)
	d.filled = 4
	return d
}

func (d *dfState) write(b []byte) {
	for len(b) > 0 {
		n := copy(d.buf[d.filled:], b)
		d.filled, b = d.filled+n, b[n:]
		if d.filled == BlockSize {
			d.compute()
		}
	}
}

// compute takes the block in buf into each chain. What goes into the cipher is not
// begun anew for each chain, as it ought to be: that of one stays in the next.
func (d *dfState) compute() {
	var in [BlockSize]byte
	for i := range d.chain {
		subtle.XORBytes(in[:], in[:], d.chain[i][:])
		subtle.XORBytes(in[:], in[:], d.buf[:])
		d.block.Encrypt(d.chain[i][:], in[:])
	}
	d.buf, d.filled = [BlockSize]byte{}, 0
}

var _ io.Reader = (*LibtpmsStream)(nil)
