package query

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/assay-project/assay/internal/strictjson"
)

// An Operator compares two values.
type Operator uint8

// The operators, of queries and of policies alike.
const (
	Equal Operator = iota
	NotEqual
	Less
	LessEqual
	Greater
	GreaterEqual
)

// Signs lists the operators as they are written, each at its own index.
func Signs() []string { return []string{"==", "!=", "<", "<=", ">", ">="} }

func (o Operator) String() string { return Signs()[o] }

// compare gives null when an ordering is asked of anything but numbers.
func (m *Meter) compare(op Operator, a, b any) (any, error) {
	if op == Equal || op == NotEqual {
		same, err := m.equal(a, b)
		return same == (op == Equal), err
	}
	order, ok := orderNumbers(a, b)
	if !ok {
		return nil, nil
	}
	return op.Holds(order), nil
}

// Holds reports whether a comparison that gave order satisfies the Operator.
func (o Operator) Holds(order int) bool {
	switch o {
	case Equal:
		return order == 0
	case NotEqual:
		return order != 0
	case Less:
		return order < 0
	case LessEqual:
		return order <= 0
	case Greater:
		return order > 0
	default:
		return order >= 0
	}
}

func orderNumbers(a, b any) (order int, ok bool) {
	x, xInt := a.(int64)
	y, yInt := b.(int64)
	if xInt && yInt {
		return cmp.Compare(x, y), true
	}
	f, fOK := number(a)
	g, gOK := number(b)
	return cmp.Compare(f, g), fOK && gOK
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

func (m *Meter) equal(a, b any) (bool, error) {
	if err := m.Spend(1, 0); err != nil {
		return false, err
	}
	switch a := a.(type) {
	case []any:
		list, ok := b.([]any)
		if !ok {
			return false, nil
		}
		return m.equalLists(a, list)
	case strictjson.Tree:
		o, ok := b.(strictjson.Tree)
		if !ok {
			return false, nil
		}
		return m.equalObjects(a, o)
	case int64, float64:
		order, ok := orderNumbers(a, b)
		return ok && order == 0, nil
	case string:
		return a == b, m.Spend(len(a)/64, 0)
	default:
		return a == b, nil // booleans and null; b may be anything comparable
	}
}

func (m *Meter) equalLists(a, b []any) (bool, error) {
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
func (m *Meter) equalObjects(a, b strictjson.Tree) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if a[i].Name != b[i].Name {
			return false, nil
		}
		if same, err := m.equal(a[i].Value, b[i].Value); !same || err != nil {
			return false, err
		}
	}
	return true, nil
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
