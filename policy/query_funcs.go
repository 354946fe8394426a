package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkArguments refuses, when a query is compiled, an unknown function or a
// wrong number of arguments.
func (n *node) checkArguments() error {
	if n.fn == nil {
		return fmt.Errorf("query calls the unknown function %s", n.name)
	}
	if want := len(n.fn.args); len(n.kids) < want || len(n.kids) > want && !n.fn.variadic {
		return fmt.Errorf("query gives %s %d arguments, it takes %d", n.name, len(n.kids), want)
	}
	return nil
}

func (m *meter) call(n *node, v any) (any, error) {
	args := make([]any, len(n.kids))
	for i := range n.kids {
		var err error
		if args[i], err = m.eval(&n.kids[i], v); err != nil {
			return nil, err
		}
		types := n.fn.args[min(i, len(n.fn.args)-1)]
		if !slices.ContainsFunc([]byte(types), func(t byte) bool { return isType(args[i], t) }) {
			return nil, fmt.Errorf("query gives %s a %s as argument %d", n.name, typeName(args[i]), i+1)
		}
		if err := m.spend(size(args[i]), 0); err != nil {
			return nil, err
		}
	}
	out, err := n.fn.call(m, args)
	if err != nil {
		return nil, fmt.Errorf("query function %s: %w", n.name, err)
	}
	return out, m.spend(0, wordSize*size(out))
}

// size is a measure of the work that a function has with v.
func size(v any) int {
	switch v := v.(type) {
	case string:
		return 1 + len(v)/wordSize
	case []any:
		return 1 + len(v)
	case object:
		return 1 + 2*len(v)
	default:
		return 1
	}
}

func isType(v any, t byte) bool {
	switch t {
	case '*':
		return typeLetter(v) != 'x'
	case 'N', 'S':
		list, ok := v.([]any)
		for _, e := range list {
			ok = ok && isType(e, t|0x20)
		}
		return ok
	default:
		return typeLetter(v) == t
	}
}

func typeLetter(v any) byte {
	switch v.(type) {
	case nil:
		return 'z'
	case bool:
		return 'b'
	case int64, float64:
		return 'n'
	case string:
		return 's'
	case []any:
		return 'a'
	case object:
		return 'o'
	default:
		return 'x'
	}
}

func typeName(v any) string {
	return map[byte]string{'z': "null", 'b': "boolean", 'n': "number", 's': "string", 'a': "array", 'o': "object", 'x': "expression"}[typeLetter(v)]
}

// rounded applies f to a number that is no integer.
func rounded(v any, f func(float64) float64) (any, error) {
	if x, ok := v.(float64); ok {
		return whole(f(x)), nil
	}
	return v, nil
}

func fnAbs(_ *meter, args []any) (any, error) {
	if n, ok := args[0].(int64); ok && n < 0 && n != math.MinInt64 {
		return -n, nil
	}
	return rounded(args[0], math.Abs)
}

func fnCeil(_ *meter, args []any) (any, error) { return rounded(args[0], math.Ceil) }

func fnFloor(_ *meter, args []any) (any, error) { return rounded(args[0], math.Floor) }

func total(list []any) float64 {
	sum := 0.0
	for _, e := range list {
		f, _ := number(e)
		sum += f
	}
	return sum
}

func fnSum(_ *meter, args []any) (any, error) { return whole(total(args[0].([]any))), nil }

func fnAvg(_ *meter, args []any) (any, error) {
	list := args[0].([]any)
	if len(list) == 0 {
		return nil, nil
	}
	return whole(total(list) / float64(len(list))), nil
}

func fnContains(m *meter, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		sub, ok := args[1].(string)
		return ok && strings.Contains(s, sub), nil
	}
	for _, e := range args[0].([]any) {
		if same, err := m.equal(e, args[1]); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

func fnStartsWith(_ *meter, args []any) (any, error) {
	return strings.HasPrefix(args[0].(string), args[1].(string)), nil
}

func fnEndsWith(_ *meter, args []any) (any, error) {
	return strings.HasSuffix(args[0].(string), args[1].(string)), nil
}

// fnEqualsIgnoreCase is false unless both are strings: a filter over events, of
// which only some have the field, must not fail.
func fnEqualsIgnoreCase(_ *meter, args []any) (any, error) {
	a, isA := args[0].(string)
	b, isB := args[1].(string)
	return isA && isB && strings.EqualFold(a, b), nil
}

func fnJoin(m *meter, args []any) (any, error) {
	sep, list := args[0].(string), args[1].([]any)
	parts, length := make([]string, len(list)), 0
	for i := range list {
		parts[i] = list[i].(string)
		length += len(parts[i]) + len(sep)
	}
	if err := m.spend(0, length); err != nil {
		return nil, err
	}
	return strings.Join(parts, sep), nil
}

func fnKeys(_ *meter, args []any) (any, error) {
	out := []any{}
	for _, member := range args[0].(object) {
		out = append(out, member.name)
	}
	return out, nil
}

func fnValues(_ *meter, args []any) (any, error) {
	out := []any{}
	for _, member := range args[0].(object) {
		out = append(out, member.value)
	}
	return out, nil
}

func fnLength(_ *meter, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	default:
		return int64(len(v.(object))), nil
	}
}

