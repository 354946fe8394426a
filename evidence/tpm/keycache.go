package tpm

import (
	"fmt"
	"sync"

	"github.com/assay-project/assay/tpm2"
)

// A KeyCache keeps attestation keys prepared for verification, which for an RSA key
// costs as much as a verification. A [Key] is a function of the public area and of
// why it is trusted, and is kept under exactly these, so the cache decides nothing.
// It is bounded, safe for concurrent use, and ready to use as its zero value; a nil
// *KeyCache keeps nothing.
type KeyCache struct {
	mu sync.Mutex
	// Two generations, as in eventlog.Cache.
	newer, older map[keyID]*Key
}

// keyID is all that a key is made of.
type keyID struct{ public, proof string }

// maxKeys bounds one generation, at some 1.5 KB a key.
const maxKeys = 1 << 13

// Key is [NewKey] of a TPMT_PUBLIC.
func (c *KeyCache) Key(public []byte, proof string) (*Key, error) {
	if c == nil {
		return makeKey(public, proof)
	}
	id := keyID{string(public), proof}
	c.mu.Lock()
	k, ok := c.newer[id]
	if !ok {
		if k, ok = c.older[id]; ok {
			c.keep(id, k)
		}
	}
	c.mu.Unlock()
	if ok {
		return k, nil
	}
	k, err := makeKey(public, proof)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(id, k)
	return k, nil
}

// keep adds to the newer generation; the caller holds the lock.
func (c *KeyCache) keep(id keyID, k *Key) {
	if c.newer == nil || len(c.newer) >= maxKeys {
		c.older, c.newer = c.newer, map[keyID]*Key{}
	}
	c.newer[id] = k
}

func makeKey(public []byte, proof string) (*Key, error) {
	p, err := tpm2.ParsePublic(public)
	if err != nil {
		return nil, fmt.Errorf("read attestation key: %w", err)
	}
	return NewKey(p, proof)
}
