package strictjson

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Tree is an object of [Decode]. It has its members sorted by name, so that nothing that walks
// over it depends on chance.
type Tree []Branch

// A Branch is one member of a [Tree]: its value is nil, a bool, an int64, a
// float64, a string, a []any or a [Tree].
type Branch struct {
	Name  string
	Value any
}

// Get returns the value of a member, nil when there is none.
func (t Tree) Get(name string) any {
	i, found := slices.BinarySearchFunc(t, name, func(b Branch, name string) int { return strings.Compare(b.Name, name) })
	if !found {
		return nil
	}
	return t[i].Value
}

// Sort puts members that were collected into order, and refuses a name that
// stands twice with [ErrDuplicate].
func (t Tree) Sort() (Tree, error) {
	slices.SortFunc(t, func(a, b Branch) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(t); i++ {
		if t[i].Name == t[i-1].Name {
			return nil, fmt.Errorf("%w: %s", ErrDuplicate, clip(t[i].Name))
		}
	}
	return t, nil
}

// Decode makes a tree of one JSON text: nil, a bool, an int64, a float64, a
// string, a []any or a [Tree]. Strings without escapes alias text. A whole number
// is an int64, however it is written; one that an int64 cannot hold is
// [ErrInexact], for two different ones could become equal. Fractions are rounded
// as float64 does.
// The error is an [*Error].
func Decode(text string, r Rules) (any, error) {
	if len(text) > r.Bytes {
		return nil, &Error{Kind: ErrLimit, Offset: r.Bytes, What: fmt.Sprintf("text of %d bytes, at most %d are read", len(text), r.Bytes)}
	}
	b := builder{text: text, scanner: scanner{in: []byte(text), rules: r}}
	v, end, err := b.build(b.space(0), 0)
	if err != nil {
		return nil, err
	}
	if end = b.space(end); end != len(text) {
		return nil, b.fail(ErrSyntax, end, "text after the value")
	}
	return v, nil
}

// A builder is a scanner that keeps what it finds.
type builder struct {
	scanner
	text string // the scanner's bytes, for strings to alias
}

// build returns the value that starts at i, inside depth others, and its end.
func (b *builder) build(i, depth int) (v any, end int, err error) {
	switch b.at(i) {
	case '{':
		return b.tree(i, depth)
	case '[':
		return b.list(i, depth)
	}
	if end, err = b.value(i, depth); err != nil {
		return nil, 0, err
	}
	switch b.in[i] {
	case '"':
		v, err = b.string(i, end)
	case 't', 'f':
		v = b.in[i] == 't'
	case 'n':
	default:
		v, err = b.numeric(i, end)
	}
	return v, end, err
}

func (b *builder) tree(i, depth int) (any, int, error) {
	if err := b.count(i); err != nil {
		return nil, 0, err
	}
	out := Tree{}
	end, err := b.object(i, depth, func(name []byte, at int) (int, error) {
		text := b.name(name)
		v, end, err := b.build(at, depth+1)
		out = append(out, Branch{text, v})
		return end, err
	})
	if err != nil {
		return nil, 0, err
	}
	out, err = out.Sort() // no name stands twice: the scanner has looked
	return out, end, err
}

// name returns the text of the name that was read last.
func (b *builder) name(name []byte) string {
	if b.nameAt == 0 {
		return string(name)
	}
	return b.text[b.nameAt : b.nameAt+len(name)]
}

func (b *builder) list(i, depth int) (any, int, error) {
	if err := b.count(i); err != nil {
		return nil, 0, err
	}
	out := []any{}
	end, err := b.array(i, depth, func(_, at int) (int, error) {
		v, end, err := b.build(at, depth+1)
		out = append(out, v)
		return end, err
	})
	return out, end, err
}

func (b *builder) string(i, end int) (string, error) {
	if strings.IndexByte(b.text[i:end], '\\') < 0 {
		return b.text[i+1 : end-1], nil
	}
	return unquote(b.in[i:end])
}

func (b *builder) numeric(i, end int) (any, error) {
	text := b.text[i:end]
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, b.fail(ErrInexact, i, "number %s is too large", text)
	}
	v := Whole(f)
	// From 2^53 on, every float64 is a whole number, and neighbours are lost.
	if _, exact := v.(int64); !exact && math.Abs(f) >= 1<<53 {
		return nil, b.fail(ErrInexact, i, "number %s is too large to be exact", text)
	}
	return v, nil
}

// Whole returns f as an int64 when it is one and exact.
func Whole(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return f
}
