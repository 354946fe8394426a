//go:build unix

package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/wire"
)

// Save keeps a new generation. When it returns nil the generation survives a crash;
// when it returns an error, the one before does, and perhaps the new one.
func (f *File) Save(ctx context.Context, c Content) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.save(ctx, c)
}

// SavePermanent is [File.Save] of a running TPM: the owner's record stays as it
// is, and there is no volatile state.
func (f *File) SavePermanent(permanent []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.save(context.Background(), Content{Permanent: permanent, Meta: f.meta})
}

// SaveAbove is [File.Save] of what another host had at a generation, which the one that is
// saved is above: that host would take any other for an older one.
func (f *File) SaveAbove(ctx context.Context, c Content, generation uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.goAbove(generation)
	return f.save(ctx, c)
}

// maxForeign is the greatest generation that another host is believed. No TPM comes to it,
// and half of all numbers are left above it.
const maxForeign = 1 << 63

// goAbove has the next generation be above that of another host.
func (f *file) goAbove(generation uint64) { f.next = max(f.next, min(generation, maxForeign)+1) }

// Tell has the anchor told of the last generation, and of all that follow; see Untold in
// [Config].
func (f *File) Tell() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = true
	if err := f.usable(); err != nil {
		return err
	}
	return f.advance(true)
}

func (f *file) save(ctx context.Context, c Content) error {
	if err := f.usable(); err != nil {
		return err
	}
	if err := errors.Join(ctx.Err(), c.check()); err != nil {
		return err
	}
	if err := f.there(); err != nil {
		return err
	}
	if f.whole || textSize(c) > capacity(f.head.slotSize) {
		return f.rewrite(c, change{head: f.grown(c), key: f.key, keep: true})
	}
	r, text, err := f.newRecord(c, f.target, f.table)
	if err != nil {
		return err
	}
	defer clear(text)
	framed, err := f.frame(f.key, f.target, r, text)
	if err != nil {
		return err
	}
	// Until the new generation is durable the slot counts for nothing, and after a
	// failure it is the one to write again: the others are good.
	f.table[f.target] = 0
	if _, err := f.h.WriteAt(framed, f.head.slotAt(f.target)); err != nil {
		return f.ioFault(err)
	}
	if err := f.h.sync(); err != nil {
		return f.ioFault(err)
	}
	f.table[f.target] = r.generation
	f.setLast(r, text)
	f.silent = false
	return f.advance(false)
}

// advance tells the anchor of the last generation.
func (f *file) advance(durable bool) error {
	if f.cfg.Anchor == nil || f.silent || f.cfg.Untold && !f.told {
		return nil
	}
	if err := f.cfg.Anchor.Advance(f.id, f.last, durable); err != nil {
		return f.fault(AnchorDown, err)
	}
	return nil
}

// there sees that the name still leads to the open file: what is saved in one that
// was removed or replaced is lost when it is closed.
func (f *file) there() error {
	named, err := f.h.named(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !named {
		return f.fault(Gone, nil)
	}
	if err != nil {
		return f.ioFault(err)
	}
	return nil
}

func (f *file) usable() error {
	switch {
	case f.h == nil:
		return f.fault(Closed, nil)
	case f.free:
		return f.fault(Released, nil)
	}
	return nil
}

// newRecord makes the next generation. Its text is in the file's buffer, which the
// caller clears.
func (f *file) newRecord(c Content, at int, table [slotCount]uint64) (*record, []byte, error) {
	r := &record{generation: f.next, anchored: f.cfg.Anchor != nil, table: table, permanent: c.Permanent, volatile: c.Volatile, meta: c.Meta}
	r.table[at] = r.generation
	if now := f.cfg.now(); !now.IsZero() {
		r.saved = now.UnixMicro()
	}
	if _, err := io.ReadFull(f.cfg.Random, r.unique[:]); err != nil {
		return nil, nil, fmt.Errorf("save state of TPM %s: %w", f.id, err)
	}
	// A number is used once, whatever becomes of this generation.
	f.next++
	text, err := f.encode(r)
	return r, text, err
}

// encode lays a record out in the file's buffer, which never moves while it has
// something secret in it.
func (f *file) encode(r *record) ([]byte, error) {
	if need := recordOverhead + len(r.permanent) + len(r.volatile) + len(r.meta) + len(r.extra); cap(f.buf) < need {
		f.buf = make([]byte, 0, need+need/4)
	}
	text, err := wire.Append(f.buf[:0], r)
	if err != nil {
		return nil, fmt.Errorf("save state of TPM %s: %w", f.id, err)
	}
	return text, nil
}

// frame seals a record's text and lays it out in blocks, which are valid until the next
// call.
func (f *file) frame(key seal.Secret, at int, r *record, text []byte) ([]byte, error) {
	sealed, err := sealText(f.cfg.Random, key, f.id, r.generation, text)
	if err != nil {
		return nil, err
	}
	f.blocks, err = frameSlot(f.blocks[:0], at, slotHead{f.id, r.generation, r.saved, uint32(len(sealed))}, sealed)
	return f.blocks, err
}

// frameSlot appends the blocks of a slot.
func frameSlot(dst []byte, at int, h slotHead, sealed []byte) ([]byte, error) {
	head, err := wire.Append(make([]byte, 0, headSize), &h)
	if err != nil {
		return dst, err
	}
	return frame(slices.Grow(dst, blocksFor(headSize+len(sealed))*blockSize), at, h.generation, head, sealed), nil
}

// sealOverhead is what an envelope adds to its text (docs/formats/sealed.md).
const sealOverhead = 8 + 2 + 2 + 1 + 3*2 + 16 + 12 + 16

// textSize is what a slot must hold for c.
func textSize(c Content) int { return headSize + sealOverhead + recordOverhead + c.size() }

// capacity is what a slot holds.
func capacity(slotSize uint32) int { return int(slotSize) / blockSize * blockText }

// grown is the header with slots that hold c, and as much again.
func (f *file) grown(c Content) header {
	h := f.head
	h.slotSize = max(h.slotSize, slotSizeFor(c))
	return h
}

// slotSizeFor leaves room to grow: a new size means writing the whole file.
func slotSizeFor(c Content) uint32 {
	size := uint32(minSlotSize)
	for size < maxSlotSize && capacity(size) < textSize(c)*3/2 {
		size *= 2
	}
	return size
}

func timeOf(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}
