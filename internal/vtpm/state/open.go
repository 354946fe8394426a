//go:build unix

package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// file is the inside of a [File].
type file struct {
	path     string
	cfg      Config
	id       ID
	anchored bool
	notices  []Notice

	mu     sync.Mutex // guards what follows
	h      handle     // nil when closed
	free   bool       // the lock is given away
	key    seal.Secret
	head   header
	table  [slotCount]uint64 // generation that each slot holds; 0: none that counts
	target int               // slot that is written next
	next   uint64            // number that no generation had yet
	last   Mark
	saved  time.Time
	// ledgered is the last generation's own word that an anchor was told of it.
	ledgered bool
	silent   bool // the anchor is told of nothing before the next save
	told     bool // [File.Tell] has ended what Untold asks for
	meta     []byte
	whole    bool   // the next save writes the whole file, to mend it
	buf      []byte // for records; secret while in use
	blocks   []byte // for slots
}

// A loaded file is one as it was found: locked, its key at hand, nothing decided.
type loaded struct {
	slots   []slot
	mark    Mark // what the anchor knows
	known   bool
	lost    error // the anchor knew, and its entry is damaged
	size    int64
	notices []Notice
	mend    bool // a copy of the header is to be written anew
}

// good are the slots that open, newest first.
func (l *loaded) good() []*slot {
	var out []*slot
	for i := range l.slots {
		s := &l.slots[i]
		if s.record == nil {
			continue
		}
		at := len(out)
		for at > 0 && out[at-1].record.generation < s.record.generation {
			at--
		}
		out = append(out[:at], append([]*slot{s}, out[at:]...)...)
	}
	return out
}

func (l *loaded) generations() []uint64 {
	var out []uint64
	for _, s := range l.good() {
		out = append(out, s.record.generation)
	}
	return out
}

// highest is the greatest number that any generation of the TPM may have had.
func (l *loaded) highest() uint64 {
	n := l.mark.Generation
	for i := range l.slots {
		n = max(n, l.slots[i].generation)
		if r := l.slots[i].record; r != nil {
			for _, g := range r.table {
				n = max(n, g)
			}
		}
	}
	return n
}

func (l *loaded) destroy() {
	for i := range l.slots {
		if r := l.slots[i].record; r != nil {
			r.text.Destroy()
		}
	}
}

func (f *file) open(ctx context.Context) (c Content, err error) {
	l, err := f.load(ctx)
	if err != nil {
		return Content{}, err
	}
	defer l.destroy()
	defer func() {
		if err != nil {
			f.shut()
		}
	}()
	newest, fault := f.judge(l)
	if fault != nil {
		return Content{}, fault
	}
	f.take(l, newest)
	f.silent = f.cfg.Arriving
	if err := f.advance(true); err != nil {
		return Content{}, err
	}
	return newest.record.content(), nil
}

// load opens, locks and reads the file. Without an error the handle and the key are
// the file's.
func (f *file) load(ctx context.Context) (*loaded, error) {
	if err := f.acquire(); err != nil {
		return nil, err
	}
	l, err := f.read(ctx)
	if err != nil {
		f.shut()
		return nil, err
	}
	return l, nil
}

func (f *file) read(ctx context.Context) (*loaded, error) {
	if err := f.cfg.disk.sweep(f.path); err != nil {
		return nil, f.ioFault(err)
	}
	l := &loaded{}
	var err error
	if l.size, err = f.h.size(); err != nil {
		return nil, f.ioFault(err)
	}
	if err := f.readHeader(l); err != nil {
		return nil, err
	}
	if err := f.unwrap(ctx); err != nil {
		return nil, err
	}
	if err := f.readSlots(l); err != nil {
		l.destroy()
		return nil, err
	}
	if f.cfg.Anchor == nil {
		return l, nil
	}
	if l.mark, l.known, l.lost = f.cfg.Anchor.Last(f.id); l.lost != nil && !errors.Is(l.lost, ErrLedgerEntry) {
		l.destroy()
		return nil, f.fault(AnchorDown, l.lost)
	}
	return l, nil
}

// maxChases bounds how often a file may be replaced while it is opened.
const maxChases = 8

// acquire opens and locks the file that has the name once it is locked: the one
// that was opened may have been replaced by its owner.
func (f *file) acquire() error {
	for range maxChases {
		h, err := f.cfg.disk.open(f.path)
		if err != nil {
			return f.openFault(err)
		}
		locked, err := h.lock()
		if err == nil && !locked {
			fault := f.fault(Locked, nil)
			fault.Owner = h.owner()
			h.Close()
			return fault
		}
		same := false
		if err == nil {
			same, err = h.named(f.path)
		}
		if err == nil && same {
			f.h = h
			return nil
		}
		h.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f.ioFault(err)
		}
	}
	return f.fault(Locked, errors.New("it is replaced again and again"))
}

