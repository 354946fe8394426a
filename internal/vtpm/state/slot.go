//go:build unix

package state

import (
	"fmt"
	"time"

	"github.com/assay-project/assay/wire"
)

// slotHead begins the text of a slot, in the clear. All of it is a claim until the
// sealed part opens.
type slotHead struct {
	id         ID
	generation uint64
	saved      int64 // microseconds since 1970; 0 when it is not known
	size       uint32
}

// headSize is the length of a slotHead.
const headSize = 16 + 8 + 8 + 4

// Wire lays out the head (docs/formats/nvram.md).
func (h *slotHead) Wire(c *wire.Codec) {
	c.Bytes(h.id[:])
	wire.U64(c, &h.generation)
	saved := uint64(h.saved)
	wire.U64(c, &saved)
	h.saved = int64(saved)
	wire.U32(c, &h.size)
}

func (h *slotHead) time() time.Time {
	if h.saved == 0 {
		return time.Time{}
	}
	return time.UnixMicro(h.saved).UTC()
}

// A condition is what a slot looks like without the key.
type condition int

const (
	isBlank condition = iota
	isWhole
	isTorn      // blocks of two generations: a write that did not end
	isDamaged   // blocks that cannot be read
	isMisplaced // blocks of another slot
	isForeign   // of another TPM
	isRefused   // whole, and does not open: only told with the key
)

func (c condition) String() string {
	return [...]string{"blank", "whole", "torn", "damaged", "misplaced", "foreign", "altered"}[c]
}

func (c condition) kind() Kind {
	switch c {
	case isTorn:
		return Torn
	case isMisplaced:
		return Swapped
	case isForeign:
		return Foreign
	case isRefused:
		return Altered
	default:
		return Damaged
	}
}

// A slot is one of the places of a file, as found.
type slot struct {
	number     int
	condition  condition
	generation uint64 // that was, or was to be, here; when known
	known      bool   // whether generation is
	offset     int64  // in the slot, of what is wrong
	why        error
	head       slotHead
	sealed     []byte // when whole or misplaced
	record     *openedRecord
}

// inspect reads a slot without the key. Raw has the slot's length, a multiple of
// blockSize and at least minBlocks of them.
func inspect(number int, raw []byte, id ID) slot {
	s := slot{number: number, known: true}
	first, ok := readStamp(raw[:blockSize])
	if !ok || first.index != 0 {
		return s.headless(raw)
	}
	at := int(first.slot) // what the blocks must say
	n := len(raw) / blockSize
	if first.generation != 0 {
		if err := s.readHead(raw, first); err != nil {
			return s.bad(isDamaged, 0, err)
		}
		n = blocksFor(headSize + int(s.head.size))
	}
	s.generation = first.generation
	s.scan(raw[:n*blockSize], at)
	switch {
	case s.condition != isWhole:
		return s
	case first.generation == 0:
		s.condition = isBlank
	case s.head.id != id:
		return s.bad(isForeign, 0, fmt.Errorf("it is of TPM %s", s.head.id))
	default:
		s.sealed = unframe(raw, n)[headSize : headSize+int(s.head.size)]
	}
	if at != number {
		return s.bad(isMisplaced, 0, fmt.Errorf("it is what was written to slot %d", at))
	}
	return s
}

func (s slot) bad(c condition, offset int64, why error) slot {
	s.condition, s.offset, s.why = c, offset, why
	return s
}

// headless reads a slot whose first block is damaged. A generation that was
// complete here has its stamp on the second block as well.
func (s slot) headless(raw []byte) slot {
	second, ok := readStamp(raw[blockSize : 2*blockSize])
	s.known = ok && second.index == 1 && int(second.slot) == s.number
	s.generation = 0
	if s.known {
		s.generation = second.generation
	}
	return s.bad(isDamaged, 0, nil)
}

func (s *slot) readHead(raw []byte, first stamp) error {
	if _, err := wire.DecodePrefix(raw[:blockText], &s.head); err != nil {
		return err
	}
	if s.head.generation != first.generation {
		return fmt.Errorf("generation %d is stamped %d", s.head.generation, first.generation)
	}
	if room := len(raw) / blockSize * blockText; int64(s.head.size) > int64(room-headSize) {
		return fmt.Errorf("%d bytes where there is room for %d", s.head.size, room-headSize)
	}
	return nil
}

// scan compares the stamps of all blocks with that of the first.
func (s *slot) scan(raw []byte, at int) {
	s.condition = isWhole
	newest, damagedAt := s.generation, int64(-1)
	for i := range len(raw) / blockSize {
		offset := int64(i) * blockSize
		found, ok := readStamp(raw[offset : offset+blockSize])
		switch {
		case !ok || int(found.slot) != at || int(found.index) != i:
			if damagedAt < 0 {
				damagedAt = offset
			}
		case found.generation != s.generation:
			if s.condition != isTorn {
				s.condition, s.offset = isTorn, offset
			}
			newest = max(newest, found.generation)
		}
	}
	// Blocks of two generations are a write that did not end, whatever else is
	// wrong: a generation that was complete has one stamp on all its blocks.
	s.generation = newest
	if s.condition != isTorn && damagedAt >= 0 {
		s.condition, s.offset = isDamaged, damagedAt
	}
}
