// Package uefi reads the structures of UEFI firmware that boot records hold:
// GUIDs, variables as they are measured, boot options and device paths.
//
// It checks shape only and proves nothing: whether firmware ever had such a
// variable is for the reader of a measured log to say. Start with
// [ParseVariableData] and [DevicePathText].
//
// UEFI Specification 2.10; TCG PC Client Platform Firmware Profile 1.06 (PFP)
// for UEFI_VARIABLE_DATA.
package uefi

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf16"
)

// GUID is an EFI_GUID as stored: the first three fields are little endian
// (UEFI 2.10, appendix A).
type GUID [16]byte

// ErrGUID is a text that is no GUID.
var ErrGUID = errors.New("not a GUID")

// ParseGUID reads the text form, as in "8be4df61-93ca-11d2-aa0d-00e098032b8c".
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fmt.Errorf("%q: %w", s, ErrGUID)
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return g, fmt.Errorf("%q: %w", s, ErrGUID)
	}
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(b[0:]))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(b[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(b[6:]))
	copy(g[8:], b[8:])
	return g, nil
}

// MustGUID is [ParseGUID] for tables; it panics on a text that is no GUID.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[0:]), binary.LittleEndian.Uint16(g[4:]),
		binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// Vendors of variables that a boot measures. They are constants; do not assign.
var (
	// GlobalVariable is EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3): SecureBoot, PK, KEK, boot options.
	GlobalVariable = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	// ImageSecurityDatabase is EFI_IMAGE_SECURITY_DATABASE_GUID (UEFI 2.10, 32.6.1): db, dbx, dbt, dbr.
	ImageSecurityDatabase = MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	// ShimLock is the vendor of shim's variables: MokList, SbatLevel, …
	ShimLock = MustGUID("605dab50-e046-4300-abb6-3dd810dd8b23")
)

// maxText bounds every text that is decoded, in UTF-16 units. Kernels take
// command lines up to 4,096.
const maxText = 8192

// Text decodes little-endian UTF-16 up to the first NUL. What cannot be shown,
// control characters included, becomes the replacement character; text beyond a
// bound is cut.
func Text(b []byte) string {
	units := make([]uint16, 0, min(len(b)/2, maxText))
	for len(b) >= 2 && len(units) < maxText {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
		b = b[2:]
	}
	runes := utf16.Decode(units)
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = unicode.ReplacementChar
		}
	}
	return string(runes)
}

// equalText reports whether b is s in little-endian UTF-16; s is ASCII.
func equalText(b []byte, s string) bool {
	if len(b) != 2*len(s) {
		return false
	}
	for i := range len(s) {
		if b[2*i] != s[i] || b[2*i+1] != 0 {
			return false
		}
	}
	return true
}
