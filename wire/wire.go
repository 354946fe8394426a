// Package wire lays out binary structures once, for both directions.
//
// A structure has one method, Wire(*Codec), that names its fields in the
// standard's order; [Decode] and [Encode] run it either way. The package proves
// nothing about the meaning of a value: it only holds that lengths are bounded,
// that nothing is allocated before its bytes are there, and that every byte of
// the input is used.
//
// Read [Codec] first. Big endian is the order of TPM 2.0 (Part 2, 4.2);
// [DecodeLE] and [EncodeLE] serve UEFI and the TCG event log.
package wire

import (
	"encoding/binary"
	"math"
)

// Layout is a structure that can lay itself out.
type Layout interface {
	// Wire passes each field to c in the standard's order. It must not read a
	// field before it has been passed, and must stop when c has failed only
	// where going on would be wrong: after a failure every call is a no-op.
	Wire(c *Codec)
}

// A Codec carries one structure in one direction. The first error sticks.
// It is not safe for concurrent use. [Decode] and its like make one each time;
// who lays out many structures one after the other spares that with one of his
// own, whose zero value is ready for [Codec.DecodePrefixIn] and [Codec.Append].
type Codec struct {
	buf      []byte
	off      int // next byte to read; unused when encoding
	base     int // offset of buf in the outermost input, for errors
	part     int // see Part
	context  any // see Context
	order    byteOrder
	decoding bool
	inner    bool // buf ends where a length of the outer structure says
	err      error
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// Decode fills v from the whole of in, big endian. Byte slices in v alias in.
func Decode(in []byte, v Layout) error { return decode(in, v, binary.BigEndian) }

// DecodeLE is [Decode] for little-endian structures.
func DecodeLE(in []byte, v Layout) error { return decode(in, v, binary.LittleEndian) }

func decode(in []byte, v Layout, order byteOrder) error {
	c := Codec{buf: in, decoding: true, order: order}
	v.Wire(&c)
	c.finish()
	return c.err
}

// DecodeIn is [Decode] with a context that the layouts may ask for, such as
// what a device supports of all that its standard defines.
func DecodeIn(context any, in []byte, v Layout) error {
	c := Codec{buf: in, decoding: true, order: binary.BigEndian, context: context}
	v.Wire(&c)
	c.finish()
	return c.err
}

// DecodePrefix fills v from the start of in, big endian, and returns what follows it.
func DecodePrefix(in []byte, v Layout) (rest []byte, err error) {
	return decodePrefix(in, v, binary.BigEndian)
}

// DecodePrefixIn is [DecodePrefix] with a context, as [DecodeIn] has one.
func DecodePrefixIn(context any, in []byte, v Layout) (rest []byte, err error) {
	return new(Codec).DecodePrefixIn(context, in, v)
}

// DecodePrefixIn is the function of that name, by c. It must not be called by
// what c lays out.
func (c *Codec) DecodePrefixIn(context any, in []byte, v Layout) (rest []byte, err error) {
	*c = Codec{buf: in, decoding: true, order: binary.BigEndian, context: context}
	v.Wire(c)
	err, rest = c.err, in[c.off:]
	if *c = (Codec{}); err != nil {
		return nil, err
	}
	return rest, nil
}

// DecodePrefixLE is [DecodePrefix] for little-endian structures.
func DecodePrefixLE(in []byte, v Layout) (rest []byte, err error) {
	return decodePrefix(in, v, binary.LittleEndian)
}

func decodePrefix(in []byte, v Layout, order byteOrder) ([]byte, error) {
	c := Codec{buf: in, decoding: true, order: order}
	v.Wire(&c)
	if c.err != nil {
		return nil, c.err
	}
	return in[c.off:], nil
}

// firstBuffer is the room that an encoding starts with.
const firstBuffer = 64

// Encode returns v in big-endian order. It fails when v breaks a limit of its own layout.
//
//go:noinline
func Encode(v Layout) ([]byte, error) { return Append(make([]byte, 0, firstBuffer), v) }

// EncodeLE is [Encode] for little-endian structures.
func EncodeLE(v Layout) ([]byte, error) {
	return new(Codec).appendTo(make([]byte, 0, firstBuffer), v, binary.LittleEndian)
}

// Append is [Encode] onto the end of dst.
func Append(dst []byte, v Layout) ([]byte, error) { return new(Codec).Append(dst, v) }

// Append is the function of that name, by c. It must not be called by what c lays
// out.
func (c *Codec) Append(dst []byte, v Layout) ([]byte, error) {
	return c.appendTo(dst, v, binary.BigEndian)
}

func (c *Codec) appendTo(dst []byte, v Layout, order byteOrder) ([]byte, error) {
	*c = Codec{buf: dst, order: order}
	v.Wire(c)
	b, err := c.buf, c.err
	if *c = (Codec{}); err != nil {
		return nil, err
	}
	return b, nil
}

// Decoding reports whether c fills structures (true) or writes them (false).
func (c *Codec) Decoding() bool { return c.decoding }

// Err returns the first failure, or nil.
func (c *Codec) Err() error { return c.err }

// Context returns what was given to [DecodeIn], else nil.
func (c *Codec) Context() any { return c.context }

// Part says that what follows is part n, from 1, of the structure: the parameter
// of a command, say. It only tells [Error] where a failure lies. What follows
// the last part of the outermost structure belongs to no part.
func (c *Codec) Part(n int) { c.part = n }

// Remaining returns how many bytes of the input are left; 0 when encoding.
func (c *Codec) Remaining() int {
	if !c.decoding {
		return 0
	}
	return len(c.buf) - c.off
}

// Fail records err at the present offset unless c has failed before.
// Wire methods use it for rules of their own; err is best one of the kinds above.
//
//go:noinline
func (c *Codec) Fail(err error) {
	if c.err != nil {
		return
	}
	at := c.off
	if !c.decoding {
		at = len(c.buf)
	}
	c.err = &Error{Offset: c.base + at, Part: c.part, Err: err}
}

// Check fails c with err unless ok; for ranges and selectors.
func (c *Codec) Check(ok bool, err error) {
	if !ok {
		c.Fail(err)
	}
}

// finish ends the outermost structure: what is left belongs to no part of it.
func (c *Codec) finish() {
	c.part = 0
	c.finishInner()
}

func (c *Codec) finishInner() {
	if c.err == nil && c.off != len(c.buf) {
		c.Fail(ErrTrailing)
	}
}

// take returns the next n bytes of the input, or nil and a failure.
func (c *Codec) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n > len(c.buf)-c.off {
		c.Fail(c.short())
		return nil
	}
	b := c.buf[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

// short is the kind of failure when the bytes run out.
func (c *Codec) short() error {
	if c.inner {
		return ErrOverrun
	}
	return ErrShort
}

// U8 lays out one byte.
func U8[T ~uint8](c *Codec, v *T) {
	if !c.decoding {
		if c.err == nil {
			c.buf = append(c.buf, byte(*v))
		}
		return
	}
	if b := c.take(1); b != nil {
		*v = T(b[0])
	}
}

// U16 lays out two bytes.
func U16[T ~uint16](c *Codec, v *T) {
	if !c.decoding {
		if c.err == nil {
			c.buf = c.order.AppendUint16(c.buf, uint16(*v))
		}
		return
	}
	if b := c.take(2); b != nil {
		*v = T(c.order.Uint16(b))
	}
}

// U32 lays out four bytes.
func U32[T ~uint32](c *Codec, v *T) {
	if !c.decoding {
		if c.err == nil {
			c.buf = c.order.AppendUint32(c.buf, uint32(*v))
		}
		return
	}
	if b := c.take(4); b != nil {
		*v = T(c.order.Uint32(b))
	}
}

// U64 lays out eight bytes.
func U64[T ~uint64](c *Codec, v *T) {
	if !c.decoding {
		if c.err == nil {
			c.buf = c.order.AppendUint64(c.buf, uint64(*v))
		}
		return
	}
	if b := c.take(8); b != nil {
		*v = T(c.order.Uint64(b))
	}
}

// Bool lays out one byte that is 0 or 1 (TPMI_YES_NO; Part 2, 9.2).
func (c *Codec) Bool(v *bool) {
	var b uint8
	if *v {
		b = 1
	}
	U8(c, &b)
	if c.err != nil {
		return
	}
	c.Check(b <= 1, ErrRange)
	*v = b == 1
}

// Bytes lays out a fixed array: len(b) bytes, copied.
func (c *Codec) Bytes(b []byte) {
	if !c.decoding {
		if c.err == nil {
			c.buf = append(c.buf, b...)
		}
		return
	}
	copy(b, c.take(len(b)))
}

// Zero lays out n reserved bytes, which must be zero.
func (c *Codec) Zero(n int) {
	if !c.decoding {
		if c.err == nil {
			c.buf = append(c.buf, make([]byte, n)...)
		}
		return
	}
	for _, b := range c.take(n) {
		if b != 0 {
			c.Fail(ErrReserved)
			return
		}
	}
}

// Raw lays out exactly n bytes. When decoding, *b aliases the input.
func (c *Codec) Raw(b *[]byte, n int) {
	if !c.decoding {
		c.Check(len(*b) == n, ErrSize)
		if c.err == nil {
			c.buf = append(c.buf, *b...)
		}
		return
	}
	if n < 0 {
		c.Fail(ErrSize)
		return
	}
	if in := c.take(n); in != nil {
		*b = in
	}
}

// Rest lays out all that is left of the input, or the whole of *b.
// When decoding, *b aliases the input.
func (c *Codec) Rest(b *[]byte) {
	if !c.decoding {
		c.Raw(b, len(*b))
		return
	}
	c.Raw(b, len(c.buf)-c.off)
}

// Sized16 lays out a 16-bit length and that many bytes, at most limit (TPM2B_*;
// Part 2, 10.4). When decoding, *b aliases the input and is never nil.
func (c *Codec) Sized16(b *[]byte, limit int) {
	limit = min(limit, math.MaxUint16)
	c.Check(c.decoding || len(*b) <= limit, ErrSize)
	n := uint16(len(*b)) // bounded by the check above
	U16(c, &n)
	c.sized(b, int(n), limit)
}

// Sized32 lays out a 32-bit length and that many bytes, at most limit.
// When decoding, *b aliases the input and is never nil.
func (c *Codec) Sized32(b *[]byte, limit int) {
	limit = min(limit, math.MaxInt32)
	c.Check(c.decoding || len(*b) <= limit, ErrSize)
	n := uint32(len(*b)) // bounded by the check above
	U32(c, &n)
	if c.err == nil && int64(n) > int64(limit) {
		c.Fail(ErrSize)
	}
	c.sized(b, int(n), limit)
}

func (c *Codec) sized(b *[]byte, n, limit int) {
	if c.err != nil {
		return
	}
	if n > limit {
		c.Fail(ErrSize)
		return
	}
	c.Raw(b, n)
}

// Inner16 lays out a 16-bit length and a structure that must fill it exactly
// (TPM2B of a structure; Part 2, 10.4). It must not be longer than limit.
func (c *Codec) Inner16(v Layout, limit int) {
	if !c.decoding {
		c.encodeInner16(v, limit)
		return
	}
	var n uint16
	U16(c, &n)
	if c.err != nil {
		return
	}
	if int(n) > limit {
		c.Fail(ErrSize)
		return
	}
	cut := int(n) > len(c.buf)-c.off // the input ends before the structure should
	in := c.take(min(int(n), len(c.buf)-c.off))
	outer := *c
	c.buf, c.off, c.base, c.inner = in, 0, c.base+c.off-len(in), !cut || c.inner
	v.Wire(c)
	c.finishInner()
	if cut && c.err == nil {
		if len(in) == 0 { // a structure that may be empty, but is not by its length
			c.Fail(c.short())
		}
		c.Fail(ErrOverlong)
	}
	outer.err = c.err
	*c = outer
}

func (c *Codec) encodeInner16(v Layout, limit int) {
	if c.err != nil {
		return
	}
	at := len(c.buf)
	c.buf = append(c.buf, 0, 0)
	v.Wire(c)
	n := len(c.buf) - at - 2
	c.Check(n <= min(limit, math.MaxUint16), ErrSize)
	if c.err == nil {
		c.order.PutUint16(c.buf[at:], uint16(n)) // bounded by the check above
	}
}

// LayoutOf is a pointer to T that lays T out.
type LayoutOf[T any] interface {
	*T
	Layout
}

// List32 lays out a 32-bit count and that many structures, at most limit
// (TPML_*; Part 2, 10.9). Memory grows with the elements read, not with the count.
func List32[T any, P LayoutOf[T]](c *Codec, v *[]T, limit int) {
	n := c.count(len(*v), limit)
	if c.err != nil {
		return
	}
	if c.decoding {
		*v = nil
	}
	for i := range n {
		if c.decoding {
			*v = append(*v, *new(T))
		}
		P(&(*v)[i]).Wire(c)
		if c.err != nil {
			return
		}
	}
}

// count lays out the count of a list of have elements, and returns it.
//
//go:noinline
func (c *Codec) count(have, limit int) int {
	c.Check(c.decoding || have <= limit, ErrSize)
	n := uint32(have) // bounded by the check above
	U32(c, &n)
	c.Check(int64(n) <= int64(limit), ErrSize)
	return int(n)
}
