package sipa

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
)

// An ID is the type of a tag (SIPAEVENTTYPE).
type ID uint32

// The parts of an ID.
const (
	flagUnmeasured  ID = 0x80000000 // SIPAEVENTTYPE_NONMEASURED
	flagAggregation ID = 0x40000000 // SIPAEVENTTYPE_AGGREGATION
	classMask       ID = 0x000F0000
)

// The classes of identifiers that the rules of this package name.
const (
	classContainer ID = 0x00010000
	classAuthority ID = 0x00060000
	classDRTM      ID = 0x000C0000
)

// Class returns the class bits of id.
func (id ID) Class() ID { return id & classMask }

// Aggregation reports whether the value is a list of tags.
func (id ID) Aggregation() bool { return id&flagAggregation != 0 }

// Unmeasured reports whether id is one that no register covers.
func (id ID) Unmeasured() bool { return id&flagUnmeasured != 0 }

// String returns the name in the header without its prefix, or the number.
func (id ID) String() string {
	if name, ok := names[id]; ok {
		return name
	}
	return fmt.Sprintf("tag %08x", uint32(id))
}

// A Tag is one node of the tree: a value, or for an aggregation its members.
// Value aliases the input.
type Tag struct {
	ID      ID
	Value   []byte
	Members []Tag
}

// The ways in which an event can be no tree of tags.
var (
	// ErrShort is a tag that ends after its container.
	ErrShort = errors.New("tag is longer than what contains it")
	// ErrNesting is an aggregation inside too many others.
	ErrNesting = errors.New("aggregations are nested more than 4 deep")
	// ErrCount is an event of more tags than any boot has.
	ErrCount = errors.New("more tags than a boot can have")
)

const (
	maxDepth = 4    // trust boundary, module, KSR, signed KSR; the samples use two
	maxTags  = 4096 // in one event; the samples have at most 950
	header   = 8    // id and length, 32 bits each, little endian
)

// Parse reads the data of one EV_EVENT_TAG event. It checks shape only.
// Identifiers that it does not know are kept.
func Parse(data []byte) ([]Tag, error) {
	budget := maxTags
	return parse(data, &budget)
}

func parse(data []byte, budget *int) ([]Tag, error) {
	if len(data) == 0 {
		return nil, ErrShort
	}
	own := min(*budget, maxTags)
	left := own
	tags, err := members(data, 0, &left)
	*budget -= own - left
	return tags, err
}

// members reads the tags of one level: it counts them first, so that memory is
// asked for once and only for tags that are there.
func members(b []byte, depth int, budget *int) ([]Tag, error) {
	n := 0
	for rest := b; len(rest) > 0; n++ {
		_, _, next, err := cut(rest)
		if err != nil {
			return nil, err
		}
		rest = next
	}
	if n > *budget {
		return nil, ErrCount
	}
	*budget -= n
	tags := make([]Tag, 0, n)
	for rest := b; len(rest) > 0; {
		id, value, next, err := cut(rest)
		if err != nil {
			return nil, err
		}
		rest = next
		t := Tag{ID: id, Value: value}
		if id.Aggregation() {
			if depth+1 > maxDepth {
				return nil, ErrNesting
			}
			if t.Members, err = members(value, depth+1, budget); err != nil {
				return nil, fmt.Errorf("%s: %w", id, err)
			}
		}
		tags = append(tags, t)
	}
	return tags, nil
}

// cut takes one tag from the front of b.
func cut(b []byte) (id ID, value, rest []byte, err error) {
	if len(b) < header {
		return 0, nil, nil, ErrShort
	}
	id = ID(binary.LittleEndian.Uint32(b))
	n := binary.LittleEndian.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-header) {
		return 0, nil, nil, fmt.Errorf("%s: %w", id, ErrShort)
	}
	end := header + int(n)
	return id, b[header:end:end], b[end:], nil
}

func codeOf(err error) evidence.Code {
	switch {
	case errors.Is(err, ErrNesting):
		return codeNesting
	case errors.Is(err, ErrCount):
		return codeTooMany
	default:
		return codeMalformed
	}
}