// apply evaluates the expression x for each element.
func (m *meter) apply(x any, list []any) ([]any, error) {
	out := make([]any, len(list))
	for i := range list {
		var err error
		if out[i], err = m.eval(x.(*node), list[i]); err != nil {
			return nil, err
		}
	}
	return out, m.spend(0, wordSize*len(out))
}

func fnMap(m *meter, args []any) (any, error) {
	out, err := m.apply(args[0], args[1].([]any))
	return out, err
}

func fnMax(_ *meter, args []any) (any, error) { return extreme(args[0].([]any), args[0].([]any), 1) }

func fnMin(_ *meter, args []any) (any, error) { return extreme(args[0].([]any), args[0].([]any), -1) }

func fnMaxBy(m *meter, args []any) (any, error) { return m.extremeBy(args, 1) }

func fnMinBy(m *meter, args []any) (any, error) { return m.extremeBy(args, -1) }

func (m *meter) extremeBy(args []any, sign int) (any, error) {
	list := args[0].([]any)
	keys, err := m.apply(args[1], list)
	if err != nil {
		return nil, err
	}
	return extreme(list, keys, sign)
}

// extreme returns the first element whose key is the largest, or the smallest.
func extreme(list, keys []any, sign int) (any, error) {
	if len(list) == 0 {
		return nil, nil
	}
	cmp, err := comparer(keys)
	if err != nil {
		return nil, err
	}
	best := 0
	for i := range keys {
		if cmp(keys[i], keys[best])*sign > 0 {
			best = i
		}
	}
	return list[best], nil
}

func fnSort(m *meter, args []any) (any, error) {
	list := args[0].([]any)
	if err := m.spend(16*len(list), 0); err != nil {
		return nil, err
	}
	out, err := sortBy(list, list)
	return out, err
}

func fnSortBy(m *meter, args []any) (any, error) {
	list := args[0].([]any)
	keys, err := m.apply(args[1], list)
	if err != nil {
		return nil, err
	}
	if err := m.spend(16*len(list), 0); err != nil {
		return nil, err
	}
	out, err := sortBy(list, keys)
	return out, err
}

// fnMerge lets later arguments win.
func fnMerge(m *meter, args []any) (any, error) {
	var all object
	for _, a := range args {
		all = append(all, a.(object)...)
	}
	if err := m.spend(16*len(all), 2*wordSize*len(all)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	out := object{}
	for i := range all {
		if i+1 == len(all) || all[i+1].name != all[i].name {
			out = append(out, all[i])
		}
	}
	return out, nil
}

func fnNotNull(_ *meter, args []any) (any, error) {
	for _, a := range args {
		if a != nil {
			return a, nil
		}
	}
	return nil, nil
}

func fnReverse(m *meter, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		runes := []rune(s)
		slices.Reverse(runes)
		return string(runes), m.spend(0, 5*len(s))
	}
	out := slices.Clone(args[0].([]any))
	slices.Reverse(out)
	return out, nil
}

func fnToArray(_ *meter, args []any) (any, error) {
	if list, ok := args[0].([]any); ok {
		return list, nil
	}
	return []any{args[0]}, nil
}

func fnToNumber(_ *meter, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		v, err := parseJSON(s)
		if _, isNumber := number(v); err != nil || !isNumber {
			return nil, nil
		}
		return v, nil
	}
	if _, ok := number(args[0]); ok {
		return args[0], nil
	}
	return nil, nil
}

func fnToString(m *meter, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	out, err := appendJSON(nil, args[0], min(maxQueryResult, m.bytes))
	if err != nil {
		return nil, err
	}
	return string(out), m.spend(len(out)/wordSize, len(out))
}

func fnType(_ *meter, args []any) (any, error) { return typeName(args[0]), nil }
