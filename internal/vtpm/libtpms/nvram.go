package libtpms

import (
	"fmt"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

const (
	ramMagic       = 0x5346feab
	nvramMagic     = 0x094f22c3
	indexMagic     = 0x2547265a
	anyObjectMagic = 0xfe9a3974
	objectMagic    = 0x75be73af
	objectVersion  = 4
)

// maxEntries bounds the indices and the objects of a TPM.
const maxEntries = 4096

// ramEntry is an orderly index: what changes of it without a write to the file.
type ramEntry struct {
	attributes tpm2.NVAttributes
	data       []byte
}

// ramHeader is what an entry takes in libtpms' memory beside its data
// (NV_RAM_HEADER): the table may end without the mark of its end when not even
// that much is left.
const ramHeader = 12

// wireOrderlyRAM reads INDEX_ORDERLY_RAM.
func wireOrderlyRAM(c *wire.Codec) map[tpm2.Handle]ramEntry {
	var h header
	h.wire(c, "INDEX_ORDERLY_RAM", ramMagic, otherVersion)
	var room, offset uint32
	wire.U32(c, &room)
	out := map[tpm2.Handle]ramEntry{}
	for c.Err() == nil && offset <= room && room-offset >= ramHeader {
		var size uint32
		wire.U32(c, &size)
		if size == 0 {
			break
		}
		var index tpm2.Handle
		var e ramEntry
		wire.U32(c, &index)
		wire.U32(c, &e.attributes)
		c.Sized16(&e.data, tpm2.MaxNVIndex)
		check(c, len(out) < maxEntries, ErrFormat, "INDEX_ORDERLY_RAM: more than %d entries", maxEntries)
		check(c, size == uint32(ramHeader+len(e.data)), ErrFormat, "INDEX_ORDERLY_RAM: entry of %d bytes with %d of data", size, len(e.data))
		_, twice := out[index]
		check(c, !twice, ErrFormat, "INDEX_ORDERLY_RAM: index %08x is there twice", uint32(index))
		out[index] = e
		offset += size
	}
	if h.version >= 2 {
		skip(c, "INDEX_ORDERLY_RAM")
	}
	return out
}

// wireNVRAM reads USER_NVRAM: indices and persistent objects, each with its size in
// libtpms' memory before it, up to a size of 0.
func (s *State) wireNVRAM(c *wire.Codec, ram map[tpm2.Handle]ramEntry) {
	var h header
	h.wire(c, "USER_NVRAM", nvramMagic, otherVersion)
	pass(c, 8) // how much room there is
	for c.Err() == nil {
		var size uint32
		wire.U32(c, &size)
		if size == 0 {
			break
		}
		check(c, len(s.Indices)+len(s.Objects) < maxEntries, ErrFormat, "USER_NVRAM: more than %d entries", maxEntries)
		var handle tpm2.Handle
		wire.U32(c, &handle)
		switch {
		case c.Err() != nil:
		case handle.Kind() == tpm2.KindNVIndex:
			s.wireIndex(c, handle, ram)
		case handle.Kind() == tpm2.KindPersistent:
			s.wireAnyObject(c, handle)
		default:
			check(c, false, ErrFormat, "USER_NVRAM: handle %08x is of no kind that is kept", uint32(handle))
		}
	}
	wire.U64(c, &s.MaxCounter)
	if h.version >= 2 {
		skip(c, "USER_NVRAM")
	}
	check(c, len(ram) == 0, ErrFormat, "INDEX_ORDERLY_RAM has %d entries of indices that are not defined", len(ram))
}

// wireIndex reads NV_INDEX and the data behind it. Those of an orderly index are in
// ram, from which it is taken.
func (s *State) wireIndex(c *wire.Codec, handle tpm2.Handle, ram map[tpm2.Handle]ramEntry) {
	var h header
	h.wire(c, "NV_INDEX", indexMagic, otherVersion)
	var x Index
	x.Public.Wire(c)
	c.Sized16(&x.Auth, tpm2.MaxDigest)
	if h.version >= 2 {
		skip(c, "NV_INDEX")
	}
	c.Sized32(&x.Data, tpm2.MaxNVIndex)
	check(c, x.Public.NVIndex == handle, ErrFormat, "NV_INDEX %08x in the place of %08x", uint32(x.Public.NVIndex), uint32(handle))
	if e, ok := ram[handle]; ok && x.Public.Attributes.Has(tpm2.NVOrderly) {
		x.Public.Attributes, x.Data = e.attributes, e.data
		delete(ram, handle)
	}
	check(c, len(x.Data) == int(x.Public.DataSize), ErrFormat, "NV_INDEX %08x: %d bytes of data, its size is %d", uint32(handle), len(x.Data), x.Public.DataSize)
	s.Indices = append(s.Indices, x)
}

// Bits of OBJECT_ATTRIBUTES (Global.h of the reference).
const (
	objectPublicOnly  = 1 << 0
	objectEndorsement = 1 << 1
	objectPlatform    = 1 << 2
	objectOwner       = 1 << 3
	objectPrimary     = 1 << 5
	objectSTClear     = 1 << 7
	objectSequence    = 1<<8 | 1<<9 | 1<<10
	objectParent      = 1 << 13
	objectOccupied    = 1 << 15
	objectDerivation  = 1 << 16
)

// wireAnyObject reads ANY_OBJECT and the OBJECT in it.
func (s *State) wireAnyObject(c *wire.Codec, handle tpm2.Handle) {
	var h header
	h.wire(c, "ANY_OBJECT", anyObjectMagic, otherVersion)
	var attributes uint32
	wire.U32(c, &attributes)
	check(c, attributes&objectOccupied != 0 && attributes&objectSequence == 0, ErrFormat, "object %08x: attributes %08x are not those of a persistent object", uint32(handle), attributes)
	o := Object{
		Handle:     handle,
		PublicOnly: attributes&objectPublicOnly != 0,
		Primary:    attributes&objectPrimary != 0,
		STClear:    attributes&objectSTClear != 0,
		Parent:     attributes&(objectParent|objectDerivation) != 0,
		Derivation: attributes&objectDerivation != 0,
		Hierarchy:  hierarchyOf(attributes),
	}
	o.wire(c)
	if h.version >= 2 {
		skip(c, "ANY_OBJECT")
	}
	s.Objects = append(s.Objects, o)
}

func hierarchyOf(attributes uint32) tpm2.Handle {
	switch {
	case attributes&objectEndorsement != 0:
		return tpm2.HandleEndorsement
	case attributes&objectPlatform != 0:
		return tpm2.HandlePlatform
	case attributes&objectOwner != 0:
		return tpm2.HandleOwner
	}
	return tpm2.HandleNull
}

// wire reads OBJECT.
func (o *Object) wire(c *wire.Codec) {
	var h header
	h.wire(c, "OBJECT", objectMagic, objectVersion)
	o.Public.Wire(c)
	o.wireSensitive(c)
	skip(c, "privateExponent") // what follows from the prime in the sensitive area
	c.Sized16(&o.QualifiedName, tpm2.MaxName)
	var evict tpm2.Handle
	wire.U32(c, &evict)
	check(c, evict == o.Handle, ErrFormat, "object %08x in the place of %08x", uint32(evict), uint32(o.Handle))
	c.Sized16(&o.Name, tpm2.MaxName)
	if h.version < 2 {
		return
	}
	block(c, "OBJECT", func(c *wire.Codec) {
		if h.version < 3 {
			return
		}
		pass(c, 1) // seedCompatLevel: of keys that it derives, which no version makes otherwise
		block(c, "hierarchy", func(c *wire.Codec) {
			if h.version >= 4 {
				wire.U32(c, &o.Hierarchy)
			}
		})
	})
}

// wireSensitive reads a TPMT_SENSITIVE. That of an object without one has a type
// that is none and is empty.
func (o *Object) wireSensitive(c *wire.Codec) {
	if !o.PublicOnly {
		o.Sensitive.Wire(c)
		return
	}
	var alg tpm2.Alg
	var auth, seed []byte
	wire.U16(c, &alg)
	c.Sized16(&auth, tpm2.MaxDigest)
	c.Sized16(&seed, tpm2.MaxDigest)
	check(c, len(auth)+len(seed) == 0, ErrFormat, "object %08x has no sensitive area, and parts of one", uint32(o.Handle))
}

// complete holds that what was read belongs together.
func (s *State) complete() error {
	for name, h := range map[string]*Hierarchy{"owner": &s.Owner, "endorsement": &s.Endorsement, "platform": &s.Platform} {
		if len(h.Seed) == 0 || len(h.Proof) == 0 {
			return fmt.Errorf("%w: the %s hierarchy has no seed or no proof: the TPM was never manufactured", ErrFormat, name)
		}
	}
	for i := range s.Objects {
		o := &s.Objects[i]
		name, err := o.Public.Name()
		if err != nil {
			return fmt.Errorf("%w: object %08x: %w", ErrFormat, uint32(o.Handle), err)
		}
		if string(name) != string(o.Name) {
			return fmt.Errorf("%w: object %08x: its Name is not that of its public area", ErrFormat, uint32(o.Handle))
		}
	}
	return nil
}
