// Package kmip speaks KMIP to a key server: its encoding, and the few operations
// that a key provider needs.
//
// A server's answer is believed about the server's own keys only: that the server is
// the right one its TLS certificate shows, that a key is safe there nothing does.
// Start with [Dial]; [Parse] and [Item] are the encoding alone.
//
// OASIS Key Management Interoperability Protocol, versions 1.2 to 2.1; sections are
// those of the specification of version 1.4 unless another is named.
package kmip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of an encoded message. A server's answers here are far below them.
const (
	// MaxMessage bounds a message in bytes.
	MaxMessage = 64 << 10
	maxDepth   = 12
	maxItems   = 1024
)

// ErrEncoding is what is no TTLV.
var ErrEncoding = errors.New("not TTLV")

// A Type is an item type (9.1.1.2).
type Type uint8

// The item types.
const (
	TypeStructure        Type = 0x01
	TypeInteger          Type = 0x02
	TypeLongInteger      Type = 0x03
	TypeBigInteger       Type = 0x04
	TypeEnumeration      Type = 0x05
	TypeBoolean          Type = 0x06
	TypeTextString       Type = 0x07
	TypeByteString       Type = 0x08
	TypeDateTime         Type = 0x09
	TypeInterval         Type = 0x0a
	TypeDateTimeExtended Type = 0x0b // 2.0, 11.1.1
)

// size is the length of a type's value; -1 when it varies (9.1.1.3).
func (t Type) size() (int, bool) {
	switch t {
	case TypeInteger, TypeEnumeration, TypeInterval:
		return 4, true
	case TypeLongInteger, TypeBoolean, TypeDateTime, TypeDateTimeExtended:
		return 8, true
	case TypeStructure, TypeBigInteger, TypeTextString, TypeByteString:
		return -1, true
	}
	return 0, false
}

// An Item is one tag, type, length and value. Which field holds the value depends on
// the type; those of a parsed Item are what somebody sent.
type Item struct {
	Tag   Tag
	Type  Type
	Items []Item // of a structure, in order
	Bytes []byte // of a byte string, a text string and a big integer
	Int   int64  // of all other types
}

// Structure makes an item of items.
func Structure(t Tag, items ...Item) Item { return Item{Tag: t, Type: TypeStructure, Items: items} }

// Text makes a text string.
func Text(t Tag, s string) Item { return Item{Tag: t, Type: TypeTextString, Bytes: []byte(s)} }

// Bytes makes a byte string.
func Bytes(t Tag, b []byte) Item { return Item{Tag: t, Type: TypeByteString, Bytes: b} }

// Integer makes an integer.
func Integer(t Tag, n int32) Item { return Item{Tag: t, Type: TypeInteger, Int: int64(n)} }

// Enumeration makes an enumeration.
func Enumeration(t Tag, n uint32) Item { return Item{Tag: t, Type: TypeEnumeration, Int: int64(n)} }

// Parse reads one item that takes up all of b, which it aliases. The error wraps
// [ErrEncoding].
func Parse(b []byte) (Item, error) {
	if len(b) > MaxMessage {
		return Item{}, fmt.Errorf("%w: %d bytes, more than %d", ErrEncoding, len(b), MaxMessage)
	}
	p := parser{}
	i, rest, err := p.item(b, 0)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after the item", ErrEncoding, len(rest))
	}
	if err != nil {
		return Item{}, err
	}
	return i, nil
}

// A parser counts what it has made.
type parser struct{ items int }

