package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A meter counts what the queries of one evaluation cost.
type meter struct {
	steps int // left
	bytes int // left
}

// spend takes n steps and the given bytes.
func (m *meter) spend(n, bytes int) error {
	m.steps -= n
	m.bytes -= bytes
	if m.steps < 0 || m.bytes < 0 {
		return fmt.Errorf("queries cost more than %d steps or %d bytes: %w", maxQuerySteps, maxQueryBytes, ErrLimit)
	}
	return nil
}

const wordSize = 16 // bytes of one element of a []any

// eval applies n to v. A value of the wrong type gives null, as the language
// says; only functions fail on one.
func (m *meter) eval(n *node, v any) (any, error) {
	if err := m.spend(1, 0); err != nil {
		return nil, err
	}
	switch n.kind {
	case nodeCurrent:
		return v, nil
	case nodeField:
		if o, ok := v.(object); ok {
			return o.get(n.name), nil
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
func (m *meter) combine(n *node, left, v any) (any, error) {
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
func (m *meter) project(n *node, left any) (any, error) {
	elements, ok := left.([]any)
	if o, is := left.(object); is && n.kind == nodeValues {
		for i := range o {
			elements = append(elements, o[i].value)
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
	return out, m.spend(0, wordSize*len(out))
}

func (m *meter) flatten(v any) (any, error) {
	elements, ok := v.([]any)
	if !ok {
		return nil, nil
	}
	out := []any{}
	for _, e := range elements {
		if inner, ok := e.([]any); ok {
			if err := m.spend(1, wordSize*len(inner)); err != nil {
				return nil, err
			}
			out = append(out, inner...)
		} else {
			out = append(out, e)
		}
	}
	return out, m.spend(len(out), wordSize*len(elements))
}

func (m *meter) list(n *node, v any) (any, error) {
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
	return out, m.spend(0, wordSize*len(out))
}

func (m *meter) hash(n *node, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	out := make(object, 0, len(n.kids))
	for i := range n.kids {
		r, err := m.eval(&n.kids[i], v)
		if err != nil {
			return nil, err
		}
		out = append(out, member{n.names[i], r})
	}
	if err := m.spend(0, 2*wordSize*len(out)); err != nil {
		return nil, err
	}
	return sortObject(out)
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

func (m *meter) sliced(n *node, v any) (any, error) {
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
	return out, m.spend(len(out), wordSize*len(out))
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
	case object:
		return len(v) > 0
	default:
		return true
	}
}

// compare gives null when an ordering is asked of anything but numbers.
func (m *meter) compare(op operator, a, b any) (any, error) {
	if op == opEqual || op == opNotEqual {
		same, err := m.equal(a, b)
		return same == (op == opEqual), err
	}
	order, ok := orderNumbers(a, b)
	if !ok {
		return nil, nil
	}
	return op.holds(order), nil
}

// holds reports whether a comparison that gave order satisfies the operator.
func (o operator) holds(order int) bool {
	switch o {
	case opEqual:
		return order == 0
	case opNotEqual:
		return order != 0
	case opLess:
		return order < 0
	case opLessEqual:
		return order <= 0
	case opGreater:
		return order > 0
	default:
		return order >= 0
	}
}

func orderNumbers(a, b any) (order int, ok bool) {
	x, xInt := a.(int64)
	y, yInt := b.(int64)
	if xInt && yInt {
		return order3(x, y), true
	}
	f, fOK := number(a)
	g, gOK := number(b)
	return order3(f, g), fOK && gOK
}

func order3[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	default:
		return 0, false
	}
}

func (m *meter) equal(a, b any) (bool, error) {
	if err := m.spend(1, 0); err != nil {
		return false, err
	}
	switch a := a.(type) {
	case []any:
		list, ok := b.([]any)
		if !ok {
			return false, nil
		}
		return m.equalLists(a, list)
	case object:
		o, ok := b.(object)
		if !ok {
			return false, nil
		}
		return m.equalObjects(a, o)
	case int64, float64:
		order, ok := orderNumbers(a, b)
		return ok && order == 0, nil
	case string:
		return a == b, m.spend(len(a)/64, 0)
	default:
		return a == b, nil // booleans and null; b may be anything comparable
	}
}

func (m *meter) equalLists(a, b []any) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := m.equal(a[i], b[i]); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// equalObjects compares members in their order, which is that of the names.
func (m *meter) equalObjects(a, b object) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if a[i].name != b[i].name {
			return false, nil
		}
		if same, err := m.equal(a[i].value, b[i].value); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// run evaluates q over the JSON text data and returns the JSON text of the result.
func (q *query) run(m *meter, doc any) (string, error) {
	v, err := m.eval(&q.root, doc)
	if err != nil {
		return "", err
	}
	if _, is := v.(*node); is {
		return "", errors.New("query gives an expression, not a value")
	}
	out, err := appendJSON(nil, v, min(maxQueryResult, m.bytes))
	if err != nil {
		return "", err
	}
	return string(out), m.spend(len(out)/64, len(out))
}

// sortBy sorts a copy of list by keys, which are all numbers or all strings.
func sortBy(list, keys []any) ([]any, error) {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	cmp, err := comparer(keys)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp(keys[a], keys[b]) })
	out := make([]any, len(list))
	for i, from := range order {
		out[i] = list[from]
	}
	return out, nil
}

// comparer returns how to order keys, if they are of one orderable type.
func comparer(keys []any) (func(a, b any) int, error) {
	strs, nums := 0, 0
	for _, k := range keys {
		if _, ok := k.(string); ok {
			strs++
		} else if _, ok := number(k); ok {
			nums++
		}
	}
	switch len(keys) {
	case nums:
		return func(a, b any) int { o, _ := orderNumbers(a, b); return o }, nil
	case strs:
		return func(a, b any) int { return strings.Compare(a.(string), b.(string)) }, nil
	}
	return nil, errors.New("the keys to sort by are not all numbers or all strings")
}
