package guestimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/assay-project/assay/uefi/authenticode"
)

// A Section is one that systemd's stub looks for in its own image.
type Section struct {
	Name string // ".osrel", ".cmdline", ".linux", ".initrd"…
	Data []byte
}

// ErrStub is a stub that sections cannot be added to; it is wrapped with the reason.
var ErrStub = errors.New("not a stub that a unified kernel image can be made of")

const (
	peOffset      = 0x3C // of the offset of the PE header
	optional      = 24   // of the optional header, from the PE header
	sectionHeader = 40   // bytes
	pageSize      = 4096
	maxImage      = 1 << 30 // bytes, in the file and in memory

	machineAMD64   = 0x8664
	magicPE32Plus  = 0x20B
	efiApplication = 10
	// readData is IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ.
	readData = 0x40000040
	// stubMagic is how systemd's stub says what it is, in its section .sdmagic.
	stubMagic = "#### LoaderInfo: systemd-stub "
)

// UKI appends sections to systemd's stub, in this order, which is not that of their
// measurement. The image has no signature. A stub that is signed or is none, that has
// one of the sections already, or whose headers contradict themselves is [ErrStub].
func UKI(stub []byte, sections ...Section) ([]byte, error) {
	p, err := parseStub(stub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStub, err)
	}
	out := bytes.Clone(stub[:p.fileEnd])
	for _, s := range sections {
		if err := p.check(s); err != nil {
			return nil, err
		}
		p.names[s.Name] = true
		out = p.add(out, s)
	}
	le, o := binary.LittleEndian, p.at+optional
	le.PutUint16(out[p.at+6:], uint16(p.count)) // NumberOfSections
	le.PutUint64(out[p.at+12:], 0)              // no symbols: they stood behind the last section
	le.PutUint32(out[o+8:], le.Uint32(out[o+8:])+p.data)
	le.PutUint32(out[o+56:], alignUp(p.memoryEnd, p.sectionAlign))
	le.PutUint32(out[o+64:], 0) // CheckSum, which firmware does not look at
	return out, nil
}

// A layout is where the next section of an image goes.
type layout struct {
	at, table               uint32 // of the PE header and of the section table
	count                   int
	room                    int // section headers that fit
	fileAlign, sectionAlign uint32
	fileEnd, memoryEnd      uint32
	data                    uint32 // bytes that were added
	names                   map[string]bool
}

// parseStub finds where a stub ends. [authenticode.Parse] has looked that the headers
// are within the file.
func parseStub(stub []byte) (*layout, error) {
	image, err := authenticode.Parse(bytes.NewReader(stub), int64(len(stub)))
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	at := le.Uint32(stub[peOffset:])
	o := at + optional
	p := &layout{
		at: at, table: o + uint32(le.Uint16(stub[at+20:])), count: len(image.Sections),
		sectionAlign: le.Uint32(stub[o+32:]), fileAlign: le.Uint32(stub[o+36:]),
		names: map[string]bool{},
	}
	headers := le.Uint32(stub[o+60:])
	switch {
	case image.Signed():
		return nil, errors.New("it is signed")
	case image.Machine != machineAMD64 || image.Subsystem != efiApplication || le.Uint16(stub[o:]) != magicPE32Plus:
		return nil, errors.New("it is no EFI application for x86-64")
	case !powerOfTwo(p.fileAlign) || !powerOfTwo(p.sectionAlign) || p.sectionAlign < p.fileAlign:
		return nil, fmt.Errorf("its sections are aligned to %d in the file and %d in memory", p.fileAlign, p.sectionAlign)
	case len(stub) > maxImage:
		return nil, fmt.Errorf("it has %d bytes: %w", len(stub), ErrSize)
	}
	p.fileEnd, p.memoryEnd = headers, headers
	p.room = int(headers-p.table) / sectionHeader
	for _, s := range image.Sections {
		end := uint64(s.VirtualAddress) + uint64(max(s.VirtualSize, s.Size))
		if end > maxImage {
			return nil, fmt.Errorf("its section %q ends at %d in memory: %w", s.Name, end, ErrSize)
		}
		p.memoryEnd = max(p.memoryEnd, uint32(end))
		p.names[s.Name] = true
		if s.Size > 0 {
			p.fileEnd = max(p.fileEnd, s.Offset+s.Size)
		}
	}
	return p, isStub(image)
}

// powerOfTwo holds what an alignment may be (PE Format, "Optional Header
// Windows-Specific Fields").
func powerOfTwo(n uint32) bool { return n >= 512 && n <= 64<<10 && n&(n-1) == 0 }

// isStub looks whether the program is one that reads the sections at all.
func isStub(image *authenticode.Image) error {
	s, ok := image.Section(".sdmagic")
	if !ok {
		return errors.New("it has no section .sdmagic, and is not systemd's")
	}
	text := make([]byte, len(stubMagic))
	if _, err := io.ReadFull(image.Open(s), text); err != nil || string(text) != stubMagic {
		return fmt.Errorf("its section .sdmagic does not begin with %q", stubMagic)
	}
	return nil
}

// check refuses a section that the image has no place for.
func (p *layout) check(s Section) error {
	switch {
	case len(s.Name) < 2 || len(s.Name) > 8 || !strings.HasPrefix(s.Name, ".") || strings.ContainsRune(s.Name, 0):
		return fmt.Errorf("section %q: %w", s.Name, ErrName)
	case p.names[s.Name]:
		return fmt.Errorf("section %q: %w", s.Name, ErrExists)
	case p.count >= p.room:
		return fmt.Errorf("section %q: the stub has room for %d section headers: %w", s.Name, p.room, ErrSize)
	case len(s.Data) == 0:
		return fmt.Errorf("section %q is empty: %w", s.Name, ErrSize)
	case uint64(len(s.Data))+uint64(p.fileEnd)+2*uint64(p.sectionAlign) > maxImage,
		uint64(len(s.Data))+uint64(p.memoryEnd)+2*uint64(p.sectionAlign)+pageSize > maxImage:
		return fmt.Errorf("section %q of %d bytes: %w", s.Name, len(s.Data), ErrSize)
	}
	return nil
}

// add writes a section behind the others, on a page of its own in memory. The caller
// has checked that it fits.
func (p *layout) add(out []byte, s Section) []byte {
	size := uint32(len(s.Data))
	address := alignUp(p.memoryEnd, max(p.sectionAlign, pageSize))
	offset := alignUp(p.fileEnd, p.fileAlign)
	raw := alignUp(size, p.fileAlign)
	out = append(out, make([]byte, offset-p.fileEnd)...)
	out = append(out, s.Data...)
	out = append(out, make([]byte, raw-size)...)

	le := binary.LittleEndian
	h := out[p.table+uint32(p.count)*sectionHeader:][:sectionHeader]
	clear(h)
	copy(h, s.Name)
	le.PutUint32(h[8:], size)
	le.PutUint32(h[12:], address)
	le.PutUint32(h[16:], raw)
	le.PutUint32(h[20:], offset)
	le.PutUint32(h[36:], readData)

	p.count++
	p.fileEnd, p.memoryEnd = offset+raw, address+size
	p.data += raw
	return out
}

func alignUp(n, align uint32) uint32 { return (n + align - 1) &^ (align - 1) }
