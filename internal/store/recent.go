package store

import "sync"

// recentDigests remembers what is stored, the newest at least recentMax. A database
// that was away may come back without its last commits, as a standby does that takes
// over: then all is forgotten, and a new epoch begins. What was found out in one
// epoch says nothing in the next. The zero recentDigests is ready.
type recentDigests struct {
	// opened counts the connections that were made for writing; nil when none is ever
	// lost. A driver replaces a connection that broke while it was idle and tells
	// nobody: the server behind the new one may be another.
	opened func() uint64

	mu       sync.Mutex // guards what follows
	new, old map[held]struct{}
	now      uint64 // the epoch
	seen     uint64 // what opened said last
}

const recentMax = 8192 // 33 bytes each, twice

// epoch returns the number of the present epoch.
func (r *recentDigests) epoch() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.now
}

func (r *recentDigests) has(what held) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	_, ok := r.new[what]
	if !ok {
		_, ok = r.old[what]
	}
	return ok
}

// add remembers what was found out, or stored, in an epoch.
func (r *recentDigests) add(what held, epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.look(); epoch != r.now {
		return
	}
	if r.new == nil || len(r.new) >= recentMax {
		r.old, r.new = r.new, make(map[held]struct{})
	}
	r.new[what] = struct{}{}
}

// forget begins a new epoch.
func (r *recentDigests) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
}

// look begins a new epoch when a connection was made; the caller holds the lock.
func (r *recentDigests) look() {
	if r.opened == nil {
		return
	}
	if n := r.opened(); n != r.seen {
		r.seen = n
		r.clear()
	}
}

func (r *recentDigests) clear() {
	r.new, r.old = nil, nil
	r.now++
}
