package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// JSON is one JSON value (RFC 8259) of a bundle, not decoded. Its syntax has
// been checked; it aliases the bundle.
type JSON []byte

// Limits of a bundle's JSON. They bound the work of telling duplicate members
// apart; a TPM bundle with all banks has 9 objects of at most 24 members.
const (
	maxJSONDepth   = 8
	maxJSONMembers = 64   // of one object
	maxJSONValues  = 4096 // of the whole text
)

// strictBase64 refuses bits after the end of the data. It is never changed.
var strictBase64 = base64.StdEncoding.Strict()

var errJSONLimit = errors.New("too many values or levels")

// Text returns a JSON string.
func (j JSON) Text() (string, error) {
	if len(j) < 2 || j[0] != '"' {
		return "", fmt.Errorf("%s, want a string", j.kind())
	}
	if bytes.IndexByte(j, '\\') < 0 {
		return string(j[1 : len(j)-1]), nil
	}
	var s string
	err := json.Unmarshal(j, &s)
	return s, err
}

// raw returns the bytes of a string; it copies only when there are escapes.
func (j JSON) raw() ([]byte, error) {
	if len(j) >= 2 && j[0] == '"' && bytes.IndexByte(j, '\\') < 0 {
		return j[1 : len(j)-1], nil
	}
	s, err := j.Text()
	return []byte(s), err
}

// Base64 decodes a string of standard, padded base64 (RFC 4648, 4) that holds
// at most limit bytes.
func (j JSON) Base64(limit int) ([]byte, error) {
	in, err := j.raw()
	if err != nil {
		return nil, err
	}
	if n := base64.StdEncoding.DecodedLen(len(in)); n > limit+2 {
		return nil, fmt.Errorf("%d bytes, at most %d are accepted", n, limit)
	}
	// The decoder skips line ends, which a value here never has.
	if bytes.IndexByte(in, '\n') >= 0 || bytes.IndexByte(in, '\r') >= 0 {
		return nil, errors.New("line end inside base64")
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(in)))
	n, err := strictBase64.Decode(out, in)
	if err != nil {
		return nil, errors.New("not standard, padded base64")
	}
	if n > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are accepted", n, limit)
	}
	return out[:n], nil
}

// Hex appends to dst the bytes of a string of hexadecimal digits, of which there
// are at most limit.
func (j JSON) Hex(dst []byte, limit int) ([]byte, error) {
	in, err := j.raw()
	if err != nil {
		return nil, err
	}
	if len(in) > 2*limit {
		return nil, fmt.Errorf("%d bytes, at most %d are accepted", len(in)/2, limit)
	}
	out, err := hex.AppendDecode(dst, in)
	if err != nil {
		return nil, errors.New("not hexadecimal")
	}
	return out, nil
}

// Object calls member for each member of an object, in order, and stops at the first error.
func (j JSON) Object(member func(name string, v JSON) error) error {
	if len(j) == 0 || j[0] != '{' {
		return fmt.Errorf("%s, want an object", j.kind())
	}
	s := scanner{in: j}
	_, err := s.object(0, 0, member)
	return err
}

// Array calls element for each element of an array, in order, and stops at the first error.
func (j JSON) Array(element func(i int, v JSON) error) error {
	if len(j) == 0 || j[0] != '[' {
		return fmt.Errorf("%s, want an array", j.kind())
	}
	s := scanner{in: j}
	_, err := s.array(0, 0, element)
	return err
}

func (j JSON) kind() string {
	switch {
	case len(j) == 0:
		return "nothing"
	case j[0] == '"':
		return "a string"
	case j[0] == '{':
		return "an object"
	case j[0] == '[':
		return "an array"
	case j[0] == 'n':
		return "null"
	case j[0] == 't' || j[0] == 'f':
		return "a boolean"
	}
	return "a number"
}

// ParseJSON checks that in is one JSON value and nothing else: no duplicate
// members at any level, no escapes in member names, valid UTF-8, bounded depth
// and count.
func ParseJSON(in []byte) (JSON, error) {
	s := scanner{in: in}
	start := s.space(0)
	end, err := s.value(start, 0)
	if err != nil {
		return nil, err
	}
	if s.space(end) != len(in) {
		return nil, s.fail(end, "text after the value")
	}
	return JSON(in[start:end]), nil
}

// walkObject checks that in is one JSON object and nothing else, as [ParseJSON]
// does, and passes its members to member in the same walk.
func walkObject(in []byte, member func(name string, v JSON) error) error {
	s := scanner{in: in}
	start := s.space(0)
	if s.at(start) != '{' {
		return s.fail(start, "no JSON object")
	}
	end, err := s.object(start, 0, member)
	if err != nil {
		return err
	}
	if s.space(end) != len(in) {
		return s.fail(end, "text after the object")
	}
	return nil
}

// A scanner walks JSON text without building anything.
type scanner struct {
	in     []byte
	values int // seen so far
}

func (s *scanner) fail(at int, what string) error {
	return fmt.Errorf("at byte %d: %s", at, what)
}

// at returns the byte at i, 0 past the end.
func (s *scanner) at(i int) byte {
	if i < len(s.in) {
		return s.in[i]
	}
	return 0
}

func (s *scanner) space(i int) int {
	for i < len(s.in) && (s.in[i] == ' ' || s.in[i] == '\n' || s.in[i] == '\t' || s.in[i] == '\r') {
		i++
	}
	return i
}

