package store

import (
	"bytes"
	"crypto/sha256"
	"hash/maphash"
	"sync"
)

// A digestMemo spares hashing what was hashed before: a machine sends the log of the
// same boot again and again. It keeps the bytes and compares them, so what it returns
// is their digest and no other's. The zero memo is ready.
type digestMemo struct {
	once sync.Once
	seed maphash.Seed

	mu         sync.Mutex // guards what follows
	newer      map[uint64]part
	older      map[uint64]part
	newerBytes int
}

// Bounds of a memo: two generations of memoBytes each, of bodies of at most memoLargest.
const (
	memoBytes   = 16 << 20
	memoLargest = 256 << 10
)

// digest returns the SHA-256 digest of body.
func (m *digestMemo) digest(body []byte) digest {
	if len(body) > memoLargest {
		return sha256.Sum256(body)
	}
	m.once.Do(func() { m.seed = maphash.MakeSeed() })
	h := maphash.Bytes(m.seed, body) // finds a candidate, no more
	if d, ok := m.find(h, body); ok {
		return d
	}
	p := part{digest: sha256.Sum256(body), body: bytes.Clone(body)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(h, p)
	return p.digest
}

func (m *digestMemo) find(h uint64, body []byte) (digest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.newer[h]
	if !ok {
		if p, ok = m.older[h]; !ok {
			return digest{}, false
		}
	}
	if !bytes.Equal(p.body, body) {
		return digest{}, false
	}
	m.keep(h, p)
	return p.digest, true
}

// keep adds to the newer generation; the caller holds the lock.
func (m *digestMemo) keep(h uint64, p part) {
	old, had := m.newer[h]
	if had && old.digest == p.digest {
		return
	}
	m.newerBytes -= len(old.body)
	if m.newer == nil || m.newerBytes+len(p.body) > memoBytes {
		m.older, m.newer, m.newerBytes = m.newer, map[uint64]part{}, 0
	}
	m.newer[h] = p
	m.newerBytes += len(p.body)
}
