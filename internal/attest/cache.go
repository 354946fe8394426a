package attest

import (
	"container/list"
	"context"
	"sync"
)

// attesterCacheSize bounds the records that are remembered, at some 700 bytes each.
const attesterCacheSize = 1 << 14

// An attesterCache remembers records as last read. A decision that rests on an
// outdated one is refused by the store ([ErrStale]), so the cache can cost a second
// try and never a wrong answer. Keys that are not enrolled are not remembered, nor
// those that were removed: their refusal rests on no revision, and another process may
// have admitted them again.
type attesterCache struct {
	store Administration

	mu     sync.Mutex // guards what follows
	byName map[string]*list.Element
	recent list.List // of Attester, the last used first
}

func newAttesterCache(s Administration) *attesterCache {
	return &attesterCache{store: s, byName: map[string]*list.Element{}}
}

// get returns the record of a key.
func (c *attesterCache) get(ctx context.Context, akName string) (Attester, error) {
	if a, ok := c.lookUp(akName); ok {
		return a, nil
	}
	a, err := c.store.Attester(ctx, akName)
	if err == nil && !a.Removed {
		c.put(a)
	}
	return a, err
}

func (c *attesterCache) lookUp(akName string) (Attester, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[akName]
	if !ok {
		return Attester{}, false
	}
	c.recent.MoveToFront(e)
	return e.Value.(Attester), true
}

func (c *attesterCache) put(a Attester) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[a.AKName]; ok {
		e.Value = a
		c.recent.MoveToFront(e)
		return
	}
	c.byName[a.AKName] = c.recent.PushFront(a)
	if c.recent.Len() > attesterCacheSize {
		last := c.recent.Back()
		delete(c.byName, last.Value.(Attester).AKName)
		c.recent.Remove(last)
	}
}

func (c *attesterCache) drop(akName string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[akName]; ok {
		c.recent.Remove(e)
		delete(c.byName, akName)
	}
}

// decided remembers the record as a decision left it: the store raises the
// revision when the counters moved.
func (c *attesterCache) decided(before *Counters, after Attester) {
	if before == nil || after.Last == nil || *before != *after.Last {
		after.Revision++
	}
	c.put(after)
}
