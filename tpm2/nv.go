package tpm2

import "github.com/assay-project/assay/wire"

// NVAttributes is a TPMA_NV (Part 2, 13.4).
type NVAttributes uint32

// The bits of a TPMA_NV.
const (
	NVPPWrite        NVAttributes = 1 << 0
	NVOwnerWrite     NVAttributes = 1 << 1
	NVAuthWrite      NVAttributes = 1 << 2
	NVPolicyWrite    NVAttributes = 1 << 3
	NVPolicyDelete   NVAttributes = 1 << 10
	NVWriteLocked    NVAttributes = 1 << 11
	NVWriteAll       NVAttributes = 1 << 12
	NVWriteDefine    NVAttributes = 1 << 13
	NVWriteSTClear   NVAttributes = 1 << 14
	NVGlobalLock     NVAttributes = 1 << 15
	NVPPRead         NVAttributes = 1 << 16
	NVOwnerRead      NVAttributes = 1 << 17
	NVAuthRead       NVAttributes = 1 << 18
	NVPolicyRead     NVAttributes = 1 << 19
	NVNoDA           NVAttributes = 1 << 25
	NVOrderly        NVAttributes = 1 << 26
	NVClearSTClear   NVAttributes = 1 << 27
	NVReadLocked     NVAttributes = 1 << 28
	NVWritten        NVAttributes = 1 << 29
	NVPlatformCreate NVAttributes = 1 << 30
	NVReadSTClear    NVAttributes = 1 << 31

	nvTypeShift = 4
	nvReserved  = 0x3<<8 | 0x1f<<20
)

// NVType is a TPM_NT: what an NV index holds (Part 2, 13.2).
type NVType uint8

// The values of TPM_NT.
const (
	NVOrdinary NVType = 0x0
	NVCounter  NVType = 0x1
	NVBits     NVType = 0x2
	NVExtend   NVType = 0x4
	NVPinFail  NVType = 0x8
	NVPinPass  NVType = 0x9
)

// Has reports whether all bits of want are set.
func (a NVAttributes) Has(want NVAttributes) bool { return a&want == want }

// Type returns the TPM_NT field.
func (a NVAttributes) Type() NVType { return NVType(a >> nvTypeShift & 0xf) }

// Attributes returns a TPMA_NV with nothing but the type.
func (t NVType) Attributes() NVAttributes { return NVAttributes(t&0xf) << nvTypeShift }

// Wire lays out a TPMA_NV; reserved bits are zero. Which types there are is for
// TPM2_NV_DefineSpace to say (Part 3, 31.3).
func (a *NVAttributes) Wire(c *wire.Codec) {
	wire.U32(c, a)
	c.Check(*a&nvReserved == 0, wire.ErrReserved)
}

// NVExpAttributes is a TPMA_NV_EXP: a [NVAttributes] in its lower half and what
// external NV adds (Part 2, 13.5).
type NVExpAttributes uint64

// The bits of a TPMA_NV_EXP that a TPMA_NV has not.
const (
	NVExternalEncryption   NVExpAttributes = 1 << 32
	NVExternalIntegrity    NVExpAttributes = 1 << 33
	NVExternalAntiRollback NVExpAttributes = 1 << 34

	nvExpReserved = nvReserved | 0x1fffffff<<35
)

// Wire lays out a TPMA_NV_EXP; reserved bits are zero.
func (a *NVExpAttributes) Wire(c *wire.Codec) {
	wire.U64(c, a)
	c.Check(*a&nvExpReserved == 0, wire.ErrReserved)
}

// NVPublic is a TPMS_NV_PUBLIC (Part 2, 13.6).
type NVPublic struct {
	NVIndex    Handle
	NameAlg    Alg
	Attributes NVAttributes
	AuthPolicy []byte
	DataSize   uint16
}

// Wire lays out a TPMS_NV_PUBLIC of an ordinary index.
func (p *NVPublic) Wire(c *wire.Codec) { p.wire(c, KindNVIndex) }

func (p *NVPublic) wire(c *wire.Codec, kind HandleKind) {
	wireIndex(c, &p.NVIndex, kind)
	selector(c, (*algHash)(&p.NameAlg))
	p.Attributes.Wire(c)
	wirePolicyAndSize(c, &p.AuthPolicy, &p.DataSize)
}

func wireIndex(c *wire.Codec, h *Handle, kind HandleKind) {
	h.Wire(c)
	if c.Err() == nil && h.Kind() != kind {
		c.Fail(refusal{RCValue, wire.ErrRange})
	}
}

func wirePolicyAndSize(c *wire.Codec, policy *[]byte, size *uint16) {
	c.Sized16(policy, MaxDigest)
	wire.U16(c, size)
	// Part 2, 13.6: dataSize is at most MAX_NV_INDEX_SIZE.
	c.Check(*size <= MaxNVIndex, wire.ErrSize)
}

// NVPublicExp is a TPMS_NV_PUBLIC_EXP_ATTR (Part 2, 13.7).
type NVPublicExp struct {
	NVIndex    Handle
	NameAlg    Alg
	Attributes NVExpAttributes
	AuthPolicy []byte
	DataSize   uint16
}

// Wire lays out a TPMS_NV_PUBLIC_EXP_ATTR.
func (p *NVPublicExp) Wire(c *wire.Codec) {
	wireIndex(c, &p.NVIndex, KindExternalNV)
	selector(c, (*algHash)(&p.NameAlg))
	p.Attributes.Wire(c)
	wirePolicyAndSize(c, &p.AuthPolicy, &p.DataSize)
}

// NVPublic2 is a TPMT_NV_PUBLIC_2 (Part 2, 13.9). HandleType says which member
// is meant: External for [KindExternalNV], else Public.
type NVPublic2 struct {
	HandleType HandleKind
	Public     NVPublic // of an ordinary or a permanent index
	External   NVPublicExp
}

// Wire lays out a TPMT_NV_PUBLIC_2.
func (p *NVPublic2) Wire(c *wire.Codec) {
	wire.U8(c, &p.HandleType)
	if c.Err() != nil {
		return
	}
	switch p.HandleType {
	case KindNVIndex, KindPermanentNV:
		p.Public.wire(c, p.HandleType)
	case KindExternalNV:
		p.External.Wire(c)
	default:
		c.Fail(wire.ErrSelector)
	}
}

// NVPinCounter is a TPMS_NV_PIN_COUNTER_PARAMETERS: the contents of an index of
// type NVPinFail or NVPinPass (Part 2, 13.3).
type NVPinCounter struct{ PinCount, PinLimit uint32 }

// Wire lays out a TPMS_NV_PIN_COUNTER_PARAMETERS.
func (p *NVPinCounter) Wire(c *wire.Codec) {
	wire.U32(c, &p.PinCount)
	wire.U32(c, &p.PinLimit)
}
