package varstore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/wire"
)

// Reason codes, explained in package evidence.
const (
	codeMalformed evidence.Code = "varstore.malformed"
	codeLayout    evidence.Code = "varstore.layout"
	codePlain     evidence.Code = "varstore.not-authenticated"
	codeDuplicate evidence.Code = "varstore.duplicate"
	codePending   evidence.Code = "varstore.pending-write"
	codeTorn      evidence.Code = "varstore.torn"
	codeTooLarge  evidence.Code = "varstore.too-large"
)

const (
	maxEntries     = 4096 // a store has room for about as many
	qcow2Signature = "QFI\xfb"
)

// Parse reads the file of a variable store. Every error is an [evidence.Refusal].
// The store keeps a copy of b.
func Parse(b []byte) (*Store, error) {
	l, err := layoutOf(b)
	if err != nil {
		return nil, err
	}
	s := &Store{layout: l, raw: bytes.Clone(b)}
	if err := s.parseVariables(); err != nil {
		return nil, err
	}
	return s, s.parseWorking()
}

// layoutOf finds the layout by size and checks the headers that it says.
func layoutOf(b []byte) (Layout, error) {
	var l Layout
	for known, g := range geometries {
		if len(b) == g.size {
			l = known
		}
	}
	switch {
	case bytes.HasPrefix(b, []byte(qcow2Signature)):
		return 0, evidence.Refuse(codeLayout, "the file is a qcow2 image: convert it with qemu-img convert -O raw")
	case l == 0:
		return 0, evidence.Refuse(codeLayout, "a file of %d bytes is no variable store of OVMF: those have 131072 or 540672", len(b))
	}
	g := geometries[l]
	want := volumeHeader(g)
	if !bytes.Equal(b[:volumeSize], want) {
		return 0, evidence.Refuse(codeMalformed, "the header of the volume is not that of %s", g.name)
	}
	if uefi.GUID(b[volumeSize:][:16]) == guidPlain {
		return 0, evidence.Refuse(codePlain, "the store is of a firmware without authenticated variables")
	}
	if !bytes.Equal(b[volumeSize:][:22], storeHeader(g)[:22]) {
		return 0, evidence.Refuse(codeMalformed, "the header of the store is not that of %s", g.name)
	}
	return l, nil
}

// parseVariables reads the variables, of all states.
func (s *Store) parseVariables() error {
	end := geometries[s.layout].end
	seen := sightings{map[string]int{}, map[string]bool{}}
	at := volumeSize + storeSize
	for n := 0; at+headerSize <= end && binary.LittleEndian.Uint16(s.raw[at:]) == 0x55AA; n++ {
		var e entry
		rest, err := wire.DecodePrefixLE(s.raw[at:end], &e)
		if err != nil || n == maxEntries {
			return evidence.Refuse(codeMalformed, "variable %d at byte %d runs out of its store", n, at)
		}
		if err := s.take(e, at, seen); err != nil {
			return err
		}
		at = (end - len(rest) + 3) &^ 3
	}
	for _, b := range s.raw[min(at, end):end] {
		if b != 0xFF {
			s.notice(codeTorn, "the room after byte %d should be erased and is not: firmware cleans it at its next start", at)
			break
		}
	}
	s.settle(seen)
	return nil
}

func (s *Store) notice(code evidence.Code, format string, args ...any) {
	s.notices = append(s.notices, evidence.Refuse(code, format, args...).Reason)
}

// sightings are what was seen of each vendor and name: the entry in transition, by
// its index, and whether there is a newer one.
type sightings struct {
	older map[string]int
	newer map[string]bool
}

func (e *entry) key() string { return string(e.Vendor[:]) + string(e.name) }

// take adds an entry that is live, or may be. Firmware compares whole states: one
// that is none of these is deleted.
func (s *Store) take(e entry, at int, seen sightings) error {
	switch e.state {
	case stateAdded, stateTransition:
	case stateHeaderOnly, stateNone:
		s.notice(codeTorn, "the variable at byte %d was being written when the power went", at)
		return nil
	default:
		return nil
	}
	if !e.whole() {
		return evidence.Refuse(codeMalformed, "the variable at byte %d has no name or no data", at)
	}
	key, name := e.key(), uefi.Text(e.name)
	if e.state == stateAdded {
		if seen.newer[key] {
			return evidence.Refuse(codeDuplicate, "there are two variables %q", name).About(name)
		}
		seen.newer[key] = true
	} else {
		if _, twice := seen.older[key]; twice {
			return evidence.Refuse(codeDuplicate, "two variables %q are being replaced", name).About(name)
		}
		seen.older[key] = len(s.entries)
		s.notice(codeTorn, "the variable %q was being replaced when the power went", name)
	}
	s.entries = append(s.entries, e)
	return nil
}

// settle drops entries in transition that have a successor; the others are live.
func (s *Store) settle(seen sightings) {
	live := s.entries[:0]
	for _, e := range s.entries {
		if e.state == stateTransition && seen.newer[e.key()] {
			continue
		}
		e.state = stateAdded
		live = append(live, e)
	}
	s.entries = live
}

// Sizes of EFI_FAULT_TOLERANT_WRITE_HEADER and EFI_FAULT_TOLERANT_WRITE_RECORD.
const (
	writeHeaderSize = 40
	writeRecordSize = 40
)

// parseWorking looks for a write that firmware has begun and not finished. A queue
// that is erased, or whose last write is complete, is none.
func (s *Store) parseWorking() error {
	g := geometries[s.layout]
	b := s.raw[g.working : g.working+blockSize]
	head := bytes.Clone(b[:workingSize])
	state := head[20]
	for i := range 5 { // the checksum leaves out itself and the state
		head[16+i] = 0xFF
	}
	sum := binary.LittleEndian.Uint32(b[16:])
	queue := binary.LittleEndian.Uint64(b[24:])
	if uefi.GUID(b[:16]) != guidWorking || crc32.ChecksumIEEE(head) != sum || state&3 != 2 || queue != blockSize-workingSize {
		// Firmware makes the block anew, or takes the spare one in its place.
		s.pending = true
		s.notice(codePending, "the block that guards writes is not valid: firmware repairs it at its next start")
		return nil
	}
	if !idle(b[workingSize:]) {
		s.pending = true
		s.notice(codePending, "firmware was interrupted while it wrote, and finishes that at its next start")
	}
	return nil
}

// idle reports whether a queue ends in room that is erased. edk2's
// FtwGetLastWriteHeader goes from header to header by the bit Complete alone.
func idle(q []byte) bool {
	for len(q) >= writeHeaderSize && q[0]&4 == 0 { // Complete, by a cleared bit
		writes, private := binary.LittleEndian.Uint64(q[24:]), binary.LittleEndian.Uint64(q[32:])
		if writes > blockSize || private > blockSize {
			return false
		}
		size := writeHeaderSize + writes*(writeRecordSize+private)
		if size > uint64(len(q)) {
			return false
		}
		q = q[size:]
	}
	for _, b := range q[:min(writeHeaderSize, len(q))] {
		if b != 0xFF {
			return false
		}
	}
	return true
}
