package token

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Limits of the JSON in a token or key set. Real tokens nest seven deep and have
// under a hundred members in one object.
const (
	maxDepth   = 32
	maxMembers = 1024
)

// A duplicateError is an object with two members of one name. Readers differ in
// which of the two they take (RFC 8259, 4), so neither is believed (RFC 7519, 4).
type duplicateError struct{ name string }

func (e *duplicateError) Error() string { return fmt.Sprintf("member %q appears twice", e.name) }

// A member is one name and its value as it stands in the text.
type member struct {
	name string
	raw  json.RawMessage
}

// An object has the members of a JSON object in their order. Names match exactly,
// unlike those of encoding/json, which takes "ISS" for "iss".
type object []member

// get returns the value called name; ok is false when there is none.
func (o object) get(name string) (raw json.RawMessage, ok bool) {
	for _, m := range o {
		if m.name == name {
			return m.raw, true
		}
	}
	return nil, false
}

// text returns the string called name; ok is false when it is absent.
func (o object) text(name string) (s string, ok bool, err error) {
	raw, ok := o.get(name)
	if !ok {
		return "", false, nil
	}
	if s, err = unquote(raw); err != nil {
		return "", true, fmt.Errorf("member %q: %w", name, err)
	}
	return s, true, nil
}

// parseObject checks that data is one JSON object (RFC 8259) in UTF-8, without
// duplicate members at any depth, and returns its members. They alias data.
func parseObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("text is not UTF-8")
	}
	s := scanner{data: data, names: make([][]byte, 0, 64)}
	s.space()
	if s.peek() != '{' {
		return nil, errors.New("not a JSON object")
	}
	out := make(object, 0, 24)
	if err := s.object(&out); err != nil {
		return nil, err
	}
	s.space()
	if s.pos != len(data) {
		return nil, fmt.Errorf("data after the object at byte %d", s.pos)
	}
	return out, nil
}

// elements returns the values of a JSON array that parseObject has checked; more
// than limit are an error, and cost no more than limit. They alias raw.
func elements(raw json.RawMessage, limit int) ([]json.RawMessage, error) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, errors.New("not an array")
	}
	var out []json.RawMessage
	s := scanner{data: raw}
	err := s.list('[', ']', func() error {
		if len(out) == limit {
			return fmt.Errorf("more than %d elements", limit)
		}
		start := s.pos
		if err := s.value(); err != nil {
			return err
		}
		out = append(out, raw[start:s.pos:s.pos])
		return nil
	})
	return out, err
}

// unquote returns the text of a JSON string.
func unquote(raw []byte) (string, error) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// A scanner walks JSON text once, front to back.
type scanner struct {
	data  []byte
	pos   int
	depth int
	names [][]byte // of the objects that are open, outermost first
}

func (s *scanner) errorf(what string) error { return fmt.Errorf("%s at byte %d", what, s.pos) }

// peek returns the next byte, 0 at the end; 0 never begins anything in JSON.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) take(c byte) error {
	if s.peek() != c {
		return s.errorf(fmt.Sprintf("no %q", c))
	}
	s.pos++
	return nil
}

func (s *scanner) value() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(nil)
	case c == '[':
		return s.array()
	case c == '"':
		_, err := s.text()
		return err
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

// object walks one object; with collect it keeps the members.
func (s *scanner) object(collect *object) error {
	seen := names{first: len(s.names)}
	err := s.list('{', '}', func() error {
		quoted, err := s.text()
		if err != nil {
			return err
		}
		name, err := s.add(&seen, quoted)
		if err != nil {
			return err
		}
		s.space()
		if err := s.take(':'); err != nil {
			return err
		}
		s.space()
		start := s.pos
		if err := s.value(); err != nil {
			return err
		}
		if collect != nil {
			*collect = append(*collect, member{string(name), s.data[start:s.pos:s.pos]})
		}
		return nil
	})
	s.names = s.names[:seen.first]
	return err
}

func (s *scanner) array() error { return s.list('[', ']', s.value) }

