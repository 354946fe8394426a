package strictjson

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strings"
	"unicode"
)

// names are those of one object so far: in the scanner's list from first on, and
// in a set once they are many and not in order.
type names struct {
	first    int
	unsorted bool
	set      map[uint64]struct{} // hashes: they cost no copy of the names
	seed     maphash.Seed        // so that nobody can choose names of equal hashes
}

// few names are compared one by one; a set costs more than it saves.
const few = 32

// name reads a member's name at i, which the object must not have already, and its
// colon. It returns where the value starts.
func (s *scanner) name(i int, seen *names) (name []byte, value int, err error) {
	if s.at(i) != '"' {
		return nil, 0, s.fail(ErrSyntax, i, "no member name")
	}
	end, escaped, err := s.str(i)
	if err != nil {
		return nil, 0, err
	}
	if name, err = s.decoded(i, end, escaped); err != nil {
		return nil, 0, err
	}
	if err := s.add(i, seen, name); err != nil {
		return nil, 0, err
	}
	if end = s.space(end); s.at(end) != ':' {
		return nil, 0, s.fail(ErrSyntax, end, "no colon after a member name")
	}
	return name, s.space(end + 1), nil
}

// decoded returns a name without quotes and escapes.
func (s *scanner) decoded(i, end int, escaped bool) ([]byte, error) {
	s.nameAt = 0
	if !escaped {
		s.nameAt = i + 1
		return s.in[i+1 : end-1], nil
	}
	if s.rules.PlainNames {
		return nil, s.fail(ErrSyntax, i, "escape in a member name")
	}
	text, err := unquote(s.in[i:end])
	return []byte(text), err
}

// add keeps a name unless the object has it already (RFC 8259, 4: readers differ
// in which of the two members they take).
func (s *scanner) add(i int, seen *names, name []byte) error {
	key := name
	if s.rules.FoldNames {
		key = fold(name)
	}
	have := s.names[seen.first:]
	if seen.has(have, key) {
		return s.fail(ErrDuplicate, i, "member %s stands twice", clip(string(name)))
	}
	if len(have) >= s.rules.Members {
		return s.fail(ErrLimit, i, "more than %d members in an object", s.rules.Members)
	}
	s.names = append(s.names, key)
	if seen.set != nil {
		seen.set[maphash.Bytes(seen.seed, key)] = struct{}{}
	}
	return nil
}

// has reports whether name is one of have, which are the names so far.
func (n *names) has(have [][]byte, name []byte) bool {
	// What comes after the last of ascending names is none of them.
	if !n.unsorted && (len(have) == 0 || bytes.Compare(have[len(have)-1], name) < 0) {
		return false
	}
	n.unsorted = true
	if n.set == nil && len(have) > few {
		n.set, n.seed = make(map[uint64]struct{}, 2*len(have)), maphash.MakeSeed()
		for _, h := range have {
			n.set[maphash.Bytes(n.seed, h)] = struct{}{}
		}
	}
	if n.set != nil {
		if _, likely := n.set[maphash.Bytes(n.seed, name)]; !likely {
			return false
		}
	}
	return slices.ContainsFunc(have, func(h []byte) bool { return bytes.Equal(h, name) })
}

// fold gives names that encoding/json takes for one another the same spelling: the
// least of the runes that fold to one another.
func fold(name []byte) []byte {
	return []byte(strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, string(name)))
}
