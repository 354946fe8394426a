// Package varstore reads and writes the variable stores of OVMF: the firmware
// volume that holds a virtual machine's UEFI variables, PK, KEK, db and dbx
// among them, with its authenticated variables and its area for writes that
// survive a loss of power.
//
// [Parse] checks shape only. Who can write the file can write any variable into
// it: signatures are firmware's business while the machine runs, and package
// sigdb's before. A store that was not changed is written back byte for byte; a
// changed one is written compacted, without deleted variables. Never change the
// store of a machine that runs. Start with [Parse] and [Store.Set].
//
// UEFI Platform Initialization Specification 1.8, volume 3, chapters 3 and 4; the
// variable format of edk2 (VariableFormat.h), with the layouts that OVMF builds
// of 2 MB and 4 MB have.
package varstore

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"unicode/utf16"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/wire"
)

// A Layout is the division of a store's file.
type Layout uint8

// The layouts that OVMF has. The zero Layout is none.
const (
	OVMF2M Layout = iota + 1 // 128 KB
	OVMF4M                   // 528 KB
)

// A geometry is what a layout says; offsets from the start of the file.
type geometry struct {
	name    string
	size    int // of the file
	end     int // of the region that holds the variables
	working int // the working block of fault-tolerant writes
	spare   int
	largest int // header, name and data of an authenticated variable
}

// geometries are those of OVMF's VarStore.fdf.inc; the last number is
// PcdMaxAuthVariableSize.
var geometries = map[Layout]geometry{
	OVMF2M: {"OVMF, 2 MB", 0x20000, 0xE000, 0xF000, 0x10000, 0x2800},
	OVMF4M: {"OVMF, 4 MB", 0x84000, 0x40000, 0x41000, 0x42000, 0x8400},
}

func (l Layout) String() string { return geometries[l].name }

// Size is the size of a file of this layout, 0 for the zero Layout.
func (l Layout) Size() int { return geometries[l].size }

// MaxVariable is the size that header, name and data of one authenticated variable
// may have together. Firmware refuses larger ones.
func (l Layout) MaxVariable() int { return geometries[l].largest }

// Variable is a live variable of a store. Slices alias the store: do not change
// them.
type Variable struct {
	Vendor     uefi.GUID
	Name       string
	Attributes uint32
	Monotonic  uint64
	Time       uefi.Time // zero unless it was written with a time
	Data       []byte
}

// A Store is a parsed variable store.
type Store struct {
	layout  Layout
	raw     []byte
	entries []entry // live, in order
	changed bool
	pending bool
	notices []evidence.Reason
}

// New returns an empty store, as OVMF comes with.
func New(l Layout) *Store {
	g, ok := geometries[l]
	if !ok {
		return nil
	}
	b := bytes.Repeat([]byte{0xFF}, g.size)
	copy(b, volumeHeader(g))
	copy(b[volumeSize:], storeHeader(g))
	copy(b[g.working:], workingHeader())
	return &Store{layout: l, raw: b}
}

// Layout is the division of the store's file.
func (s *Store) Layout() Layout { return s.layout }

// Notices are what is odd about the store as it was read and takes nothing from
// it, such as a write that a loss of power cut short.
func (s *Store) Notices() []evidence.Reason { return slices.Clone(s.notices) }

// Pending reports that firmware changes the store at its next start, by a write that
// it was interrupted in: what the store holds until then says nothing of after.
func (s *Store) Pending() bool { return s.pending }

// All iterates over the live variables, in the order of the file.
func (s *Store) All() iter.Seq[Variable] {
	return func(yield func(Variable) bool) {
		for i := range s.entries {
			if !yield(s.entries[i].variable()) {
				return
			}
		}
	}
}

// Get returns a variable; ok is false when there is none of that vendor and name.
func (s *Store) Get(vendor uefi.GUID, name string) (v Variable, ok bool) {
	i := s.find(vendor, rawName(name))
	if i < 0 {
		return Variable{}, false
	}
	return s.entries[i].variable(), true
}

func (s *Store) find(vendor uefi.GUID, name []byte) int {
	return slices.IndexFunc(s.entries, func(e entry) bool { return e.Vendor == vendor && bytes.Equal(e.name, name) })
}

// rawName is a name as stored: UTF-16 with a NUL.
func rawName(name string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(name)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return append(out, 0, 0)
}

// Set writes a variable, in the place of one of its vendor and name. It checks
// what firmware would refuse for its size, no signature and no attributes.
func (s *Store) Set(v Variable) error {
	if err := s.writable(); err != nil {
		return err
	}
	e := entry{header: header{
		Attributes: v.Attributes, Monotonic: v.Monotonic, Time: v.Time, Vendor: v.Vendor, state: stateAdded,
	}, name: rawName(v.Name), data: bytes.Clone(v.Data)}
	g := geometries[s.layout]
	if v.Name == "" || len(v.Name) > maxName || len(v.Data) == 0 {
		return evidence.Refuse(codeTooLarge, "variable %q has no name, a name that is too long, or no data", v.Name)
	}
	if n := headerSize + len(e.name) + len(e.data); n > g.largest {
		return evidence.Refuse(codeTooLarge, "variable %q takes %d bytes, and this build of the firmware takes %d", v.Name, n, g.largest).About(v.Name)
	}
	next := slices.Clone(s.entries)
	if i := s.find(v.Vendor, e.name); i >= 0 {
		next[i] = e
	} else {
		next = append(next, e)
	}
	used := volumeSize + storeSize
	for i := range next {
		used += next[i].size()
	}
	if used > g.end {
		return evidence.Refuse(codeTooLarge, "the store holds %d bytes of variables, and with %q there would be %d", g.end-volumeSize-storeSize, v.Name, used-volumeSize-storeSize).About(v.Name)
	}
	s.entries, s.changed = next, true
	return nil
}

// Delete removes a variable; found is false when there was none.
func (s *Store) Delete(vendor uefi.GUID, name string) (found bool, err error) {
	if err := s.writable(); err != nil {
		return false, err
	}
	i := s.find(vendor, rawName(name))
	if i < 0 {
		return false, nil
	}
	s.entries = slices.Delete(slices.Clone(s.entries), i, i+1)
	s.changed = true
	return true, nil
}

func (s *Store) writable() error {
	if s.pending {
		return evidence.Refuse(codePending, "the firmware was interrupted while it wrote, and finishes that at its next start")
	}
	return nil
}

// Bytes returns the file: the bytes that were parsed when nothing was changed. The
// queue of writes of a changed store is empty.
func (s *Store) Bytes() ([]byte, error) {
	out := bytes.Clone(s.raw)
	if !s.changed {
		return out, nil
	}
	g := geometries[s.layout]
	at := volumeSize + storeSize
	for i := range s.entries {
		e := &s.entries[i]
		b, err := wire.EncodeLE(e)
		if err != nil {
			return nil, err
		}
		at += copy(out[at:g.end], b)
	}
	erase(out[at:g.end])
	// No write of before may come back over this one: neither queue nor spare block
	// keeps anything.
	erase(out[g.working:])
	copy(out[g.working:], workingHeader())
	return out, nil
}

// erase puts b in the state of flash that nothing was written to.
func erase(b []byte) {
	for i := range b {
		b[i] = 0xFF
	}
}
