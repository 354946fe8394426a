package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// ContextSaveOut is what is returned by TPM2_ContextSave.
type ContextSaveOut struct {
	Context tpm2.Context
}

// Wire lays the parameters out.
func (out *ContextSaveOut) Wire(c *wire.Codec) {
	out.Context.Wire(c)
}

// ContextLoadIn is the parameters of TPM2_ContextLoad.
type ContextLoadIn struct {
	Context tpm2.Context
}

// Wire lays the parameters out.
func (in *ContextLoadIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.Context.Wire(c)
}

// FlushContextIn is the parameters of TPM2_FlushContext.
type FlushContextIn struct {
	FlushHandle tpm2.Handle
}

// Wire lays the parameters out.
func (in *FlushContextIn) Wire(c *wire.Codec) {
	c.Part(1)
	handle(c, &in.FlushHandle, HandleContext)
}

// EvictControlIn is the parameters of TPM2_EvictControl.
type EvictControlIn struct {
	PersistentHandle tpm2.Handle
}

// Wire lays the parameters out.
func (in *EvictControlIn) Wire(c *wire.Codec) {
	c.Part(1)
	handle(c, &in.PersistentHandle, HandlePersistent)
}
