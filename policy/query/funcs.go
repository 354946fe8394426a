package query

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/assay-project/assay/internal/strictjson"
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

func (m *Meter) call(n *node, v any) (any, error) {
	args := make([]any, len(n.kids))
	for i := range n.kids {
		var err error
		if args[i], err = m.eval(&n.kids[i], v); err != nil {
			return nil, err
		}
		types := n.fn.args[min(i, len(n.fn.args)-1)]
		if !slices.ContainsFunc([]byte(types), func(t byte) bool { return isType(args[i], t) }) {
			return nil, fmt.Errorf("query gives %s a %s as argument %d", n.name, TypeName(args[i]), i+1)
		}
		if err := m.Spend(size(args[i]), 0); err != nil {
			return nil, err
		}
	}
	out, err := n.fn.call(m, args)
	if err != nil {
		return nil, fmt.Errorf("query function %s: %w", n.name, err)
	}
	return out, m.Spend(0, wordSize*size(out))
}

// size is a measure of the work that a function has with v.
func size(v any) int {
	switch v := v.(type) {
	case string:
		return 1 + len(v)/wordSize
	case []any:
		return 1 + len(v)
	case strictjson.Tree:
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
	case strictjson.Tree:
		return 'o'
	default:
		return 'x'
	}
}

// TypeName returns the name that JMESPath has for the type of a value.
func TypeName(v any) string {
	return map[byte]string{'z': "null", 'b': "boolean", 'n': "number", 's': "string", 'a': "array", 'o': "object", 'x': "expression"}[typeLetter(v)]
}

// rounded applies f to a number that is no integer.
func rounded(v any, f func(float64) float64) (any, error) {
	if x, ok := v.(float64); ok {
		return strictjson.Whole(f(x)), nil
	}
	return v, nil
}

func fnAbs(_ *Meter, args []any) (any, error) {
	if n, ok := args[0].(int64); ok && n < 0 && n != math.MinInt64 {
		return -n, nil
	}
	return rounded(args[0], math.Abs)
}

func fnCeil(_ *Meter, args []any) (any, error) { return rounded(args[0], math.Ceil) }

func fnFloor(_ *Meter, args []any) (any, error) { return rounded(args[0], math.Floor) }

func total(list []any) float64 {
	sum := 0.0
	for _, e := range list {
		f, _ := number(e)
		sum += f
	}
	return sum
}

func fnSum(_ *Meter, args []any) (any, error) { return strictjson.Whole(total(args[0].([]any))), nil }

func fnAvg(_ *Meter, args []any) (any, error) {
	list := args[0].([]any)
	if len(list) == 0 {
		return nil, nil
	}
	return strictjson.Whole(total(list) / float64(len(list))), nil
}

func fnContains(m *Meter, args []any) (any, error) {
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

func fnStartsWith(_ *Meter, args []any) (any, error) {
	return strings.HasPrefix(args[0].(string), args[1].(string)), nil
}

func fnEndsWith(_ *Meter, args []any) (any, error) {
	return strings.HasSuffix(args[0].(string), args[1].(string)), nil
}

// fnEqualsIgnoreCase is false unless both are strings: a filter over events, of
// which only some have the field, must not fail.
func fnEqualsIgnoreCase(_ *Meter, args []any) (any, error) {
	a, isA := args[0].(string)
	b, isB := args[1].(string)
	return isA && isB && strings.EqualFold(a, b), nil
}

func fnJoin(m *Meter, args []any) (any, error) {
	sep, list := args[0].(string), args[1].([]any)
	parts, length := make([]string, len(list)), 0
	for i := range list {
		parts[i] = list[i].(string)
		length += len(parts[i]) + len(sep)
	}
	if err := m.Spend(0, length); err != nil {
		return nil, err
	}
	return strings.Join(parts, sep), nil
}

func fnKeys(_ *Meter, args []any) (any, error) {
	out := []any{}
	for _, member := range args[0].(strictjson.Tree) {
		out = append(out, member.Name)
	}
	return out, nil
}

func fnValues(_ *Meter, args []any) (any, error) {
	out := []any{}
	for _, member := range args[0].(strictjson.Tree) {
		out = append(out, member.Value)
	}
	return out, nil
}

func fnLength(_ *Meter, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	default:
		return int64(len(v.(strictjson.Tree))), nil
	}
}

// apply evaluates the expression x for each element.
func (m *Meter) apply(x any, list []any) ([]any, error) {
	out := make([]any, len(list))
	for i := range list {
		var err error
		if out[i], err = m.eval(x.(*node), list[i]); err != nil {
			return nil, err
		}
	}
	return out, m.Spend(0, wordSize*len(out))
}

func fnMap(m *Meter, args []any) (any, error) {
	out, err := m.apply(args[0], args[1].([]any))
	return out, err
}

func fnMax(_ *Meter, args []any) (any, error) { return extreme(args[0].([]any), args[0].([]any), 1) }

func fnMin(_ *Meter, args []any) (any, error) { return extreme(args[0].([]any), args[0].([]any), -1) }

func fnMaxBy(m *Meter, args []any) (any, error) { return m.extremeBy(args, 1) }

func fnMinBy(m *Meter, args []any) (any, error) { return m.extremeBy(args, -1) }

func (m *Meter) extremeBy(args []any, sign int) (any, error) {
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

func fnSort(m *Meter, args []any) (any, error) {
	list := args[0].([]any)
	if err := m.Spend(16*len(list), 0); err != nil {
		return nil, err
	}
	out, err := sortBy(list, list)
	return out, err
}

func fnSortBy(m *Meter, args []any) (any, error) {
	list := args[0].([]any)
	keys, err := m.apply(args[1], list)
	if err != nil {
		return nil, err
	}
	if err := m.Spend(16*len(list), 0); err != nil {
		return nil, err
	}
	out, err := sortBy(list, keys)
	return out, err
}

// fnMerge lets later arguments win.
func fnMerge(m *Meter, args []any) (any, error) {
	var all strictjson.Tree
	for _, a := range args {
		all = append(all, a.(strictjson.Tree)...)
	}
	if err := m.Spend(16*len(all), 2*wordSize*len(all)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b strictjson.Branch) int { return strings.Compare(a.Name, b.Name) })
	out := strictjson.Tree{}
	for i := range all {
		if i+1 == len(all) || all[i+1].Name != all[i].Name {
			out = append(out, all[i])
		}
	}
	return out, nil
}

func fnNotNull(_ *Meter, args []any) (any, error) {
	for _, a := range args {
		if a != nil {
			return a, nil
		}
	}
	return nil, nil
}

func fnReverse(m *Meter, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		runes := []rune(s)
		slices.Reverse(runes)
		return string(runes), m.Spend(0, 5*len(s))
	}
	out := slices.Clone(args[0].([]any))
	slices.Reverse(out)
	return out, nil
}

func fnToArray(_ *Meter, args []any) (any, error) {
	if list, ok := args[0].([]any); ok {
		return list, nil
	}
	return []any{args[0]}, nil
}

func fnToNumber(_ *Meter, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		v, err := Parse(s)
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

func fnToString(m *Meter, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	out, err := appendJSON(nil, args[0], min(maxResult, m.bytes))
	if err != nil {
		return nil, err
	}
	return string(out), m.Spend(len(out)/wordSize, len(out))
}

func fnType(_ *Meter, args []any) (any, error) { return TypeName(args[0]), nil }
