package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/evidence"
)

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
	raw, err := inner.marshal()
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("claim %q: %w", name, err)
	}
	c.raw(name, raw)
}

// marshal writes the members sorted by name, so that equal claims are equal bytes.
func (c *claimSet) marshal() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	slices.SortFunc(c.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	size := 2
	for _, m := range c.members {
		size += len(m.name) + len(m.raw) + 8
	}
	out := append(make([]byte, 0, size), '{')
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
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7F || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("unreachable: a string always marshals")
			}
			return append(out, quoted...)
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"')
}

// values returns an object with the value of each claim: true, false, a text, or
// null for what could not be proven.
func values(claims evidence.Claims) *claimSet {
	out := &claimSet{members: make([]member, 0, len(claims))}
	for name, claim := range claims {
		// Names are the keys of a map, so raw's search for a second is not needed.
		out.members = append(out.members, member{name, value(claim.Value)})
	}
	return out
}

func value(v evidence.Value) json.RawMessage {
	switch text, isText := v.Text(); {
	case isText:
		return appendText(nil, text)
	case v.IsTrue():
		return json.RawMessage("true")
	case v.IsFalse():
		return json.RawMessage("false")
	default:
		return json.RawMessage("null")
	}
}
