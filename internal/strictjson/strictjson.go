// Package strictjson reads JSON that somebody else wrote so that no two readers
// can understand it differently: a member that stands twice, text that is not
// UTF-8, half a surrogate pair and anything after the value are refused, names
// match exactly, and depth, count and size are bounded before anything is built.
//
// It says nothing about what a text means; who reads a member decides that.
// Start with [Object], which checks a text and hands out its members in one walk,
// [Parse], which only checks, or [Decode], which makes a tree.
//
// RFC 8259, with what its section 4 leaves to the reader decided as RFC 7493
// (I-JSON), 2 asks.
package strictjson

// maxDepth bounds the reader's own recursion, whatever [Rules] say.
const maxDepth = 64

// Rules bound a text. The zero Rules accept no text at all.
type Rules struct {
	Bytes   int // of the text
	Depth   int // objects and arrays inside one another; more than 64 count as 64
	Members int // of one object
	Values  int // of the whole text, the text's own value among them
	// PlainNames refuses escapes in the names of members.
	PlainNames bool
	// FoldNames refuses two members of an object whose names differ only in case,
	// for texts that encoding/json reads afterwards: it takes one for the other.
	FoldNames bool
}

// Parse checks that text is one JSON value and nothing else, and returns it
// without the space around it. The error is an [*Error].
func Parse(text []byte, r Rules) (Value, error) {
	var buf [usual][]byte
	s := scanner{in: text, rules: r, names: buf[:0]}
	return s.whole(nil)
}

// Object checks that text is one JSON object and nothing else, and calls visit
// for each member, in order, once the member is checked. What comes after it is
// not yet: a visit must not act on what it got before Object has returned nil.
// The error is that of the visit, or an [*Error]. An [*Error] that a visit returns
// as it is counts as one about the value that the visit was given.
func Object(text []byte, r Rules, visit func(name string, v Value) error) error {
	var buf [usual][]byte
	s := scanner{in: text, rules: r, names: buf[:0]}
	if start := s.space(0); s.at(start) != '{' {
		return s.fail(ErrSyntax, start, "no JSON object")
	}
	_, err := s.whole(visit)
	return err
}

// Members are those of one object, in order.
type Members []Member

// A Member is a name and its value.
type Member struct {
	Name  string
	Value Value
}

// ParseObject checks that text is one JSON object and nothing else, and returns
// its members, which alias text. The error is an [*Error].
func ParseObject(text []byte, r Rules) (Members, error) {
	out := make(Members, 0, 24)
	err := Object(text, r, func(name string, v Value) error {
		out = append(out, Member{name, v})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Get returns the value of a member; ok is false when there is none of that very name.
func (m Members) Get(name string) (v Value, ok bool) {
	for i := range m {
		if m[i].Name == name {
			return m[i].Value, true
		}
	}
	return nil, false
}

// Text returns the string called name; ok is false when there is no such member.
func (m Members) Text(name string) (s string, ok bool, err error) {
	v, ok := m.Get(name)
	if !ok {
		return "", false, nil
	}
	if s, err = v.Text(); err != nil {
		return "", true, &kindError{name, err}
	}
	return s, true, nil
}
