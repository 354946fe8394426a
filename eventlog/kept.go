package eventlog

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// A machine that stays up is asked again and again, and answers with the log of the
// same boot. What a log leads to, and what it proves of registers, is a function of
// its bytes, the bank and the values that were quoted, so a [Cache] keeps it under
// exactly these: the bytes are compared, not a digest of them, and any difference
// means that all is done anew. Only logs that a quote confirmed are kept, so what no
// trusted key signed takes no room.

// Bounds of the logs that are kept: two generations of at most keptWeight bytes each,
// of logs that weigh at most keptLargest. A log of 24 KB weighs some 50 KB.
const (
	keptWeight  = 32 << 20
	keptLargest = 512 << 10
	keptResults = 4 // of one log: its banks
)

// logs are the kept logs of a [Cache]. The hash only finds a candidate.
type logs struct {
	once         sync.Once
	seed         maphash.Seed
	mu           sync.Mutex // guards what follows
	newer, older map[uint64]*Log
	weight       int // of newer
}

// results are what has been confirmed of one log.
type results struct {
	mu   sync.Mutex // guards what follows
	list [keptResults]result
	next int // to be replaced
}

type result struct {
	bank      tpm2.Alg
	quoted    string // the registers, as appendQuoted writes them
	confirmed *Confirmed
}

// Parse is [Parse] for a verifier of many logs: for bytes that a quote confirmed
// before it returns the log that they made then. The data must never change.
func (c *Cache) Parse(data []byte) (*Log, error) {
	if c == nil {
		return Parse(data)
	}
	if l := c.logs.find(data); l != nil {
		return l, nil
	}
	l, err := Parse(data)
	if err == nil {
		l.results = new(results)
	}
	return l, err
}

// appendQuoted writes registers so that equal text means equal registers; ok is
// false for what no quote can select.
func appendQuoted(out []byte, quoted map[int][]byte) (text []byte, ok bool) {
	n := 0
	for pcr := range maxPCR {
		if value, ok := quoted[pcr]; ok {
			out = append(append(out, byte(pcr), byte(len(value))), value...)
			n++
			if len(value) > tpm2.MaxDigest {
				return nil, false
			}
		}
	}
	return out, n == len(quoted)
}

// known returns what was confirmed of l before against the same registers, nil for nothing.
func (l *Log) known(a tpm2.Alg, quoted []byte) *Confirmed {
	if l.results == nil {
		return nil
	}
	l.results.mu.Lock()
	defer l.results.mu.Unlock()
	for i := range l.results.list {
		if r := &l.results.list[i]; r.confirmed != nil && r.bank == a && r.quoted == string(quoted) {
			return r.confirmed
		}
	}
	return nil
}

// remember keeps a result, and the log that it is of.
func (c *Cache) remember(l *Log, a tpm2.Alg, quoted []byte, confirmed *Confirmed) {
	if l.results == nil || l.weight() > keptLargest {
		return
	}
	r := l.results
	r.mu.Lock()
	r.list[r.next] = result{a, string(quoted), confirmed}
	r.next = (r.next + 1) % keptResults
	r.mu.Unlock()
	c.logs.put(l)
}

// weight is about how many bytes a log takes with its analysis and claims.
func (l *Log) weight() int { return len(l.data) + keptResults/2*(l.count*128+8<<10) }

func (k *logs) hash(data []byte) uint64 {
	k.once.Do(func() { k.seed = maphash.MakeSeed() })
	return maphash.Bytes(k.seed, data)
}

// find returns the kept log of exactly these bytes, nil for none.
func (k *logs) find(data []byte) *Log {
	h := k.hash(data)
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.newer[h]
	if !ok {
		if l, ok = k.older[h]; !ok {
			return nil
		}
	}
	if !bytes.Equal(l.data, data) {
		return nil
	}
	k.keep(h, l)
	return l
}

func (k *logs) put(l *Log) {
	h := k.hash(l.data)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keep(h, l)
}

// keep adds to the newer generation; the caller holds the lock.
func (k *logs) keep(h uint64, l *Log) {
	old, had := k.newer[h]
	if had && old == l {
		return
	}
	if had {
		k.weight -= old.weight()
	}
	if k.newer == nil || k.weight+l.weight() > keptWeight {
		k.older, k.newer, k.weight = k.newer, map[uint64]*Log{}, 0
	}
	k.newer[h] = l
	k.weight += l.weight()
}

// SharedClaims are the claims of [Confirmed.Claims], made once, in one map for all
// callers: they must not change it, nor what is in it.
func (c *Confirmed) SharedClaims() evidence.Claims {
	if c.shared == nil {
		return evidence.Claims{}
	}
	return c.shared()
}

// Writing is that of [Confirmed.SharedClaims], which share it likewise.
func (c *Confirmed) Writing() *evidence.Writing {
	if c.writing == nil {
		return evidence.NewWriting(evidence.Claims{})
	}
	return c.writing()
}
