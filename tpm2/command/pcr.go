package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// PCRExtendIn is the parameters of TPM2_PCR_Extend.
type PCRExtendIn struct {
	Digests tpm2.DigestValues
}

// Wire lays the parameters out.
func (in *PCRExtendIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.Digests.Wire(c)
}

// PCREventIn is the parameters of TPM2_PCR_Event.
type PCREventIn struct {
	EventData []byte // TPM2B_EVENT
}

// Wire lays the parameters out.
func (in *PCREventIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.EventData, tpm2.MaxBuffer)
}

// PCREventOut is what is returned by TPM2_PCR_Event.
type PCREventOut struct {
	Digests tpm2.DigestValues
}

// Wire lays the parameters out.
func (out *PCREventOut) Wire(c *wire.Codec) {
	out.Digests.Wire(c)
}

// PCRReadIn is the parameters of TPM2_PCR_Read.
type PCRReadIn struct {
	PCRSelectionIn tpm2.PCRSelections
}

// Wire lays the parameters out.
func (in *PCRReadIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.PCRSelectionIn.Wire(c)
}

// PCRReadOut is what is returned by TPM2_PCR_Read.
type PCRReadOut struct {
	PCRUpdateCounter uint32
	PCRSelectionOut  tpm2.PCRSelections
	PCRValues        []tpm2.Digest2B
}

// Wire lays the parameters out.
func (out *PCRReadOut) Wire(c *wire.Codec) {
	wire.U32(c, &out.PCRUpdateCounter)
	out.PCRSelectionOut.Wire(c)
	wire.List32(c, &out.PCRValues, maxDigests)
}

// PCRAllocateIn is the parameters of TPM2_PCR_Allocate.
type PCRAllocateIn struct {
	PCRAllocation tpm2.PCRSelections
}

// Wire lays the parameters out.
func (in *PCRAllocateIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.PCRAllocation.Wire(c)
}

// PCRAllocateOut is what is returned by TPM2_PCR_Allocate.
type PCRAllocateOut struct {
	AllocationSuccess bool
	MaxPCR            uint32
	SizeNeeded        uint32
	SizeAvailable     uint32
}

// Wire lays the parameters out.
func (out *PCRAllocateOut) Wire(c *wire.Codec) {
	c.Bool(&out.AllocationSuccess)
	wire.U32(c, &out.MaxPCR)
	wire.U32(c, &out.SizeNeeded)
	wire.U32(c, &out.SizeAvailable)
}

// PCRSetAuthPolicyIn is the parameters of TPM2_PCR_SetAuthPolicy.
type PCRSetAuthPolicyIn struct {
	AuthPolicy []byte   // TPM2B_DIGEST
	HashAlg    tpm2.Alg // may be AlgNull
	PCRNum     tpm2.Handle
}

// Wire lays the parameters out.
func (in *PCRSetAuthPolicyIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.AuthPolicy, tpm2.MaxDigest)
	c.Part(2)
	tpm2.WireHashOrNull(c, &in.HashAlg)
	c.Part(3)
	handle(c, &in.PCRNum, HandlePCR)
}

// PCRSetAuthValueIn is the parameters of TPM2_PCR_SetAuthValue.
type PCRSetAuthValueIn struct {
	Auth []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (in *PCRSetAuthValueIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
}
