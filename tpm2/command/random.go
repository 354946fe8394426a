package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// GetRandomIn is the parameters of TPM2_GetRandom.
type GetRandomIn struct {
	BytesRequested uint16
}

// Wire lays the parameters out.
func (in *GetRandomIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U16(c, &in.BytesRequested)
}

// GetRandomOut is what is returned by TPM2_GetRandom.
type GetRandomOut struct {
	RandomBytes []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (out *GetRandomOut) Wire(c *wire.Codec) {
	c.Sized16(&out.RandomBytes, tpm2.MaxDigest)
}

// StirRandomIn is the parameters of TPM2_StirRandom.
type StirRandomIn struct {
	InData []byte // TPM2B_SENSITIVE_DATA
}

// Wire lays the parameters out.
func (in *StirRandomIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.InData, tpm2.MaxSymData)
}