func (p *parser) item(b []byte, depth int) (i Item, rest []byte, err error) {
	if p.items++; p.items > maxItems || depth > maxDepth {
		return i, nil, fmt.Errorf("%w: more than %d items, or %d levels of them", ErrEncoding, maxItems, maxDepth)
	}
	if len(b) < 8 {
		return i, nil, fmt.Errorf("%w: %d bytes, an item has 8 at least", ErrEncoding, len(b))
	}
	i.Tag, i.Type = Tag(binary.BigEndian.Uint32(b)>>8), Type(b[3])
	want, known := i.Type.size()
	length := binary.BigEndian.Uint32(b[4:])
	if !known || want >= 0 && length != uint32(want) {
		return i, nil, fmt.Errorf("%w: tag %#x has type %#x and length %d", ErrEncoding, uint32(i.Tag), uint8(i.Type), length)
	}
	// 9.1.1.3: the length leaves out the padding to a multiple of eight.
	n, padded := uint64(length), (uint64(length)+7)&^7
	if padded > uint64(len(b)-8) {
		return i, nil, fmt.Errorf("%w: tag %#x has %d bytes, and %d are left", ErrEncoding, uint32(i.Tag), length, len(b)-8)
	}
	value, padding, rest := b[8:8+n], b[8+n:8+padded], b[8+padded:]
	for _, z := range padding {
		if z != 0 {
			return i, nil, fmt.Errorf("%w: padding of tag %#x is not zero", ErrEncoding, uint32(i.Tag))
		}
	}
	return i, rest, p.value(&i, value, depth)
}

func (p *parser) value(i *Item, b []byte, depth int) (err error) {
	switch i.Type {
	case TypeStructure:
		for len(b) > 0 {
			var inner Item
			if inner, b, err = p.item(b, depth+1); err != nil {
				return err
			}
			i.Items = append(i.Items, inner)
		}
	case TypeInteger:
		i.Int = int64(int32(binary.BigEndian.Uint32(b))) //nolint:gosec // two's complement, 9.1.1.4
	case TypeEnumeration, TypeInterval:
		i.Int = int64(binary.BigEndian.Uint32(b))
	case TypeLongInteger, TypeDateTime, TypeDateTimeExtended, TypeBoolean:
		i.Int = int64(binary.BigEndian.Uint64(b)) //nolint:gosec // two's complement, 9.1.1.4
		if i.Type == TypeBoolean && i.Int != 0 && i.Int != 1 {
			err = fmt.Errorf("%w: boolean %#x", ErrEncoding, i.Int)
		}
	default:
		i.Bytes = b
		if i.Type == TypeTextString && !utf8.Valid(b) {
			err = fmt.Errorf("%w: text of tag %#x is not UTF-8", ErrEncoding, uint32(i.Tag))
		}
		if i.Type == TypeBigInteger && len(b)%8 != 0 {
			err = fmt.Errorf("%w: big integer of %d bytes", ErrEncoding, len(b))
		}
	}
	return err
}

// Append encodes i at the end of dst.
func (i Item) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(i.Tag)<<8|uint32(i.Type))
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	switch i.Type {
	case TypeStructure:
		for _, inner := range i.Items {
			dst = inner.Append(dst)
		}
	case TypeInteger, TypeEnumeration, TypeInterval:
		dst = binary.BigEndian.AppendUint32(dst, uint32(i.Int)) //nolint:gosec // two's complement
	case TypeBigInteger, TypeTextString, TypeByteString:
		dst = append(dst, i.Bytes...)
	default:
		dst = binary.BigEndian.AppendUint64(dst, uint64(i.Int)) //nolint:gosec // two's complement
	}
	n := len(dst) - at - 4
	binary.BigEndian.PutUint32(dst[at:], uint32(n)) // what we send is far below 4 GiB
	for ; n%8 != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

// Get returns the one item of a structure with a tag and a type; ok is false when
// there is none or more than one.
func (i Item) Get(tag Tag, typ Type) (found Item, ok bool) {
	for _, inner := range i.Items {
		if inner.Tag != tag {
			continue
		}
		if ok || inner.Type != typ {
			return Item{}, false
		}
		found, ok = inner, true
	}
	return found, ok
}

// All returns the items of a structure with a tag and a type.
func (i Item) All(tag Tag, typ Type) []Item {
	var out []Item
	for _, inner := range i.Items {
		if inner.Tag == tag && inner.Type == typ {
			out = append(out, inner)
		}
	}
	return out
}
