package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// PPCommandsIn is the parameters of TPM2_PP_Commands.
type PPCommandsIn struct {
	SetList   []tpm2.CC
	ClearList []tpm2.CC
}

// Wire lays the parameters out.
func (in *PPCommandsIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.List32(c, &in.SetList, tpm2.MaxCCs)
	c.Part(2)
	wire.List32(c, &in.ClearList, tpm2.MaxCCs)
}

// SetAlgorithmSetIn is the parameters of TPM2_SetAlgorithmSet.
type SetAlgorithmSetIn struct {
	AlgorithmSet uint32
}

// Wire lays the parameters out.
func (in *SetAlgorithmSetIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U32(c, &in.AlgorithmSet)
}
