package authenticode

import (
	"bytes"
	"cmp"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"

	"github.com/assay-project/assay/evidence"
)

const (
	maxSections     = 512
	maxHeaders      = 1 << 20 // bytes; real images have one to four KB
	maxCertificates = 1 << 20 // bytes of the attribute certificate table

	fileHeaderSize    = 20
	sectionHeaderSize = 40
	directorySecurity = 4 // IMAGE_DIRECTORY_ENTRY_SECURITY
)

// Section is one entry of an image's section table.
type Section struct {
	Name           string
	VirtualSize    uint32
	VirtualAddress uint32
	Size           uint32 // SizeOfRawData
	Offset         uint32 // PointerToRawData
}

// An Image is a PE image whose headers fit together. What it does and who signed it
// is not known: see [Image.Verify]. It is not safe for concurrent use.
type Image struct {
	r    io.ReaderAt
	size int64

	Machine   uint16 // IMAGE_FILE_MACHINE_*
	Subsystem uint16 // IMAGE_SUBSYSTEM_*
	Sections  []Section

	headers      int64 // SizeOfHeaders
	checksum     int64 // offset of CheckSum
	directory    int64 // offset of the security directory; 0 when there is none
	certificates span
	digests      map[crypto.Hash][]byte
}

type span struct{ at, size int64 }

func malformed(format string, args ...any) error {
	return evidence.Refuse(codeMalformed, format, args...)
}

// Parse reads the headers of a PE image of size bytes, with the checks that
// firmware makes before it looks at signatures. An error that is no
// [evidence.Refusal] is r's.
func Parse(r io.ReaderAt, size int64) (*Image, error) {
	if size < 64 || size > math.MaxUint32 {
		return nil, malformed("an image of %d bytes", size)
	}
	i := &Image{r: r, size: size, digests: map[crypto.Hash][]byte{}}
	dos, err := i.read(0, 64)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(dos, []byte("MZ")) {
		return nil, malformed("the file does not begin as a PE image does")
	}
	at := int64(binary.LittleEndian.Uint32(dos[0x3C:]))
	head, err := i.read(at, 4+fileHeaderSize)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte("PE\x00\x00")) {
		return nil, malformed("there is no PE header at byte %d", at)
	}
	i.Machine = binary.LittleEndian.Uint16(head[4:])
	sections := int(binary.LittleEndian.Uint16(head[6:]))
	optional := int64(binary.LittleEndian.Uint16(head[20:]))
	at += 4 + fileHeaderSize
	if err := i.parseOptional(at, optional); err != nil {
		return nil, err
	}
	return i, i.parseSections(at+optional, sections)
}

// read returns n bytes at an offset that a header of the image gave.
func (i *Image) read(at, n int64) ([]byte, error) {
	if at < 0 || at > i.size-n {
		return nil, malformed("%d bytes at %d are not there: the image has %d", n, at, i.size)
	}
	b := make([]byte, n)
	if _, err := i.r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return b, nil
}

// parseOptional reads the optional header of PE32 or PE32+.
func (i *Image) parseOptional(at, size int64) error {
	b, err := i.read(at, size)
	if err != nil {
		return err
	}
	fixed := 0 // the size without data directories
	if len(b) >= 2 {
		fixed = map[uint16]int{0x10B: 96, 0x20B: 112}[binary.LittleEndian.Uint16(b)]
	}
	if fixed == 0 || len(b) < fixed {
		return malformed("the optional header is neither that of PE32 nor that of PE32+")
	}
	directories := binary.LittleEndian.Uint32(b[fixed-4:])
	if directories > 16 || int(directories)*8 != len(b)-fixed {
		return malformed("%d data directories in an optional header of %d bytes", directories, len(b))
	}
	i.headers = int64(binary.LittleEndian.Uint32(b[60:]))
	i.checksum = at + 64
	i.Subsystem = binary.LittleEndian.Uint16(b[68:])
	if i.headers < at+size || i.headers >= i.size || i.headers > maxHeaders {
		return malformed("headers of %d bytes", i.headers)
	}
	if directories <= directorySecurity {
		return nil
	}
	i.directory = at + int64(fixed) + 8*directorySecurity
	d := b[fixed+8*directorySecurity:]
	i.certificates = span{int64(binary.LittleEndian.Uint32(d)), int64(binary.LittleEndian.Uint32(d[4:]))}
	switch c := i.certificates; {
	case c.size == 0:
		return nil
	case c.size > maxCertificates || c.at < i.headers || c.at+c.size > i.size:
		return malformed("a certificate table of %d bytes at %d", c.size, c.at)
	}
	return nil
}

