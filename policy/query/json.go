package query

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/assay-project/assay/internal/strictjson"
)

// documentRules bound a document. Its bytes are bounded by who has it; the meter
// counts them.
func documentRules() strictjson.Rules {
	return strictjson.Rules{Bytes: maxBytes, Depth: maxJSONDepth, Members: 1 << 16, Values: 1 << 20}
}

// Parse reads one JSON value: nil, a bool, an int64, a float64, a string, a []any or
// a [strictjson.Tree]. A name that stands twice is refused. A text that is too
// large wraps [ErrLimit].
func Parse(text string) (any, error) {
	v, err := strictjson.Decode(text, documentRules())
	switch {
	case errors.Is(err, strictjson.ErrLimit):
		return nil, fmt.Errorf("%w: JSON %w", ErrLimit, err)
	case err != nil:
		return nil, fmt.Errorf("text is not JSON: %w", err)
	}
	return v, nil
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
	case strictjson.Tree:
		b = append(b, '{')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, v[i].Name), ':')
			if b, err = appendJSON(b, v[i].Value, limit); err != nil {
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
		return strictjson.Whole(v), nil
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
		out := make(strictjson.Tree, 0, len(v))
		for name, inner := range v {
			value, err := fromAny(inner)
			if err != nil {
				return nil, err
			}
			out = append(out, strictjson.Branch{Name: name, Value: value})
		}
		return out.Sort()
	default:
		return v, nil
	}
}
