package sipa

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/assay-project/assay/tpm2"
)

// integer reads a number of 1, 2, 4 or 8 bytes; the header gives a type for
// each identifier, and Windows has written some of them in two widths.
func integer(b []byte) (n uint64, ok bool) {
	switch len(b) {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.LittleEndian.Uint16(b)), true
	case 4:
		return uint64(binary.LittleEndian.Uint32(b)), true
	case 8:
		return binary.LittleEndian.Uint64(b), true
	default:
		return 0, false
	}
}

// boolean reads a BOOLEAN: 0 or 1, and nothing else is true.
func boolean(b []byte) (v, ok bool) {
	n, ok := integer(b)
	return n == 1, ok && n <= 1
}

// maxText bounds the characters of a name; a Windows path has at most 32,767,
// a boot driver's under 200.
const maxText = 4096

// text reads a UTF-16 string up to its first NUL. Control characters become
// U+FFFD, since names are shown to people.
func text(b []byte) (s string, ok bool) {
	if len(b)%2 != 0 || len(b) > 2*maxText {
		return "", false
	}
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) > 0; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	clean := func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}
	return strings.Map(clean, string(utf16.Decode(units))), true
}

// digestText writes a digest as "sha256:…"; ok is false when its length is not
// that of the algorithm.
func digestText(alg tpm2.Alg, digest []byte) (s string, ok bool) {
	if n := alg.DigestSize(); n == 0 || n != len(digest) {
		return "", false
	}
	return alg.BankName() + ":" + hex.EncodeToString(digest), true
}

// siPolicy reads SIPAEVENT_SI_POLICY_PAYLOAD: version u64, length of the name
// u16, algorithm u16, length of the digest u32, name, digest.
func siPolicy(b []byte) (s string, ok bool) {
	const fixed = 8 + 2 + 2 + 4
	if len(b) < fixed {
		return "", false
	}
	nameLen := int(binary.LittleEndian.Uint16(b[8:]))
	alg := tpm2.Alg(binary.LittleEndian.Uint16(b[10:]))
	digestLen := binary.LittleEndian.Uint32(b[12:])
	rest := b[fixed:]
	if uint64(nameLen)+uint64(digestLen) != uint64(len(rest)) {
		return "", false
	}
	name, ok := text(rest[:nameLen])
	if !ok || name == "" {
		return "", false
	}
	digest, ok := digestText(alg, rest[nameLen:])
	return name + " " + digest, ok
}

// revocationList reads SIPAEVENT_REVOCATION_LIST_PAYLOAD: time of creation u64,
// length of the digest u32, algorithm u16, digest.
func revocationList(b []byte) (s string, ok bool) {
	const fixed = 8 + 4 + 2
	if len(b) < fixed || uint64(binary.LittleEndian.Uint32(b[8:])) != uint64(len(b)-fixed) {
		return "", false
	}
	return digestText(tpm2.Alg(binary.LittleEndian.Uint16(b[12:])), b[fixed:])
}

// depPolicy names the BCD setting "nx" (BcdLibraryNxPolicy). 0 does not mean
// that data execution prevention is off: programs opt in, the kernel has it.
func depPolicy(b []byte) (s string, ok bool) {
	return oneOf(b, map[uint64]string{0: "optIn", 1: "optOut", 2: "alwaysOff", 3: "alwaysOn"})
}

// driverLoadPolicy names which boot drivers may start after the early-launch
// anti-malware driver has judged them (EarlyLaunch\DriverLoadPolicy).
func driverLoadPolicy(b []byte) (s string, ok bool) {
	return oneOf(b, map[uint64]string{8: "good", 1: "goodAndUnknown", 3: "goodUnknownAndCritical", 7: "all"})
}

func oneOf(b []byte, words map[uint64]string) (s string, ok bool) {
	n, ok := integer(b)
	if !ok {
		return "", false
	}
	if word, known := words[n]; known {
		return word, true
	}
	return fmt.Sprint(n), true
}

// unlockText names the key protectors that opened the system volume
// (FVEB_UNLOCK_FLAG_*).
func unlockText(flags uint64) string {
	if flags == 0 {
		return "none"
	}
	var out []string
	for _, f := range []struct {
		bit  uint64
		name string
	}{{0x01, "cached"}, {0x02, "media"}, {0x04, "tpm"}, {0x10, "pin"}, {0x20, "external"}, {0x40, "recovery"}} {
		if flags&f.bit != 0 {
			out = append(out, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		out = append(out, fmt.Sprintf("%#x", flags))
	}
	return strings.Join(out, "+")
}
