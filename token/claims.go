package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// A member is one name and the JSON text of its value.
type member struct {
	name string
	raw  json.RawMessage
}

// A claimSet collects the members of a payload. The first fault sticks.
type claimSet struct {
	members []member
	err     error
}

// raw adds JSON text; a name that is taken is an error, never a second member.
func (c *claimSet) raw(name string, value json.RawMessage) {
	for _, m := range c.members {
		if m.name == name && c.err == nil {
			c.err = fmt.Errorf("claim %q appears twice", name)
		}
	}
	c.members = append(c.members, member{name, value})
}

// texts adds an array.
func (c *claimSet) texts(name string, list []string) {
	raw := []byte{'['}
	for i, s := range list {
		if i > 0 {
			raw = append(raw, ',')
		}
		raw = appendText(raw, s)
	}
	c.raw(name, append(raw, ']'))
}

func (c *claimSet) text(name, value string) { c.raw(name, appendText(nil, value)) }

// optional adds a text unless it is empty.
func (c *claimSet) optional(name, value string) {
	if value != "" {
		c.text(name, value)
	}
}

func (c *claimSet) number(name string, n int64) { c.raw(name, strconv.AppendInt(nil, n, 10)) }

// any adds what encoding/json makes of value.
func (c *claimSet) any(name string, value any) {
	raw, err := json.Marshal(value)
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("claim %q: %w", name, err)
	}
	c.raw(name, raw)
}

// object adds an object with the members of inner.
func (c *claimSet) object(name string, inner *claimSet) {
	raw, err := inner.marshal(nil)
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("claim %q: %w", name, err)
	}
	c.raw(name, raw)
}

// marshal appends an object of the members sorted by name, so that equal claims are
// equal bytes.
func (c *claimSet) marshal(out []byte) ([]byte, error) {
	if c.err != nil {
		return out, c.err
	}
	slices.SortFunc(c.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	size := 2
	for _, m := range c.members {
		size += len(m.name) + len(m.raw) + 8
	}
	out = append(slices.Grow(out, size), '{')
	for i, m := range c.members {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendText(out, m.name)
		out = append(out, ':')
		out = append(out, m.raw...)
	}
	return append(out, '}'), nil
}

// appendText appends s as a JSON string.
func appendText(out []byte, s string) []byte {
	start := len(out)
	out = append(append(out, '"'), s...)
	if n := strictjson.Plain(out[start+1:]); n < len(s) {
		return appendEscaped(out[:start+1+n], s, n)
	}
	return append(out, '"')
}

// appendEscaped goes on with s[n:] where appendText found the first byte that
// may need an escape. Lists have line ends; all else is rare.
func appendEscaped(out []byte, s string, n int) []byte {
	start, text := len(out)-n-1, []byte(s)
	for n < len(text) {
		switch c := text[n]; {
		case c == '\n':
			out = append(out, '\\', 'n')
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20 || c >= 0x80:
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("unreachable: a string always marshals")
			}
			return append(out[:start], quoted...)
		default:
			out = append(out, c)
		}
		n++
		run := strictjson.Plain(text[n:])
		out = append(out, text[n:n+run]...)
		n += run
	}
	return append(out, '"')
}

// appendValues appends an object with the value of each claim, sorted by name: true,
// false, a text, or null for what could not be proven.
func appendValues(out []byte, claims evidence.Claims) []byte {
	names := make([]string, 0, len(claims))
	size := 2
	for name, claim := range claims {
		names = append(names, name)
		text, _ := claim.Value.Text()
		size += len(name) + len(text) + len(text)/64 + 10
	}
	slices.Sort(names)
	out = append(slices.Grow(out, size), '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendText(out, name), ':')
		out = appendValue(out, claims[name].Value)
	}
	return append(out, '}')
}

func appendValue(out []byte, v evidence.Value) []byte {
	switch text, isText := v.Text(); {
	case isText:
		return appendText(out, text)
	case v.IsTrue():
		return append(out, "true"...)
	case v.IsFalse():
		return append(out, "false"...)
	default:
		return append(out, "null"...)
	}
}
