package strictjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	each  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special has a high bit in it if one of the eight bytes of x is not ASCII, a
// control character or a backslash. A byte of x-c*each goes below zero, and so
// gets a high bit, if it is below c; a borrow reaches another byte only from one
// that has its own high bit.
func special(x uint64) uint64 {
	return x | (x - ' '*each) | ((x ^ '\\'*each) - each)
}

// simple reports whether b is printable ASCII without a backslash, as nearly
// every string of evidence is. It looks at 32 bytes at a time.
func simple(b []byte) bool {
	var bad uint64
	for ; len(b) >= 32; b = b[32:] {
		bad |= special(binary.LittleEndian.Uint64(b)) | special(binary.LittleEndian.Uint64(b[8:])) |
			special(binary.LittleEndian.Uint64(b[16:])) | special(binary.LittleEndian.Uint64(b[24:]))
	}
	for ; len(b) >= 8; b = b[8:] {
		bad |= special(binary.LittleEndian.Uint64(b))
	}
	ok := bad&highs == 0
	for _, c := range b {
		ok = ok && c >= ' ' && c < 0x80 && c != '\\'
	}
	return ok
}

// Plain returns how many bytes b begins with that mean themselves in a JSON
// string: it stops at a quote, a backslash, a control character and at what is
// not ASCII. Who writes strings can copy that many.
func Plain(b []byte) int {
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		if (special(x)|((x^'"'*each)-each))&highs != 0 {
			break
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			break
		}
	}
	return n
}

// str returns the end of the string that starts at i, which must be a quote, and
// whether it has escapes.
func (s *scanner) str(i int) (end int, escaped bool, err error) {
	n := bytes.IndexByte(s.in[i+1:], '"')
	if n < 0 {
		return 0, false, s.fail(ErrSyntax, i, "string without an end")
	}
	if simple(s.in[i+1 : i+1+n]) {
		return i + n + 2, false, nil
	}
	return s.slow(i)
}

// slow reads a string that may have escapes or characters outside ASCII.
func (s *scanner) slow(start int) (end int, escaped bool, err error) {
	i, ascii := start+1, true
	for {
		i += Plain(s.in[i:])
		switch c := s.at(i); {
		case i >= len(s.in):
			return 0, false, s.fail(ErrSyntax, start, "string without an end")
		case c == '"':
			if !ascii && !utf8.Valid(s.in[start+1:i]) {
				return 0, false, s.fail(ErrEncoding, start, "string is not UTF-8")
			}
			return i + 1, escaped, nil
		case c == '\\':
			escaped = true
			if i, err = s.escape(i); err != nil {
				return 0, false, err
			}
		case c < ' ':
			return 0, false, s.fail(ErrSyntax, i, "control character in a string")
		default:
			for ascii = false; s.at(i) >= 0x80; {
				i++
			}
		}
	}
}

// escape returns the end of the escape at i.
func (s *scanner) escape(i int) (int, error) {
	switch s.at(i + 1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, nil
	case 'u':
	default:
		return 0, s.fail(ErrSyntax, i, "unknown escape")
	}
	r, ok := s.hex4(i + 2)
	if !ok {
		return 0, s.fail(ErrSyntax, i, "escape without four hexadecimal digits")
	}
	if !utf16.IsSurrogate(r) {
		return i + 6, nil
	}
	// RFC 8259, 8.2: readers differ in what they make of half a pair.
	if s.at(i+6) == '\\' && s.at(i+7) == 'u' {
		low, ok := s.hex4(i + 8)
		if ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			return i + 12, nil
		}
	}
	return 0, s.fail(ErrEncoding, i, "half a surrogate pair")
}

func (s *scanner) hex4(i int) (r rune, ok bool) {
	for k := range 4 {
		switch c := s.at(i + k); {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unquote returns the text of a checked string with its quotes.
func unquote(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err
}
