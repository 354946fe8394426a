package query

import (
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/strictjson"
)

// A Meter counts what the queries of one evaluation cost. [NewMeter] makes a full
// one; the zero Meter is used up.
type Meter struct {
	steps int // left
	bytes int // left
}

// NewMeter returns what one evaluation may spend.
func NewMeter() Meter { return Meter{maxSteps, maxBytes} }

// Spend takes n steps and the given bytes, or fails with [ErrLimit].
func (m *Meter) Spend(n, bytes int) error {
	m.steps -= n
	m.bytes -= bytes
	if m.steps < 0 || m.bytes < 0 {
		return fmt.Errorf("queries cost more than %d steps or %d bytes: %w", maxSteps, maxBytes, ErrLimit)
	}
	return nil
}

const wordSize = 16 // bytes of one element of a []any

// eval applies n to v. A value of the wrong type gives null, as the language
// says; only functions fail on one.
func (m *Meter) eval(n *node, v any) (any, error) {
	if err := m.Spend(1, 0); err != nil {
		return nil, err
	}
	switch n.kind {
	case nodeCurrent:
		return v, nil
	case nodeField:
		if o, ok := v.(strictjson.Tree); ok {
			return o.Get(n.name), nil
		}
		return nil, nil
	case nodeLiteral:
		return n.value, nil
	case nodeIndex:
		return indexed(v, n.index), nil
	case nodeSlice:
		return m.sliced(n, v)
	case nodeExpref:
		return &n.kids[0], nil
	case nodeList:
		return m.list(n, v)
	case nodeHash:
		return m.hash(n, v)
	case nodeCall:
		return m.call(n, v)
	}
	left, err := m.eval(&n.kids[0], v)
	if err != nil {
		return nil, err
	}
	return m.combine(n, left, v)
}

// combine evaluates the nodes whose first kid gave left.
func (m *Meter) combine(n *node, left, v any) (any, error) {
	switch n.kind {
	case nodeSub:
		if left == nil {
			return nil, nil
		}
		return m.eval(&n.kids[1], left)
	case nodePipe:
		return m.eval(&n.kids[1], left)
	case nodeNot:
		return !truthy(left), nil
	case nodeOr, nodeAnd:
		if truthy(left) == (n.kind == nodeOr) {
			return left, nil
		}
		return m.eval(&n.kids[1], v)
	case nodeCompare:
		right, err := m.eval(&n.kids[1], v)
		if err != nil {
			return nil, err
		}
		return m.compare(n.op, left, right)
	case nodeFlatten:
		return m.flatten(left)
	default:
		return m.project(n, left)
	}
}

// project applies the second kid to each element; nulls are dropped.
func (m *Meter) project(n *node, left any) (any, error) {
	elements, ok := left.([]any)
	if o, is := left.(strictjson.Tree); is && n.kind == nodeValues {
		for i := range o {
			elements = append(elements, o[i].Value)
		}
		ok = true
	} else if n.kind == nodeValues {
		ok = false
	}
	if !ok {
		return nil, nil
	}
	out := []any{}
	for _, e := range elements {
		if n.kind == nodeFilter {
			keep, err := m.eval(&n.kids[2], e)
			if err != nil {
				return nil, err
			}
			if !truthy(keep) {
				continue
			}
		}
		r, err := m.eval(&n.kids[1], e)
		if err != nil {
			return nil, err
		}
		if r != nil {
			out = append(out, r)
		}
	}
	return out, m.Spend(0, wordSize*len(out))
}

func (m *Meter) flatten(v any) (any, error) {
	elements, ok := v.([]any)
	if !ok {
		return nil, nil
	}
	out := []any{}
	for _, e := range elements {
		if inner, ok := e.([]any); ok {
			if err := m.Spend(1, wordSize*len(inner)); err != nil {
				return nil, err
			}
			out = append(out, inner...)
		} else {
			out = append(out, e)
		}
	}
	return out, m.Spend(len(out), wordSize*len(elements))
}

func (m *Meter) list(n *node, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	out := make([]any, len(n.kids))
	for i := range n.kids {
		var err error
		if out[i], err = m.eval(&n.kids[i], v); err != nil {
			return nil, err
		}
	}
	return out, m.Spend(0, wordSize*len(out))
}

func (m *Meter) hash(n *node, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	out := make(strictjson.Tree, 0, len(n.kids))
	for i := range n.kids {
		r, err := m.eval(&n.kids[i], v)
		if err != nil {
			return nil, err
		}
		out = append(out, strictjson.Branch{Name: n.names[i], Value: r})
	}
	if err := m.Spend(0, 2*wordSize*len(out)); err != nil {
		return nil, err
	}
	return out.Sort()
}

func indexed(v any, i int) any {
	elements, ok := v.([]any)
	if !ok {
		return nil
	}
	if i < 0 {
		i += len(elements)
	}
	if i < 0 || i >= len(elements) {
		return nil
	}
	return elements[i]
}

func (m *Meter) sliced(n *node, v any) (any, error) {
	elements, ok := v.([]any)
	if !ok {
		return nil, nil
	}
	step := 1
	if n.slice[2] != nil {
		step = *n.slice[2]
	}
	first, last := 0, len(elements)
	if step < 0 {
		first, last = len(elements)-1, -1
	}
	first, last = bound(n.slice[0], first, len(elements), step), bound(n.slice[1], last, len(elements), step)
	out := []any{}
	// The distance is compared, for i+step may overflow.
	for i := first; step > 0 && i < last || step < 0 && i > last; {
		out = append(out, elements[i])
		if step > 0 && step >= last-i || step < 0 && step <= last-i {
			break
		}
		i += step
	}
	return out, m.Spend(len(out), wordSize*len(out))
}

// bound places one end of a slice within a list of the given length.
func bound(p *int, absent, length, step int) int {
	if p == nil {
		return absent
	}
	low, high := 0, length
	if step < 0 {
		low, high = -1, length-1
	}
	i := *p
	if i < 0 {
		i += length
	}
	return min(max(i, low), high)
}

// truthy is false for null, false and whatever is empty.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case strictjson.Tree:
		return len(v) > 0
	default:
		return true
	}
}

// Run evaluates q over a document of [Parse] and returns the result as JSON text.
func (q *Query) Run(m *Meter, doc any) (string, error) {
	v, err := m.eval(&q.root, doc)
	if err != nil {
		return "", err
	}
	if _, is := v.(*node); is {
		return "", errors.New("query gives an expression, not a value")
	}
	out, err := appendJSON(nil, v, min(maxResult, m.bytes))
	if err != nil {
		return "", err
	}
	return string(out), m.Spend(len(out)/64, len(out))
}
