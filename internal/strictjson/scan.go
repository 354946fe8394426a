package strictjson

import (
	"bytes"
	"fmt"
)

// A scanner walks JSON text once, front to back, and builds nothing.
type scanner struct {
	in     []byte
	rules  Rules
	values int      // seen so far
	names  [][]byte // of the objects that are open, outermost first
	// nameAt is where the name that was read last begins, 0 when it has escapes.
	nameAt int
}

// usual is how many names the objects that are open at a time have together in
// nearly every text; the reader has room for as many before it allocates.
const usual = 32

func (s *scanner) fail(kind error, at int, format string, args ...any) error {
	return &Error{Kind: kind, Offset: at, What: fmt.Sprintf(format, args...)}
}

// at returns the byte at i, 0 past the end; 0 never begins anything in JSON.
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

// whole reads the text's own value, an object if there is a visit, and refuses
// what follows it.
func (s *scanner) whole(visit func(string, Value) error) (Value, error) {
	if len(s.in) > s.rules.Bytes {
		return nil, s.fail(ErrLimit, s.rules.Bytes, "text of %d bytes, at most %d are read", len(s.in), s.rules.Bytes)
	}
	start := s.space(0)
	var end int
	var err error
	if visit == nil {
		end, err = s.value(start, 0)
	} else if err = s.count(start); err == nil {
		end, err = s.visit(start, visit)
	}
	if err != nil {
		return nil, err
	}
	if s.space(end) != len(s.in) {
		return nil, s.fail(ErrSyntax, s.space(end), "text after the value")
	}
	return Value(s.in[start:end:end]), nil
}

// count takes one of the values that a text may have.
func (s *scanner) count(i int) error {
	if s.values++; s.values > s.rules.Values {
		return s.fail(ErrLimit, i, "more than %d values", s.rules.Values)
	}
	return nil
}

// value returns the end of the value that starts at i, inside depth others.
func (s *scanner) value(i, depth int) (int, error) {
	if err := s.count(i); err != nil {
		return 0, err
	}
	switch c := s.at(i); c {
	case '"':
		end, _, err := s.str(i)
		return end, err
	case '{':
		return s.object(i, depth, nil)
	case '[':
		return s.array(i, depth, nil)
	case 't':
		return s.word(i, "true")
	case 'f':
		return s.word(i, "false")
	case 'n':
		return s.word(i, "null")
	default:
		return s.number(i)
	}
}

// visit walks the object at i and hands out its members.
func (s *scanner) visit(i int, visit func(name string, v Value) error) (int, error) {
	return s.object(i, 0, func(name []byte, at int) (int, error) {
		end, err := s.value(at, 1)
		if err == nil {
			err = moved(visit(string(name), Value(s.in[at:end:end])), at)
		}
		return end, err
	})
}

// enter refuses an object or array at i that is inside too many others.
func (s *scanner) enter(i, depth int) error {
	if limit := min(s.rules.Depth, maxDepth); depth >= limit {
		return s.fail(ErrLimit, i, "nested more than %d deep", limit)
	}
	return nil
}

// object walks the object at i. With read, that reads each value, given its name.
func (s *scanner) object(i, depth int, read func(name []byte, at int) (int, error)) (int, error) {
	if err := s.enter(i, depth); err != nil {
		return 0, err
	}
	seen := names{first: len(s.names)}
	i = s.space(i + 1)
	if s.at(i) == '}' {
		return i + 1, nil
	}
	for {
		name, start, err := s.name(i, &seen)
		if err != nil {
			return 0, err
		}
		var end int
		if read == nil {
			end, err = s.value(start, depth+1)
		} else {
			end, err = read(name, start)
		}
		if err != nil {
			return 0, in(name, err)
		}
		i = s.space(end)
		switch s.at(i) {
		case '}':
			s.names = s.names[:seen.first]
			return i + 1, nil
		case ',':
			i = s.space(i + 1)
		default:
			return 0, s.fail(ErrSyntax, i, "no comma or end of an object")
		}
	}
}

// array walks the array at i. With read, that reads each element, given its index.
func (s *scanner) array(i, depth int, read func(n, at int) (int, error)) (int, error) {
	if err := s.enter(i, depth); err != nil {
		return 0, err
	}
	i = s.space(i + 1)
	if s.at(i) == ']' {
		return i + 1, nil
	}
	for n := 0; ; n++ {
		var end int
		var err error
		if read == nil {
			end, err = s.value(i, depth+1)
		} else {
			end, err = read(n, i)
		}
		if err != nil {
			return 0, inElement(n, err)
		}
		i = s.space(end)
		switch s.at(i) {
		case ']':
			return i + 1, nil
		case ',':
			i = s.space(i + 1)
		default:
			return 0, s.fail(ErrSyntax, i, "no comma or end of an array")
		}
	}
}

func (s *scanner) word(i int, w string) (int, error) {
	if !bytes.HasPrefix(s.in[i:], []byte(w)) {
		return 0, s.fail(ErrSyntax, i, "no JSON value")
	}
	return i + len(w), nil
}

// maxNumber bounds the text of a number: the longest exact double of usual size
// has fewer than 64 characters.
const maxNumber = 64

// number returns the end of the number at i, which is
// -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? (RFC 8259, 6).
func (s *scanner) number(start int) (int, error) {
	i := start
	if s.at(i) == '-' {
		i++
	}
	whole := s.digits(i)
	if whole == i {
		return 0, s.fail(ErrSyntax, start, "no JSON value")
	}
	if s.at(i) == '0' && whole > i+1 {
		return 0, s.fail(ErrSyntax, i, "number begins with 0")
	}
	i = whole
	if s.at(i) == '.' {
		if i = s.digits(i + 1); s.at(i-1) == '.' {
			return 0, s.fail(ErrSyntax, i, "no digit after the point")
		}
	}
	if s.at(i)|0x20 == 'e' {
		if i++; s.at(i) == '+' || s.at(i) == '-' {
			i++
		}
		first := i
		if i = s.digits(i); i == first {
			return 0, s.fail(ErrSyntax, i, "no digit in the exponent")
		}
	}
	if i-start > maxNumber {
		return 0, s.fail(ErrLimit, start, "number of more than %d characters", maxNumber)
	}
	return i, nil
}

// digits returns where the digits at i end.
func (s *scanner) digits(i int) int {
	for i < len(s.in) && s.in[i] >= '0' && s.in[i] <= '9' {
		i++
	}
	return i
}
