package strictjson

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// A Value is one JSON value of a text that was checked, not decoded. It aliases
// the text. The zero Value is none, and every method of it fails.
type Value []byte

// inner are the rules for walking a Value again. They bound the recursion; counts
// were bounded when the text was read.
func (v Value) inner() Rules {
	return Rules{Bytes: len(v), Depth: maxDepth, Members: math.MaxInt, Values: math.MaxInt}
}

// strictBase64 refuses bits after the end of the data. It is never changed.
var strictBase64 = base64.StdEncoding.Strict()

// Kind says in words what v is: "a string", "an object" and so on.
func (v Value) Kind() string {
	if len(v) == 0 {
		return "nothing"
	}
	switch v[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

// Text returns a JSON string.
func (v Value) Text() (string, error) {
	if len(v) < 2 || v[0] != '"' {
		return "", fmt.Errorf("%s, want a string", v.Kind())
	}
	return unquote(v)
}

// Int returns a number that is written as a whole one of 64 bits.
func (v Value) Int() (int64, error) {
	n, err := strconv.ParseInt(string(v[:min(len(v), maxNumber)]), 10, 64)
	if err != nil || len(v) > maxNumber || v[0] == '+' {
		return 0, fmt.Errorf("%s, want a whole number", v.Kind())
	}
	return n, nil
}

// raw returns the bytes of a string; it copies only when there are escapes.
func (v Value) raw() ([]byte, error) {
	if len(v) >= 2 && v[0] == '"' && bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	s, err := v.Text()
	return []byte(s), err
}

// Base64 decodes a string of standard, padded base64 (RFC 4648, 4) that holds
// at most limit bytes.
func (v Value) Base64(limit int) ([]byte, error) {
	in, err := v.raw()
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
func (v Value) Hex(dst []byte, limit int) ([]byte, error) {
	in, err := v.raw()
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

// Object calls member for each member of an object, in order, and stops at the
// first error. The offset of an [*Error] counts from the beginning of v.
func (v Value) Object(member func(name string, v Value) error) error {
	if len(v) == 0 || v[0] != '{' {
		return fmt.Errorf("%s, want an object", v.Kind())
	}
	var buf [usual][]byte
	s := scanner{in: v, rules: v.inner(), names: buf[:0]}
	_, err := s.visit(0, member)
	return err
}

// Array calls element for each element of an array, in order, and stops at the
// first error. The offset of an [*Error] counts from the beginning of v.
func (v Value) Array(element func(i int, v Value) error) error {
	if len(v) == 0 || v[0] != '[' {
		return fmt.Errorf("%s, want an array", v.Kind())
	}
	s := scanner{in: v, rules: v.inner()}
	_, err := s.array(0, 0, func(n, at int) (int, error) {
		end, err := s.value(at, 1)
		if err == nil {
			err = moved(element(n, Value(v[at:end:end])), at)
		}
		return end, err
	})
	return err
}

// Elements returns the elements of an array; more than limit are an error, and
// cost no more than limit.
func (v Value) Elements(limit int) ([]Value, error) {
	var out []Value
	err := v.Array(func(i int, e Value) error {
		if i == limit {
			return fmt.Errorf("more than %d elements", limit)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}
