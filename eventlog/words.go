package eventlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"

	"github.com/assay-project/assay/eventlog/sipa"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
)

// asciiText returns data for display, up to its first NUL.
func asciiText(data []byte) string {
	if len(data) >= 4 && data[1] == 0 && data[0] != 0 && data[3] == 0 {
		return uefi.Text(data)
	}
	data = data[:min(len(data), 4096)]
	text, _, _ := strings.Cut(string(data), "\x00")
	return printableText(text)
}

// printableText replaces what a terminal would act on.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		default:
			return r
		}
	}, s)
}

// versionText reads a firmware version: UTF-16 text, ASCII, or a GUID.
func versionText(data []byte) string {
	if len(data) == 16 && (data[1] != 0 || data[3] != 0) {
		return uefi.GUID(data).String()
	}
	return asciiText(data)
}

// isSBAT reports whether an authority is shim's measurement of the SBAT level.
func (au *authority) isSBAT() bool { return au.variable.Is(uefi.ShimLock, "SbatLevel") }

// certificateOf returns the certificate of an authority: an EFI_SIGNATURE_DATA
// (owner, then certificate) from the firmware, or the bare certificate from shim.
func certificateOf(v *uefi.VariableData) (der []byte, subject, issuer string, ok bool) {
	for _, der := range [...][]byte{v.Data, v.Data[min(len(v.Data), 16):]} {
		if subject, issuer, ok := sigdb.Names(der); ok {
			return der, subject, issuer, true
		}
	}
	return nil, "", "", false
}

// line writes an authority as the variable's name, a digest and the subject of
// its certificate; without a certificate the digest is that of the raw value.
func (au *authority) line() string {
	if der, subject, _, ok := certificateOf(&au.variable); ok {
		return au.variable.Name() + " " + certificateLine(der, subject)
	}
	return fmt.Sprintf("%s %x", au.variable.Name(), sha256.Sum256(au.variable.Data))
}

func (d *describer) authorityWords(j *judged) words {
	v, err := uefi.ParseVariableData(j.Data)
	if err != nil {
		return words{kind: KindAuthority, name: "authority that cannot be read"}
	}
	w := words{kind: KindAuthority, name: v.Name(), proven: j.cover == coverWhole}
	au := authority{variable: v}
	switch der, subject, issuer, ok := certificateOf(&v); {
	case au.isSBAT():
		w.detail = printableText(strings.TrimRight(string(v.Data), "\x00\n "))
		w.name = "SBAT level"
	case ok:
		w.detail = fmt.Sprintf("%x", sha256.Sum256(der))
		w.name += " certificate " + subject
		w.signer = issuer
		d.signer = subject
	default:
		w.detail = fmt.Sprintf("%x", v.Data[:min(len(v.Data), 64)])
	}
	return w
}

// firmwareName names a part of the firmware. An EV_EFI_PLATFORM_FIRMWARE_BLOB is
// an address and a length (PFP 10.2.4), of which BLOB2 has a text before.
func firmwareName(j *judged) string {
	switch data := j.Data; j.Type {
	case EFIPlatformFirmwareBlob:
		if len(data) == 16 {
			return blobName(data)
		}
	case EFIPlatformFirmwareBlob2:
		if n := 1 + int(at(data, 0)); len(data) == n+16 {
			return fmt.Sprintf("firmware %q", asciiText(data[1:n]))
		}
	case PostCode, PostCode2:
		if len(data) == 16 {
			return blobName(data)
		}
		return "firmware" + label(data)
	case CPUMicrocode:
		return "processor microcode"
	case EFIHCRTMEvent:
		return "root of trust for measurement in hardware"
	case SCRTMContents:
		return "root of trust for measurement" + label(data)
	}
	return "firmware"
}

func blobName(data []byte) string {
	return fmt.Sprintf("firmware at %#x, %d bytes", binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:]))
}

func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// label writes data in brackets when it is text, and nothing when it is not.
func label(data []byte) string {
	text := asciiText(data)
	if strings.ContainsRune(text, unicode.ReplacementChar) {
		return ""
	}
	return inBrackets(text)
}

func configName(j *judged) string {
	switch j.Type {
	case EFIHandoffTables, EFIHandoffTables2:
		return "tables handed to the boot loader"
	case PlatformConfigFlags:
		return "platform configuration" + label(j.Data)
	case CompactHash:
		return "measured code" + label(j.Data)
	default:
		return "configuration" + label(j.Data)
	}
}

// Tags of EV_EVENT_TAG events of Linux (efi/libstub, efistub.h) and systemd
// (tpm2-pcr.h). The tag is not hashed where the data is a file, so it is a hint.
var tagNames = map[uint32]struct{ kind, name string }{
	0x8F3B22EC: {KindInitrd, "initrd"},
	0x8F3B22ED: {KindCommandLine, "kernel command line"},
	0xF5BC582A: {KindConfig, "loader.conf"},
	0x6C46F751: {KindConfig, "devicetree"},
	0x49DFFE0F: {KindInitrd, "initrd add-on"},
	0xDAC08E1A: {KindFirmware, "microcode add-on"},
	0x13AED6DB: {KindCommandLine, "command line add-on"},
	0xD5CB7CBC: {KindConfig, "SMBIOS type 1"},
	0xE0D47BC8: {KindConfig, "SMBIOS type 2"},
	0xC0B3BD23: {KindConfig, "SMBIOS type 11"},
}

func tagWords(j *judged) words {
	id, body, ok := tagOf(j.Data)
	whole := j.cover == coverWhole
	switch known, found := tagNames[id]; {
	case !ok:
		return words{kind: KindOther, name: "tagged event that cannot be read"}
	case found:
		return words{kind: known.kind, name: known.name + inBrackets(asciiText(body)), proven: whole}
	case isSIPA(j.Data) || j.PCR == 14:
		return words{kind: KindConfig, name: "Windows boot: " + sipa.ID(id).String(), proven: whole}
	default:
		return words{kind: KindOther, name: fmt.Sprintf("tagged event %#08x", id), proven: whole}
	}
}

// gptDetail says which disk a UEFI_GPT_DATA is of (PFP 10.2.5): the header of
// UEFI 2.10, 5.3.2 (disk GUID at 56), then the number of partitions.
func gptDetail(data []byte) string {
	const header = 92
	if len(data) < header+8 || string(data[:8]) != "EFI PART" {
		return ""
	}
	return fmt.Sprintf("disk %v, %d partitions", uefi.GUID(data[56:72]), binary.LittleEndian.Uint64(data[header:]))
}
