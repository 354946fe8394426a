//go:build unix

package state

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"sync"
	"syscall"

	"github.com/assay-project/assay/internal/durable"
)

// errCut is what every operation of a stopped machine answers.
var errCut = errors.New("power cut")

// memDisk is a file system in memory that loses power after some steps. It keeps
// apart what programs see and what is on the disk: content gets there by sync, one
// sector at a time and in any order before; names by the sync of their folder.
type memDisk struct {
	mu     sync.Mutex
	left   int // steps until the power is cut; below 0: never
	torn   int // bytes that the write that is cut off still writes; below 0: all
	cut    bool
	names  map[string]*memFile // as seen
	onDisk map[string]*memFile // as durable
	fail   func(op string) error
}

type memFile struct {
	data   []byte // as seen
	onDisk []byte // as durable
	locked *memHandle
}

type memHandle struct {
	d *memDisk
	f *memFile
}

type memPending struct {
	*memHandle
	path string
}

func newMemDisk() *memDisk {
	return &memDisk{left: -1, torn: -1, names: map[string]*memFile{}, onDisk: map[string]*memFile{}}
}

// memDiskWith has one file, which aliases data.
func memDiskWith(path string, data []byte) *memDisk {
	d := newMemDisk()
	f := &memFile{data: data, onDisk: data}
	d.names[path], d.onDisk[path] = f, f
	return d
}

// step is one operation that may be the last.
func (d *memDisk) step(op string) error {
	if d.cut || d.left == 0 {
		d.cut = true
		return errCut
	}
	if d.left > 0 {
		d.left--
	}
	if d.fail != nil {
		return d.fail(op)
	}
	return nil
}

// sectors lists the sectors in which what is seen differs from what is durable.
func (d *memDisk) sectors(path string) []int {
	f := d.names[path]
	if f == nil || len(f.onDisk) == 0 {
		return nil
	}
	var out []int
	for at := 0; at < len(f.data); at += blockSize {
		end := min(at+blockSize, len(f.data))
		if end > len(f.onDisk) || !bytes.Equal(f.data[at:end], f.onDisk[at:end]) {
			out = append(out, at/blockSize)
		}
	}
	return out
}

// killed is what a new process sees after the old one was killed.
func (d *memDisk) killed() *memDisk {
	out := newMemDisk()
	for name, f := range d.names {
		c := &memFile{data: bytes.Clone(f.data), onDisk: bytes.Clone(f.onDisk)}
		out.names[name], out.onDisk[name] = c, c
	}
	return out
}

// rebooted is what is left after a loss of power: the sectors of path that kept
// chooses got to the disk, and the names did if names is true.
func (d *memDisk) rebooted(path string, names bool, kept func(sector int) bool) *memDisk {
	out := newMemDisk()
	from := d.onDisk
	if names {
		from = d.names
	}
	for name, f := range from {
		data := bytes.Clone(f.onDisk)
		if name == path && f == d.names[path] {
			for _, s := range d.sectors(path) {
				if at := s * blockSize; kept(s) {
					copy(data[at:min(at+blockSize, len(data))], f.data[at:])
				}
			}
		}
		c := &memFile{data: data, onDisk: bytes.Clone(data)}
		out.names[name], out.onDisk[name] = c, c
	}
	return out
}

func (d *memDisk) open(path string) (handle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[path]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return &memHandle{d, f}, d.step("open")
}

func (d *memDisk) view(path string) (handle, error) { return d.open(path) }

func (d *memDisk) begin(path string) (pending, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &memPending{&memHandle{d, &memFile{}}, path}, d.step("begin")
}

func (d *memDisk) link(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[to] != nil {
		return fs.ErrExist
	}
	if err := d.step("link"); err != nil {
		return err
	}
	d.names[to] = d.names[from]
	return nil
}

func (d *memDisk) sweep(string) error { return nil }

func (h *memHandle) ReadAt(b []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if at >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(b []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	err := h.d.step("write")
	if errors.Is(err, errCut) && h.d.torn < 0 {
		return 0, err
	}
	n := len(b)
	if err != nil {
		n = min(n, max(0, h.d.torn))
	}
	if missing := int(at) + n - len(h.f.data); missing > 0 {
		h.f.data = append(h.f.data, make([]byte, missing)...)
	}
	copy(h.f.data[at:], b[:n])
	return n, err
}

func (h *memHandle) size() (int64, error) { return int64(len(h.f.data)), nil }

func (h *memHandle) sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return h.syncLocked()
}

func (h *memHandle) syncLocked() error {
	if err := h.d.step("sync"); err != nil {
		return err
	}
	h.f.onDisk = append(h.f.onDisk[:0:0], h.f.data...)
	return nil
}

func (h *memHandle) lock() (bool, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.f.locked != nil && h.f.locked != h {
		return false, nil
	}
	h.f.locked = h
	return true, nil
}

func (h *memHandle) unlock() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.f.locked == h {
		h.f.locked = nil
	}
	return nil
}

func (h *memHandle) named(path string) (bool, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.d.names[path] == nil {
		return false, fs.ErrNotExist
	}
	return h.d.names[path] == h.f, nil
}

func (h *memHandle) owner() string { return "somebody" }

func (h *memHandle) Close() error { return h.unlock() }

func (p *memPending) commit() error { return p.finish(false) }

func (p *memPending) commitNew() error { return p.finish(true) }

func (p *memPending) finish(fresh bool) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.syncLocked(); err != nil {
		return err
	}
	if fresh && p.d.names[p.path] != nil {
		return durable.ErrExists
	}
	if err := p.d.step("rename"); err != nil {
		return err
	}
	p.d.names[p.path] = p.f
	if err := p.d.step("sync folder"); err != nil {
		return err
	}
	p.d.onDisk = maps.Clone(p.d.names)
	return nil
}

func (p *memPending) abort() error { return p.unlock() }

// memAnchor is an anchor that forgets, with the power, what was not to be durable.
type memAnchor struct {
	mu     sync.Mutex
	known  map[ID]Mark
	onDisk map[ID]Mark
	err    error
}

func newMemAnchor() *memAnchor {
	return &memAnchor{known: map[ID]Mark{}, onDisk: map[ID]Mark{}}
}

func (a *memAnchor) Last(id ID) (Mark, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, ok := a.known[id]
	return m, ok, a.err
}

func (a *memAnchor) Advance(id ID, m Mark, durable bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.known[id] = m
	if durable {
		a.onDisk[id] = m
	}
	return nil
}

func (a *memAnchor) rebooted() *memAnchor {
	return &memAnchor{known: maps.Clone(a.onDisk), onDisk: maps.Clone(a.onDisk)}
}

// failing makes an operation fail with err from its nth call on, for count calls.
func failing(op string, nth, count int, err syscall.Errno) func(string) error {
	seen := 0
	return func(did string) error {
		if did != op {
			return nil
		}
		seen++
		if seen >= nth && seen < nth+count {
			return err
		}
		return nil
	}
}
