package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// GetCapabilityIn is the parameters of TPM2_GetCapability.
type GetCapabilityIn struct {
	Capability    tpm2.Capability
	Property      uint32
	PropertyCount uint32
}

// Wire lays the parameters out.
func (in *GetCapabilityIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.Capability.Wire(c)
	c.Part(2)
	wire.U32(c, &in.Property)
	c.Part(3)
	wire.U32(c, &in.PropertyCount)
}

// GetCapabilityOut is what is returned by TPM2_GetCapability.
type GetCapabilityOut struct {
	MoreData       bool
	CapabilityData tpm2.CapabilityData
}

// Wire lays the parameters out.
func (out *GetCapabilityOut) Wire(c *wire.Codec) {
	c.Bool(&out.MoreData)
	out.CapabilityData.Wire(c)
}

// TestParmsIn is the parameters of TPM2_TestParms.
type TestParmsIn struct {
	Parameters tpm2.PublicParmsOf
}

// Wire lays the parameters out.
func (in *TestParmsIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.Parameters.Wire(c)
}