// list walks what stands between two brackets, item by item.
func (s *scanner) list(first, last byte, item func() error) error {
	if s.depth++; s.depth > maxDepth {
		return s.errorf("nesting is too deep")
	}
	if err := s.take(first); err != nil {
		return err
	}
	s.space()
	for s.peek() != last {
		if err := item(); err != nil {
			return err
		}
		s.space()
		if s.peek() == last {
			break
		}
		if err := s.take(','); err != nil {
			return err
		}
		if s.space(); s.peek() == last {
			return s.errorf("no value after the comma")
		}
	}
	s.pos++
	s.depth--
	return nil
}

// text walks a string and returns it with its quotes.
func (s *scanner) text() ([]byte, error) {
	start := s.pos
	if err := s.take('"'); err != nil {
		return nil, err
	}
	for s.pos += plain(s.data[s.pos:]); s.pos < len(s.data); s.pos += plain(s.data[s.pos:]) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start:s.pos], nil
		case c < 0x20:
			return nil, s.errorf("control character in a string")
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		default:
			s.pos++
		}
	}
	return nil, s.errorf("string without end")
}

// plain returns how many bytes b begins with that mean themselves in a JSON
// string, or fewer: it stops at a quote, a backslash, a control character and
// at what is not ASCII. It looks at eight bytes at a time, as strings are most
// of a token.
func plain(b []byte) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		quote, backslash := x^('"'*each), x^('\\'*each)
		// The highest bit of a byte of y-c*each, where y has it clear, says that one
		// of y is below c: none is when no byte of the word has it.
		if (x|(x-0x20*each)|(quote-each)&^quote|(backslash-each)&^backslash)&high != 0 {
			break
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			break
		}
	}
	return n
}

func (s *scanner) escape() error {
	s.pos++
	c := s.peek()
	s.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			if c := s.peek() | 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') || s.peek() < '0' {
				return s.errorf("bad escape")
			}
			s.pos++
		}
		return nil
	default:
		return s.errorf("bad escape")
	}
}

func (s *scanner) word(w string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(w)) {
		return s.errorf("no value")
	}
	s.pos += len(w)
	return nil
}

// number walks -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if s.digits() == 0 {
		return s.errorf("no value")
	}
	if s.peek() == '.' {
		s.pos++
		if s.digits() == 0 {
			return s.errorf("no digit after the point")
		}
	}
	if s.peek()|0x20 == 'e' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return s.errorf("no digit in the exponent")
		}
	}
	return nil
}

func (s *scanner) digits() (n int) {
	for ; s.peek() >= '0' && s.peek() <= '9'; n++ {
		s.pos++
	}
	return n
}

// names are those of one object so far: in the scanner's list from first on, and
// in a set once they are many and not in order.
type names struct {
	first    int
	unsorted bool
	set      map[string]bool
}

// has reports whether name is one of have, which are the names so far.
func (n *names) has(have [][]byte, name []byte) bool {
	// What comes after the last of ascending names is none of them.
	if !n.unsorted && (len(have) == 0 || bytes.Compare(have[len(have)-1], name) < 0) {
		return false
	}
	n.unsorted = true
	if n.set == nil && len(have) > 32 {
		n.set = make(map[string]bool, 2*len(have))
		for _, h := range have {
			n.set[string(h)] = true
		}
	}
	if n.set != nil {
		return n.set[string(name)]
	}
	return slices.ContainsFunc(have, func(h []byte) bool { return bytes.Equal(h, name) })
}

// add takes a quoted name, and returns it decoded unless the object has it already.
func (s *scanner) add(n *names, quoted []byte) ([]byte, error) {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		decoded, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		name = []byte(decoded)
	}
	have := s.names[n.first:]
	if n.has(have, name) {
		return nil, &duplicateError{string(name)}
	}
	if len(have) == maxMembers {
		return nil, fmt.Errorf("more than %d members in an object", maxMembers)
	}
	s.names = append(s.names, name)
	if n.set != nil {
		n.set[string(name)] = true
	}
	return name, nil
}