func (f *file) openFault(err error) *Fault {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.fault(Missing, nil)
	case errors.Is(err, syscall.ELOOP), errors.Is(err, errNotRegular), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO):
		return f.fault(NotOurs, errNotRegular)
	case errors.Is(err, fs.ErrPermission):
		return f.fault(Denied, nil)
	}
	return f.ioFault(err)
}

// shut gives up the lock and forgets the key.
func (f *file) shut() {
	if f.h != nil {
		f.h.Close()
		f.h = nil
	}
	f.key.Destroy()
	clear(f.meta)
	clear(f.buf[:cap(f.buf)])
	f.meta, f.buf = nil, nil
}

// readHeader takes the first copy of the header that is good.
func (f *file) readHeader(l *loaded) error {
	first, firstErr := f.headerAt(0)
	last, lastErr := f.headerAt(l.size - headerSize)
	h := first
	switch {
	case first != nil && last != nil:
		if !first.same(last) {
			l.mend = true
			l.notices = append(l.notices, Notice{Damaged, noSlot, l.size - headerSize, "the two copies of the header differ; the next save mends it"})
			if first.fileSize() != l.size {
				h = last
			}
		}
	case first == nil && last == nil:
		return f.headerFault(worse(firstErr, lastErr), l.size)
	case first == nil:
		h, l.mend = last, true
		l.notices = append(l.notices, Notice{Damaged, noSlot, 0, fmt.Sprintf("the first copy of the header is %v; the next save mends it", firstErr)})
	case last == nil && l.size == first.fileSize():
		l.mend = true
		l.notices = append(l.notices, Notice{Damaged, noSlot, l.size - headerSize, fmt.Sprintf("the second copy of the header is %v; the next save mends it", lastErr)})
	}
	if !f.cfg.Want.IsZero() && h.id != f.cfg.Want {
		fault := f.fault(Foreign, fmt.Errorf("wanted %s", f.cfg.Want))
		fault.ID = h.id
		return fault
	}
	f.head, f.id = *h, h.id
	return nil
}

func (f *file) headerFault(err error, size int64) *Fault {
	switch {
	case errors.Is(err, NewerFormat):
		return f.fault(NewerFormat, err)
	case errors.Is(err, Damaged) && size < 2*headerSize+slotCount*minSlotSize:
		return f.fault(Truncated, fmt.Errorf("%d bytes are left", size))
	case errors.Is(err, Damaged):
		return f.fault(Damaged, err)
	case errors.Is(err, NotOurs):
		return f.fault(NotOurs, nil)
	}
	return f.ioFault(err)
}

func (f *file) headerAt(at int64) (*header, error) {
	if at < 0 {
		return nil, NotOurs
	}
	b := make([]byte, headerSize)
	n, err := f.h.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return parseHeader(b[:n])
}

// unwrap asks the provider for the file's key and sees that it is the one.
func (f *file) unwrap(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return f.fault(ProviderDown, err)
	}
	key, err := f.cfg.Provider.Unwrap(ctx, keyContext(f.id), f.head.wrapped)
	if err != nil {
		return f.fault(providerKind(err), err)
	}
	mac, err := f.head.sum(key)
	if err != nil || mac != f.head.mac || key.Len() != seal.KeySize {
		key.Destroy()
		return f.fault(BadProvider, errors.New("the key that it gives is not the one of this file"))
	}
	f.key = key
	return nil
}

// providerKind sorts what a provider may answer.
func providerKind(err error) Kind {
	switch {
	case errors.Is(err, keyprovider.ErrUnknownKey), errors.Is(err, seal.ErrOpen), errors.Is(err, seal.ErrFormat), errors.Is(err, seal.ErrVersion):
		return WrongKey
	case errors.Is(err, keyprovider.ErrRefused):
		return ProviderRefuses
	case errors.Is(err, keyprovider.ErrGarbage):
		return BadProvider
	default:
		return ProviderDown
	}
}

// readSlots reads and opens the slots. What the file lacks is a damaged slot.
func (f *file) readSlots(l *loaded) error {
	raw := make([]byte, f.head.slotSize)
	for i := range slotCount {
		n, err := f.h.ReadAt(raw, f.head.slotAt(i))
		if err != nil && !errors.Is(err, io.EOF) {
			return f.ioFault(err)
		}
		clear(raw[n:]) // no stamp is valid there
		s := inspect(i, raw, f.id)
		if s.sealed != nil {
			r, err := openSealed(f.key, f.id, s.head.generation, s.sealed)
			if err != nil {
				s = s.bad(isRefused, 0, err)
			} else {
				s.record = r
			}
		}
		l.slots = append(l.slots, s)
	}
	return nil
}
