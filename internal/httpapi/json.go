package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth bounds nesting: the deepest request, a baseline, has 6 levels.
const maxDepth = 32

// checkJSON refuses what readers of JSON understand differently: a member that
// comes twice (RFC 8259, 4), text after the value, invalid UTF-8 (8.1), and deep nesting.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body has text after its JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	tok, err := d.Token()
	if err != nil {
		return badJSON(err)
	}
	open, nested := tok.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("the body is nested more than %d deep", maxDepth)
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return badJSON(err)
			}
			text, _ := name.(string) // the decoder lets nothing else be a name
			folded := fold(text)
			if seen[folded] {
				return fmt.Errorf("member %q comes twice", clip(text, 64))
			}
			seen[folded] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return badJSON(err)
	}
	return nil
}

// fold gives names that encoding/json takes for one another the same spelling.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}

func badJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the body ends inside its JSON value")
	}
	return fmt.Errorf("the body is not JSON: %w", err)
}

// maxMembers is more than any object has that members is used for: a request to
// attest and an evidence bundle.
const maxMembers = 24

// members walks the members of one JSON object without building anything: each
// gets the name and the bytes of the value, which alias data. Names with escapes
// and members that come twice are refused. It finds where a value ends and whether
// brackets match, not whether the value is sound: who reads the value does.
func members(data []byte, each func(name string, value []byte) error) error {
	s := &scanner{data: data}
	if s.next() != '{' {
		return malformed("the body is not a JSON object")
	}
	s.at++
	var seen [maxMembers]string
	for n := 0; ; n++ {
		c := s.next()
		if c == '}' && n == 0 {
			break
		}
		name, err := s.name()
		if err != nil {
			return err
		}
		if n == len(seen) {
			return malformed("the object has more than %d members", len(seen))
		}
		if slices.Contains(seen[:n], name) {
			return malformed("member %q comes twice", name)
		}
		seen[n] = name
		value, err := s.value()
		if err != nil {
			return err
		}
		if err := each(name, value); err != nil {
			return err
		}
		if c = s.next(); c == '}' {
			break
		}
		if c != ',' {
			return malformed("after member %q comes no ',' and no '}'", name)
		}
		s.at++
	}
	s.at++
	if s.next(); s.at < len(s.data) {
		return malformed("text comes after the object")
	}
	return nil
}

func malformed(format string, args ...any) *Problem {
	return newProblem(http.StatusBadRequest, codeMalformed, fmt.Sprintf(format, args...))
}

// A scanner finds the ends of JSON values.
type scanner struct {
	data []byte
	at   int
}

// next skips white space and returns the byte there, 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// name reads a member's name and the colon after it.
func (s *scanner) name() (string, error) {
	if s.next() != '"' {
		return "", malformed("a member has no name")
	}
	from := s.at + 1
	if err := s.text(); err != nil {
		return "", err
	}
	name := s.data[from : s.at-1]
	if len(name) > 32 || bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
		return "", malformed("a member has a name that no request has")
	}
	if s.next() != ':' {
		return "", malformed("after the name %q comes no ':'", name)
	}
	s.at++
	return string(name), nil
}

// text skips a string, whose opening quote is at s.at.
func (s *scanner) text() error {
	for at := s.at + 1; ; {
		i := bytes.IndexByte(s.data[at:], '"')
		if i < 0 {
			return malformed("a string has no end")
		}
		at += i + 1
		escapes := 0
		for k := at - 2; k > s.at && s.data[k] == '\\'; k-- {
			escapes++
		}
		if escapes%2 == 0 {
			s.at = at
			return nil
		}
	}
}

// value skips one value and returns its bytes.
func (s *scanner) value() ([]byte, error) {
	c, from := s.next(), s.at
	var err error
	switch c {
	case '"':
		err = s.text()
	case '{', '[':
		err = s.nested()
	default:
		for s.at < len(s.data) && isScalar(s.data[s.at]) {
			s.at++
		}
		if s.at == from {
			err = malformed("a member has no value")
		}
	}
	return s.data[from:s.at], err
}

// isScalar reports whether c may be part of a number, true, false or null.
func isScalar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E'
}

// nested skips an object or array, whose opening bracket is at s.at.
func (s *scanner) nested() error {
	var closers [maxDepth]byte
	for depth := 0; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; c {
		case '"':
			if err := s.text(); err != nil {
				return err
			}
			s.at-- // the loop steps over the closing quote
		case '{', '[':
			if depth == maxDepth {
				return malformed("a value is nested more than %d deep", maxDepth)
			}
			closers[depth] = c + 2 // ASCII: '}' and ']' are two above their openers
			depth++
		case '}', ']':
			if depth--; closers[depth] != c {
				return malformed("brackets do not match")
			}
			if depth == 0 {
				s.at++
				return nil
			}
		}
	}
	return malformed("the object has no end")
}
