package eventlog

import (
	"sync"

	"github.com/assay-project/assay/tpm2"
)

// A Cache keeps the logs that quotes confirmed, with what they proved (kept.go), and
// the texts that claims give of key databases and authorities: a fleet has a few of
// them, and each boot measures them again. It is bounded, safe for concurrent use,
// and ready to use as its zero value; a nil *Cache keeps nothing.
//
// It cannot be poisoned: a text is a function of an event's data alone, and is kept under
// the digest of that data, which was computed from it, in a bank whose hash has
// no known collisions. It decides nothing; every digest is computed anew for
// every log that is not, byte for byte, one that was confirmed before.
type Cache struct {
	logs logs

	mu sync.Mutex
	// Two generations bound the cache without an order to keep: when the newer one
	// is full it becomes the older one, and what that held is forgotten.
	newer, older map[cacheKey]string
}

// Bounds of a cache: at most two generations of texts, 4 MiB in all.
const (
	maxCached     = 128
	maxCachedText = 16 << 10
)

// cacheUse says what was derived from the data.
type cacheUse uint8

const (
	useCertificates cacheUse = iota // of a signature database
	useAuthority                    // the line of an authority
)

type cacheKey struct {
	use    cacheUse
	bank   tpm2.Alg
	digest [tpm2.MaxDigest]byte
}

// cacheKey names the data of j by its digest; ok is false unless the digest is
// proven to be of all the data, in a bank that can be trusted alone.
func (k *judge) cacheKey(j *judged, use cacheUse) (key cacheKey, ok bool) {
	if j.cover != coverWhole || len(j.digest) != k.size {
		return cacheKey{}, false
	}
	switch k.bank {
	case tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512:
	default: // SHA-1 collides; the others no fleet uses
		return cacheKey{}, false
	}
	key = cacheKey{use: use, bank: k.bank}
	copy(key.digest[:], j.digest)
	return key, true
}

// derive returns what text makes of the data of j, from the cache if it is there.
func (a *analysis) derive(j *judged, use cacheUse, text func() string) string {
	key, ok := a.judge.cacheKey(j, use)
	if a.cache == nil || !ok {
		return text()
	}
	if s, ok := a.cache.get(key); ok {
		return s
	}
	s := text()
	a.cache.put(key, s)
	return s
}

func (c *Cache) get(k cacheKey) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.newer[k]; ok {
		return s, true
	}
	s, ok := c.older[k]
	if ok {
		c.keep(k, s)
	}
	return s, ok
}

func (c *Cache) put(k cacheKey, s string) {
	if len(s) > maxCachedText {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(k, s)
}

// keep adds to the newer generation; the caller holds the lock.
func (c *Cache) keep(k cacheKey, s string) {
	if c.newer == nil || len(c.newer) >= maxCached {
		c.older, c.newer = c.newer, make(map[cacheKey]string, maxCached)
	}
	c.newer[k] = s
}