// value returns the end of the value that starts at i.
func (s *scanner) value(i, depth int) (int, error) {
	if s.values++; s.values > maxJSONValues || depth > maxJSONDepth {
		return 0, s.fail(i, errJSONLimit.Error())
	}
	switch c := s.at(i); {
	case c == '"':
		return s.str(i)
	case c == '{':
		return s.object(i, depth, nil)
	case c == '[':
		return s.array(i, depth, nil)
	case c == '-' || c >= '0' && c <= '9':
		return s.number(i)
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.in[min(i, len(s.in)):], []byte(word)) {
			return i + len(word), nil
		}
	}
	return 0, s.fail(i, "no JSON value")
}

func (s *scanner) object(i, depth int, visit func(string, JSON) error) (int, error) {
	var buf [maxJSONMembers][]byte
	names := buf[:0]
	i = s.space(i + 1)
	if s.at(i) == '}' {
		return i + 1, nil
	}
	for {
		name, next, err := s.name(i, names)
		if err != nil {
			return 0, err
		}
		names = append(names, name)
		start := s.space(next)
		end, err := s.value(start, depth+1)
		if err != nil {
			return 0, err
		}
		if visit != nil {
			if err := visit(string(name), JSON(s.in[start:end])); err != nil {
				return 0, err
			}
		}
		i = s.space(end)
		switch s.at(i) {
		case '}':
			return i + 1, nil
		case ',':
			i = s.space(i + 1)
		default:
			return 0, s.fail(i, "no comma or end of an object")
		}
	}
}

// name reads a member's name, which must not be among seen, and its colon.
func (s *scanner) name(i int, seen [][]byte) (name []byte, end int, err error) {
	if s.at(i) != '"' {
		return nil, 0, s.fail(i, "no member name")
	}
	if len(seen) == maxJSONMembers {
		return nil, 0, s.fail(i, errJSONLimit.Error())
	}
	end, err = s.str(i)
	if err != nil {
		return nil, 0, err
	}
	name = s.in[i+1 : end-1]
	// An escape could spell a second member of the same name differently.
	if bytes.IndexByte(name, '\\') >= 0 {
		return nil, 0, s.fail(i, "escape in a member name")
	}
	for _, other := range seen {
		if bytes.Equal(name, other) {
			return nil, 0, s.fail(i, fmt.Sprintf("member %.40q twice", name))
		}
	}
	end = s.space(end)
	if s.at(end) != ':' {
		return nil, 0, s.fail(end, "no colon after a member name")
	}
	return name, end + 1, nil
}

func (s *scanner) array(i, depth int, visit func(int, JSON) error) (int, error) {
	i = s.space(i + 1)
	if s.at(i) == ']' {
		return i + 1, nil
	}
	for n := 0; ; n++ {
		end, err := s.value(i, depth+1)
		if err != nil {
			return 0, err
		}
		if visit != nil {
			if err := visit(n, JSON(s.in[i:end])); err != nil {
				return 0, err
			}
		}
		i = s.space(end)
		switch s.at(i) {
		case ']':
			return i + 1, nil
		case ',':
			i = s.space(i + 1)
		default:
			return 0, s.fail(i, "no comma or end of an array")
		}
	}
}

// str returns the end of the string that starts at i.
func (s *scanner) str(i int) (int, error) {
	n := bytes.IndexByte(s.in[i+1:], '"')
	if n < 0 {
		return 0, s.fail(i, "string without an end")
	}
	if body := s.in[i+1 : i+1+n]; plain(body) {
		return i + n + 2, nil
	}
	return s.escaped(i)
}

// plain reports whether b is printable ASCII without a backslash, as nearly
// every string of a bundle is.
func plain(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	var bad uint64
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		slash := x ^ '\\'*ones
		// The high bit of a byte: it is not ASCII; it is below a space; it is a backslash.
		bad |= x | (x-' '*ones)&^x | (slash-ones)&^slash
	}
	ok := bad&highs == 0
	for _, c := range b {
		ok = ok && c >= ' ' && c < 0x80 && c != '\\'
	}
	return ok
}

// escaped returns the end of a string that may have escapes or characters
// outside ASCII.
func (s *scanner) escaped(start int) (int, error) {
	for i := start + 1; i < len(s.in); i++ {
		switch c := s.in[i]; {
		case c == '"':
			if !utf8.Valid(s.in[start+1 : i]) {
				return 0, s.fail(start, "string is not UTF-8")
			}
			return i + 1, nil
		case c < ' ':
			return 0, s.fail(i, "control character in a string")
		case c == '\\':
			i++
			if s.at(i) == 'u' && !s.hex4(i+1) || bytes.IndexByte([]byte(`"\/bfnrtu`), s.at(i)) < 0 {
				return 0, s.fail(i, "unknown escape")
			}
		}
	}
	return 0, s.fail(start, "string without an end")
}

func (s *scanner) hex4(i int) bool {
	var b [2]byte
	if i+4 > len(s.in) {
		return false
	}
	_, err := hex.Decode(b[:], s.in[i:i+4])
	return err == nil
}

// number returns the end of the number that starts at i.
func (s *scanner) number(i int) (int, error) {
	end := i
	for end < len(s.in) && bytes.IndexByte([]byte("+-.eE0123456789"), s.in[end]) >= 0 {
		end++
	}
	if end-i > 64 || !json.Valid(s.in[i:end]) {
		return 0, s.fail(i, "no number")
	}
	return end, nil
}
