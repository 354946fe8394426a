package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Wire lays out all that a saved context, a snapshot and permanent state keep of
// an object. The private keys of rsa and ecc are made again when they are used (see [contextObject]).
// When decoding, the object shares the bytes of the input.
func (o *object) Wire(c *wire.Codec) {
	o.hierarchy.Wire(c)
	o.evict.Wire(c)
	sequential := o.sequence != nil
	wireFlags(c, &o.publicOnly, &o.primary, &o.temporary, &o.external, &o.stClear, &o.parent, &o.derivation, &sequential)
	if sequential {
		o.wireSequence(c)
		return
	}
	o.public.Wire(c)
	c.Sized16(&o.name, tpm2.MaxName)
	c.Sized16(&o.qualified, tpm2.MaxName)
	if !o.publicOnly {
		o.sensitive.Wire(c)
	}
}

// wireSequence lays out a sequence object, which has no public area but what
// commands ask of any object (Part 1, 32.4).
func (o *object) wireSequence(c *wire.Codec) {
	wire.U16(c, &o.public.Type)
	wire.U16(c, &o.public.NameAlg)
	wire.U32(c, &o.public.Attributes)
	if c.Decoding() {
		o.sequence = new(sequence)
	}
	o.sequence.Wire(c)
}

// wireFlags lays out up to 16 flags as bits, the first as bit 0.
func wireFlags(c *wire.Codec, flags ...*bool) {
	var bits uint16
	for i, f := range flags {
		if *f {
			bits |= 1 << i
		}
	}
	wire.U16(c, &bits)
	c.Check(bits>>len(flags) == 0, wire.ErrReserved)
	if c.Decoding() {
		for i, f := range flags {
			*f = bits>>i&1 == 1
		}
	}
}
