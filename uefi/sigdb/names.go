package sigdb

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names returns subject and issuer of an X.509 certificate for display, each as
// its common name or, without one, its other attributes joined by commas. It
// reads only as far as the subject and does not mind what a strict parser would
// (negative serial numbers, odd encodings): ok is false only when the names are
// not where they belong. The names prove nothing; identify a certificate by the
// SHA-256 of its bytes.
func Names(der []byte) (subject, issuer string, ok bool) {
	cert, _, ok := element(der, tagSequence)
	if !ok {
		return "", "", false
	}
	tbs, _, ok := element(cert, tagSequence)
	if !ok {
		return "", "", false
	}
	if _, rest, ok := element(tbs, 0xA0); ok { // [0] version
		tbs = rest
	}
	// RFC 5280, 4.1: serialNumber, signature, issuer, validity, subject.
	if _, tbs, ok = element(tbs, tagInteger); !ok {
		return "", "", false
	}
	if _, tbs, ok = element(tbs, tagSequence); !ok {
		return "", "", false
	}
	from, tbs, ok := element(tbs, tagSequence)
	if !ok {
		return "", "", false
	}
	if _, tbs, ok = element(tbs, tagSequence); !ok {
		return "", "", false
	}
	to, _, ok := element(tbs, tagSequence)
	return name(to), name(from), ok
}

const (
	tagInteger  = 0x02
	tagOID      = 0x06
	tagSequence = 0x30
	tagSet      = 0x31
)

// element splits the DER element of a tag off b. Lengths take up to three bytes.
func element(b []byte, tag byte) (content, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, at := int(b[1]), 2
	if n >= 0x80 {
		digits := n & 0x7F
		if digits == 0 || digits > 3 || len(b) < 2+digits {
			return nil, nil, false
		}
		n, at = 0, 2+digits
		for _, d := range b[2:at] {
			n = n<<8 | int(d)
		}
	}
	if n > len(b)-at {
		return nil, nil, false
	}
	return b[at : at+n], b[at+n:], true
}

// maxAttributes bounds the parts of a name that are looked at.
const maxAttributes = 32

// name writes an RDNSequence.
func name(b []byte) string {
	var all []string
	for range maxAttributes {
		set, rest, ok := element(b, tagSet)
		if !ok {
			break
		}
		b = rest
		attribute, _, ok := element(set, tagSequence)
		if !ok {
			continue
		}
		oid, value, ok := element(attribute, tagOID)
		if !ok || len(value) < 2 {
			continue
		}
		content, _, ok := element(value, value[0])
		if !ok {
			continue
		}
		if string(oid) == "\x55\x04\x03" { // 2.5.4.3, commonName
			return directoryString(value[0], content)
		}
		all = append(all, directoryString(value[0], content))
	}
	return strings.Join(all, ", ")
}

// tagBMPString holds two bytes a character; all others are read as UTF-8.
const tagBMPString = 0x1E

func directoryString(tag byte, b []byte) string {
	b = b[:min(len(b), 512)]
	if tag != tagBMPString && plain(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if tag == tagBMPString {
			if len(b) < 2 {
				break
			}
			r, n = rune(b[0])<<8|rune(b[1]), 2
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// plain reports whether b is printable ASCII, as nearly all names are.
func plain(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return true
}