func (i *Image) parseSections(at int64, count int) error {
	if count > maxSections || at+int64(count)*sectionHeaderSize > i.headers {
		return malformed("%d sections in headers of %d bytes", count, i.headers)
	}
	b, err := i.read(at, int64(count)*sectionHeaderSize)
	if err != nil {
		return err
	}
	for ; len(b) > 0; b = b[sectionHeaderSize:] {
		le := binary.LittleEndian
		name, _, _ := bytes.Cut(b[:8], []byte{0})
		s := Section{string(name), le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:])}
		if s.Size > 0 && (int64(s.Offset) < i.headers || int64(s.Offset)+int64(s.Size) > i.size) {
			return malformed("section %q has %d bytes at %d", s.Name, s.Size, s.Offset)
		}
		i.Sections = append(i.Sections, s)
	}
	return nil
}

// Section returns the first section of a name.
func (i *Image) Section(name string) (s Section, ok bool) {
	at := slices.IndexFunc(i.Sections, func(s Section) bool { return s.Name == name })
	if at < 0 {
		return Section{}, false
	}
	return i.Sections[at], true
}

// Open reads what a section has in the file, without the fill up to its alignment.
// In memory zeros follow up to VirtualSize.
func (i *Image) Open(s Section) *io.SectionReader {
	return io.NewSectionReader(i.r, int64(s.Offset), int64(min(s.Size, s.VirtualSize)))
}

// Signed reports whether the image has a certificate table, of whatever content.
func (i *Image) Signed() bool { return i.certificates.size > 0 }

// Digest computes the Authenticode digest as firmware and TPM have it: of the file
// as it is, without fill at its end. Tools that sign fill a file to a multiple of 8
// bytes first, and give the digest of that.
func (i *Image) Digest(h crypto.Hash) ([]byte, error) {
	if d, ok := i.digests[h]; ok {
		return d, nil
	}
	if !h.Available() {
		return nil, errors.New("digest algorithm is not available")
	}
	parts, err := i.parts()
	if err != nil {
		return nil, err
	}
	w := h.New()
	for _, p := range parts {
		if err := i.hash(w, p); err != nil {
			return nil, err
		}
	}
	i.digests[h] = w.Sum(nil)
	return i.digests[h], nil
}

func (i *Image) hash(w hash.Hash, p span) error {
	n, err := io.Copy(w, io.NewSectionReader(i.r, p.at, p.size))
	if err == nil && n != p.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read image: %w", err)
	}
	return nil
}

// parts are what is hashed, in order (Windows Authenticode Portable Executable
// Signature Format, "Calculating the PE image hash").
func (i *Image) parts() ([]span, error) {
	out := []span{{0, i.checksum}}
	if i.directory == 0 {
		out = append(out, between(i.checksum+4, i.headers))
	} else {
		out = append(out, between(i.checksum+4, i.directory), between(i.directory+8, i.headers))
	}
	sorted := slices.Clone(i.Sections)
	slices.SortStableFunc(sorted, func(a, b Section) int { return cmp.Compare(a.Offset, b.Offset) })
	sum := i.headers
	for _, s := range sorted {
		if s.Size > 0 {
			out = append(out, span{int64(s.Offset), int64(s.Size)})
			sum += int64(s.Size)
		}
	}
	// What is left begins where the hashed bytes would end if they were in one
	// piece, and ends where the certificates would if they were the file's end.
	// Sections that overlap may hash more than there is: firmware takes some such
	// files, no tool makes them, and here they are refused.
	end := i.size - i.certificates.size
	if sum > end {
		return nil, malformed("sections and certificates overlap")
	}
	return append(out, between(sum, end)), nil
}

func between(from, to int64) span { return span{from, to - from} }
