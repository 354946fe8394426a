package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A JSON value is nil, a bool, an int64, a float64, a string, a []any or an
// object. Integers stay exact, members are sorted by name (so that results do
// not depend on chance), and a name that stands twice is refused.
type object []member

type member struct {
	name  string
	value any
}

// get returns the member's value, nil when there is none.
func (o object) get(name string) any {
	i, found := slices.BinarySearchFunc(o, name, func(m member, name string) int { return strings.Compare(m.name, name) })
	if !found {
		return nil
	}
	return o[i].value
}

var errJSON = errors.New("text is not JSON")

// A jsonReader reads one value; strings without escapes alias the text.
type jsonReader struct {
	text  string
	off   int
	depth int
}

func parseJSON(text string) (any, error) {
	r := &jsonReader{text: text}
	v, err := r.value()
	if err != nil {
		return nil, fmt.Errorf("%w at byte %d", err, r.off)
	}
	if r.space(); r.off != len(text) {
		return nil, fmt.Errorf("%w: more follows at byte %d", errJSON, r.off)
	}
	return v, nil
}

func (r *jsonReader) space() {
	for r.off < len(r.text) {
		switch r.text[r.off] {
		case ' ', '\t', '\n', '\r':
			r.off++
		default:
			return
		}
	}
}

// at consumes c after any space, and reports whether it stood there.
func (r *jsonReader) at(c byte) bool {
	r.space()
	if r.off < len(r.text) && r.text[r.off] == c {
		r.off++
		return true
	}
	return false
}

func (r *jsonReader) value() (any, error) {
	if r.depth++; r.depth > maxJSONDepth {
		return nil, fmt.Errorf("JSON is nested more than %d deep: %w", maxJSONDepth, ErrLimit)
	}
	defer func() { r.depth-- }()
	switch {
	case r.at('{'):
		return r.object()
	case r.at('['):
		return r.array()
	case r.at('"'):
		return r.str()
	}
	rest := r.text[r.off:]
	switch {
	case strings.HasPrefix(rest, "true"):
		r.off += len("true")
		return true, nil
	case strings.HasPrefix(rest, "false"):
		r.off += len("false")
		return false, nil
	case strings.HasPrefix(rest, "null"):
		r.off += len("null")
		return nil, nil
	}
	return r.number()
}

func (r *jsonReader) array() (any, error) {
	out := []any{}
	if r.at(']') {
		return out, nil
	}
	for {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if r.at(']') {
			return out, nil
		}
		if !r.at(',') {
			return nil, errJSON
		}
	}
}

func (r *jsonReader) object() (any, error) {
	out := object{}
	if r.at('}') {
		return out, nil
	}
	for {
		if !r.at('"') {
			return nil, errJSON
		}
		name, err := r.str()
		if err != nil {
			return nil, err
		}
		if !r.at(':') {
			return nil, errJSON
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		out = append(out, member{name, v})
		if r.at('}') {
			return sortObject(out)
		}
		if !r.at(',') {
			return nil, errJSON
		}
	}
}

func sortObject(o object) (object, error) {
	slices.SortFunc(o, func(a, b member) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(o); i++ {
		if o[i].name == o[i-1].name {
			return nil, fmt.Errorf("%w: member %q stands twice", errJSON, o[i].name)
		}
	}
	return o, nil
}

// str reads a string whose opening quote is consumed.
func (r *jsonReader) str() (string, error) {
	start, escaped := r.off, false
	for ; r.off < len(r.text); r.off++ {
		switch c := r.text[r.off]; {
		case c == '"':
			body := r.text[start:r.off]
			r.off++
			if !escaped {
				if !utf8.ValidString(body) {
					return "", errJSON
				}
				return body, nil
			}
			var out string
			if err := json.Unmarshal([]byte(r.text[start-1:r.off]), &out); err != nil {
				return "", errJSON
			}
			return out, nil
		case c == '\\':
			escaped = true
			r.off++
		case c < 0x20:
			return "", errJSON
		}
	}
	return "", errJSON
}

func (r *jsonReader) number() (any, error) {
	start := r.off
	for r.off < len(r.text) && strings.IndexByte("+-.0123456789eE", r.text[r.off]) >= 0 {
		r.off++
	}
	text := r.text[start:r.off]
	if !json.Valid([]byte(text)) {
		return nil, errJSON
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: number %s is too large", errJSON, text)
	}
	return whole(f), nil
}

// whole returns f as an int64 when it is one and exact.
func whole(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return f
}

// appendJSON writes v; it stops with ErrLimit when the text grows beyond limit.
func appendJSON(b []byte, v any, limit int) ([]byte, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("JSON of more than %d bytes: %w", limit, ErrLimit)
	}
	var err error
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64), nil
	case string:
		return appendString(b, v), nil
	case []any:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, v[i], limit); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case object:
		b = append(b, '{')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, v[i].name), ':')
			if b, err = appendJSON(b, v[i].value, limit); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	default:
		return append(b, "null"...), nil
	}
}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// fromAny converts what encoding/json makes into a JSON value of this package.
func fromAny(v any) (any, error) {
	switch v := v.(type) {
	case float64:
		// The decoder has rounded larger ones, and a comparison must be exact.
		if math.Abs(v) >= 1<<53 {
			return nil, fmt.Errorf("number %g is too large to be exact", v)
		}
		return whole(v), nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = fromAny(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(object, 0, len(v))
		for name, inner := range v {
			value, err := fromAny(inner)
			if err != nil {
				return nil, err
			}
			out = append(out, member{name, value})
		}
		return sortObject(out)
	default:
		return v, nil
	}
}
