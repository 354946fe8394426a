// Package launchtest makes programs for tests of boot chains: PE images that have the
// form of shim, GRUB and a kernel, and do nothing.
//
// No firmware runs them. Start with [PE].
package launchtest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/assay-project/assay/internal/disk/disktest"
)

// A Section is a part of an image.
type Section struct {
	Name string
	Data []byte
}

const (
	align    = 512
	headers  = 1024
	peOffset = 128
	symbols  = headers - 128 // the table of long names, inside the headers
)

// PE makes an unsigned image of a UEFI application for x86-64.
func PE(sections ...Section) []byte {
	b := make([]byte, headers)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	coff := b[peOffset+4:]
	le.PutUint16(coff, 0x8664)
	le.PutUint16(coff[2:], uint16(len(sections)))
	le.PutUint32(coff[8:], symbols)
	le.PutUint16(coff[16:], 240)
	optional := coff[20:]
	le.PutUint16(optional, 0x20B)
	le.PutUint32(optional[32:], 4096)
	le.PutUint32(optional[36:], align)
	le.PutUint32(optional[60:], headers)
	le.PutUint16(optional[68:], 10)
	le.PutUint32(optional[108:], 16)
	var body []byte
	long := 4 // the length of the table comes first
	for n, s := range sections {
		h := optional[240+40*n:]
		name := s.Name
		if len(name) > 8 {
			copy(b[symbols+long:], name+"\x00")
			name = fmt.Sprintf("/%d", long)
			long += len(s.Name) + 1
		}
		copy(h, name)
		le.PutUint32(h[8:], uint32(len(s.Data)))
		le.PutUint32(h[12:], uint32(4096*(n+1)))
		size := (len(s.Data) + align - 1) / align * align
		le.PutUint32(h[16:], uint32(size))
		le.PutUint32(h[20:], uint32(headers+len(body)))
		body = append(body, s.Data...)
		body = append(body, make([]byte, size-len(s.Data))...)
	}
	return append(b, append(body, make([]byte, align)...)...)
}

// SBAT is a section of generations, as "grub,5" and "shim,4".
func SBAT(components ...string) Section {
	var text strings.Builder
	text.WriteString("sbat,1,SBAT Version,sbat,1,https://example.org\n")
	for _, c := range components {
		text.WriteString(c + ",vendor,package,2.06,https://example.org\n")
	}
	// shim takes a section whose size in the file is at least that in memory.
	return Section{".sbat", []byte(text.String() + strings.Repeat("\x00", (align-len(text.String())%align)%align))}
}

// Shim makes a shim that was built with a vendor's certificate and revocations, and
// that brings an SBAT level.
func Shim(certificate, revocations []byte, level string, more ...Section) []byte {
	le := binary.LittleEndian
	vendor := make([]byte, 16, 16+len(certificate)+len(revocations))
	le.PutUint32(vendor, uint32(len(certificate)))
	le.PutUint32(vendor[4:], uint32(len(revocations)))
	le.PutUint32(vendor[8:], 16)
	le.PutUint32(vendor[12:], uint32(16+len(certificate)))
	vendor = append(append(vendor, certificate...), revocations...)
	payload := make([]byte, 12, 12+2*len(level)+2)
	le.PutUint32(payload[4:], 8)
	le.PutUint32(payload[8:], uint32(8+len(level)+1))
	payload = append(payload, level+"\x00"+level+"\x00"...)
	return PE(append([]Section{{".vendor_cert", vendor}, {".sbatlevel", payload}}, more...)...)
}

// GRUB makes a GRUB that carries a script, as Debian's does.
func GRUB(script string, more ...Section) []byte {
	var objects []byte
	object := func(kind uint32, data []byte) {
		objects = binary.LittleEndian.AppendUint32(objects, kind)
		objects = binary.LittleEndian.AppendUint32(objects, uint32(8+len(data)))
		objects = append(objects, data...)
	}
	object(1, disktest.FAT(12, map[string][]byte{"grub.cfg": []byte(script)}))
	object(2, []byte("normal (memdisk)/grub.cfg\n\x00"))
	object(3, []byte("/EFI/debian\x00"))
	head := make([]byte, 24)
	copy(head, "mimg")
	binary.LittleEndian.PutUint64(head[8:], 24)
	binary.LittleEndian.PutUint64(head[16:], uint64(24+len(objects)))
	return PE(append([]Section{{"mods", append(head, objects...)}}, more...)...)
}

// Kernel makes what has the header of a Linux kernel of a version.
func Kernel(version string) []byte {
	b := PE(Section{".text", []byte(version + "\x00")})
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20E:], headers-0x200)
	return b
}

// UKI makes an image with systemd's stub in front, of a version as "252.39".
func UKI(version string, sections ...Section) []byte {
	magic := Section{".sdmagic", []byte("#### LoaderInfo: systemd-stub " + version + " ####\x00")}
	return PE(append([]Section{magic}, sections...)...)
}
