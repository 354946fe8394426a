package libtpms

import (
	"fmt"

	"github.com/assay-project/assay/wire"
)

// header begins each structure: a version, what the structure is, and from version
// 2 on the least version of a reader (NV_HEADER).
type header struct {
	version uint16
	magic   uint32
	oldest  uint16
}

// wire lays out the header, and holds that it is that of the structure with this
// magic and of a version that can be read here.
func (h *header) wire(c *wire.Codec, name string, magic uint32, newest uint16) {
	wire.U16(c, &h.version)
	wire.U32(c, &h.magic)
	check(c, h.magic == magic, ErrFormat, "%s: magic is %08x, want %08x", name, h.magic, magic)
	if h.version >= 2 {
		wire.U16(c, &h.oldest)
		check(c, h.oldest <= newest, ErrVersion, "%s: version %d, readable from %d on", name, h.version, h.oldest)
	}
}

func check(c *wire.Codec, ok bool, kind error, format string, args ...any) {
	if !ok && c.Err() == nil {
		c.Fail(fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...)))
	}
}

// maxBlock is the longest that a block can be: its length has 16 bits.
const maxBlock = 1<<16 - 1

// block reads what may or may not be there and can be passed over: a byte, a length
// and content. What of the content inside does not read is of a later version. It
// reports whether there was a block.
func block(c *wire.Codec, name string, inside func(c *wire.Codec)) bool {
	var there bool
	var content []byte
	wireBool(c, &there)
	c.Sized16(&content, maxBlock)
	if c.Err() != nil || !there {
		check(c, len(content) == 0, ErrFormat, "%s: a block that is not there has %d bytes", name, len(content))
		return false
	}
	if inside == nil {
		return true
	}
	if _, err := wire.DecodePrefix(content, layout(inside)); err != nil {
		c.Fail(fmt.Errorf("%s: %w", name, err))
	}
	return true
}

// skip passes over a block.
func skip(c *wire.Codec, name string) { block(c, name, nil) }

// layout is a structure that is laid out by a function.
type layout func(c *wire.Codec)

// Wire calls the function.
func (f layout) Wire(c *wire.Codec) { f(c) }

// wireBool lays out a byte that is true unless it is 0 (BOOL).
func wireBool(c *wire.Codec, v *bool) {
	var b uint8
	wire.U8(c, &b)
	*v = b != 0
}
