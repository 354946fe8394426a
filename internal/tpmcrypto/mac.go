package tpmcrypto

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/subtle"
	"hash"

	"github.com/assay-project/assay/tpm2"
)

// NewHMAC starts an HMAC (FIPS 198-1). The refusal is TPM_RC_HASH.
func NewHMAC(a tpm2.Alg, key []byte) (hash.Hash, error) {
	h, err := hashOf(a)
	if err != nil {
		return nil, err
	}
	return hmac.New(h.New, key), nil
}

// HMAC returns the HMAC of the parts, one after the other.
func HMAC(a tpm2.Alg, key []byte, parts ...[]byte) ([]byte, error) {
	mac, err := NewHMAC(a, key)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil), nil
}

// Equal compares two MACs or other secrets in a time that tells only their sizes.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// A CMAC is a block cipher MAC in progress (SP 800-38B; Part 3, 15.6, TPM2_MAC).
// It is a [hash.Hash]; Sum leaves it able to go on.
type CMAC struct {
	block cipher.Block
	state [BlockSize]byte // the chain, with the pending bytes of the last block in it
	n     int             // pending bytes; a full block waits, as it may be the last
}

// NewCMAC starts a CMAC with a key as [EncryptSym] takes it. Refusals are
// TPM_RC_SYMMETRIC and TPM_RC_KEY_SIZE.
func NewCMAC(alg tpm2.Alg, bits uint16, key []byte) (*CMAC, error) {
	block, err := newBlock(alg, bits, key)
	if err != nil {
		return nil, err
	}
	return &CMAC{block: block}, nil
}

// Write adds p to the message; it never fails.
func (c *CMAC) Write(p []byte) (int, error) {
	size := len(p)
	for len(p) > 0 {
		if c.n == BlockSize {
			c.block.Encrypt(c.state[:], c.state[:])
			c.n = 0
		}
		n := subtle.XORBytes(c.state[c.n:], c.state[c.n:], p)
		c.n += n
		p = p[n:]
	}
	return size, nil
}

// Sum appends the MAC of what was written to b.
func (c *CMAC) Sum(b []byte) []byte {
	var key [BlockSize]byte
	c.block.Encrypt(key[:], key[:])
	double(&key) // SP 800-38B, 6.1: K1
	last := c.state
	if c.n < BlockSize {
		last[c.n] ^= 0x80 // 6.2, step 4: the padding, and K2
		double(&key)
	}
	subtle.XORBytes(last[:], last[:], key[:])
	c.block.Encrypt(last[:], last[:])
	return append(b, last[:]...)
}

// double multiplies by x in the field of SP 800-38B, 5.3, in constant time.
func double(k *[BlockSize]byte) {
	carry := k[0] >> 7
	for i := range BlockSize - 1 {
		k[i] = k[i]<<1 | k[i+1]>>7
	}
	k[BlockSize-1] = k[BlockSize-1]<<1 ^ carry*0x87
}

// Reset forgets what was written.
func (c *CMAC) Reset() { c.state, c.n = [BlockSize]byte{}, 0 }

// Size is that of the MAC in bytes.
func (c *CMAC) Size() int { return BlockSize }

// BlockSize is that of the cipher.
func (c *CMAC) BlockSize() int { return BlockSize }

// CMACStateSize is the size of what [CMAC.State] returns.
const CMACStateSize = BlockSize + 1

// State returns the MAC in progress, without its key, for the saved context of a
// sequence object. It is secret.
func (c *CMAC) State() []byte { return append(c.state[:len(c.state):len(c.state)], byte(c.n)) }

// Restore continues from what State returned; the refusal is TPM_RC_VALUE.
func (c *CMAC) Restore(state []byte) error {
	if len(state) != CMACStateSize || state[BlockSize] > BlockSize {
		return refuse(tpm2.RCValue, "state of a CMAC has %d bytes or more pending than a block", len(state))
	}
	copy(c.state[:], state)
	c.n = int(state[BlockSize])
	return nil
}
