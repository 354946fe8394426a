//go:build unix

package state

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// judge decides whether the newest generation that opens is the newest that there
// was. Whatever might have been newer, and is no unfinished write that nobody was
// told of, is a fault.
func (f *file) judge(l *loaded) (*slot, *Fault) {
	good := l.good()
	fault := f.judgeSlots(l, good)
	if fault == nil {
		fault = f.judgeAnchor(l, good)
	}
	if fault != nil {
		fault.Good, fault.Known = l.generations(), l.mark.Generation
		return nil, fault
	}
	return good[0], nil
}

func (f *file) judgeSlots(l *loaded, good []*slot) *Fault {
	if want := f.head.fileSize(); l.size < want {
		fault := f.fault(Truncated, fmt.Errorf("%d of %d bytes are left", l.size, want))
		fault.Offset = l.size
		return fault
	} else if l.size > want {
		fault := f.fault(Damaged, fmt.Errorf("%d bytes follow its end", l.size-want))
		fault.Offset = want
		return fault
	}
	// What somebody put here is told before what is merely lost.
	for _, c := range []condition{isForeign, isMisplaced, isRefused} {
		for i := range l.slots {
			if s := &l.slots[i]; s.condition == c {
				return f.slotFault(s, c.kind(), s.why)
			}
		}
	}
	if len(good) == 0 {
		return f.noneGood(l)
	}
	for i := range l.slots {
		if s := &l.slots[i]; s != good[0] {
			if fault := f.judgeOther(l, s, good[0].record); fault != nil {
				return fault
			}
		}
	}
	return nil
}

// noneGood is a file of which nothing opens.
func (f *file) noneGood(l *loaded) *Fault {
	worst := slices.MaxFunc(l.slots, func(a, b slot) int { return cmp.Compare(a.generation, b.generation) })
	if worst.condition == isBlank {
		return f.fault(Damaged, errors.New("no slot was ever written"))
	}
	return f.slotFault(&worst, worst.condition.kind(), worst.why)
}

// judgeOther compares a slot with what the newest record says of it.
func (f *file) judgeOther(l *loaded, s *slot, newest *openedRecord) *Fault {
	held := newest.table[s.number]
	switch s.condition {
	case isTorn:
		if l.known && l.mark.Generation >= s.generation {
			return f.slotFault(s, Torn, nil)
		}
		l.note(f, s, fmt.Sprintf("slot %d has a part of generation %d, whose save did not end; nobody was told of it", s.number, s.generation))
	case isDamaged:
		if !s.known || s.generation != held {
			return f.slotFault(s, Damaged, s.why)
		}
		if held == 0 {
			l.note(f, s, fmt.Sprintf("slot %d, which was not used yet, is damaged", s.number))
			break
		}
		l.note(f, s, fmt.Sprintf("slot %d is damaged: generation %d, an older one, is lost", s.number, held))
	default:
		if s.generation != held {
			return f.slotFault(s, RolledBack, fmt.Errorf("the slot had generation %d or a newer one", held))
		}
	}
	return nil
}

// judgeAnchor compares the newest generation with what was told to the outside.
func (f *file) judgeAnchor(l *loaded, good []*slot) *Fault {
	newest := good[0].record
	f.anchored = l.known
	if f.cfg.Arriving {
		return nil
	}
	if !l.known {
		if l.lost != nil || f.cfg.Anchor != nil && newest.anchored {
			return f.fault(Unanchored, l.lost)
		}
		return nil
	}
	if l.mark.Generation > newest.generation {
		fault := f.fault(RolledBack, nil)
		fault.Found = newest.generation
		return fault
	}
	for _, s := range good {
		if s.record.generation == l.mark.Generation && digest(s.record.text.Expose()) != l.mark.Digest {
			return f.slotFault(s, Forked, nil)
		}
	}
	return nil
}

func (f *file) slotFault(s *slot, k Kind, why error) *Fault {
	fault := f.fault(k, why)
	fault.Slot, fault.Offset, fault.Found = s.number, f.head.slotAt(s.number)+s.offset, s.generation
	if s.condition == isForeign {
		fault.ID = s.head.id
	}
	return fault
}

func (l *loaded) note(f *file, s *slot, text string) {
	l.notices = append(l.notices, Notice{s.condition.kind(), s.number, f.head.slotAt(s.number) + s.offset, text})
}

// take makes the newest generation the one that the file goes on from.
func (f *file) take(l *loaded, newest *slot) {
	f.table = newest.record.table
	for i := range l.slots {
		if s := &l.slots[i]; s.condition == isTorn || s.condition == isDamaged {
			f.table[i] = 0
		}
	}
	f.setLast(&newest.record.record, newest.record.text.Expose())
	f.next = l.highest() + 1
	f.notices, f.whole = l.notices, l.mend
	if now := f.cfg.now(); !now.IsZero() && f.saved.After(now) {
		f.notices = append(f.notices, Notice{ClockBack, noSlot, -1, fmt.Sprintf("generation %d was saved at %s, and the clock says %s: generations are told apart by number, not by time",
			f.last.Generation, f.saved.Format("2006-01-02 15:04:05"), now.UTC().Format("2006-01-02 15:04:05"))})
	}
}

// setLast notes what was saved or opened last.
func (f *file) setLast(r *record, text []byte) {
	f.last = Mark{r.generation, digest(text)}
	f.saved, f.ledgered = timeOf(r.saved), r.anchored
	f.meta = append(f.meta[:0], r.meta...)
	f.target = oldest(f.table)
}

// oldest is the slot whose content is needed least.
func oldest(table [slotCount]uint64) int {
	at := 0
	for i, g := range table {
		if g < table[at] {
			at = i
		}
	}
	return at
}
