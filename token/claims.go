package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/evidence"
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
		raw = evidence.AppendText(raw, s)
	}
	c.raw(name, append(raw, ']'))
}

func (c *claimSet) text(name, value string) { c.raw(name, evidence.AppendText(nil, value)) }

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
		out = evidence.AppendText(out, m.name)
		out = append(out, ':')
		out = append(out, m.raw...)
	}
	return append(out, '}'), nil
}
