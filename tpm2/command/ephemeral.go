package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// CommitIn is the parameters of TPM2_Commit. P1 and S2 may be empty.
type CommitIn struct {
	P1 tpm2.ECCPoint // TPM2B_ECC_POINT
	S2 []byte        // TPM2B_SENSITIVE_DATA
	Y2 []byte        // TPM2B_ECC_PARAMETER
}

// Wire lays the parameters out.
func (in *CommitIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.P1, tpm2.MaxECCPoint)
	c.Part(2)
	c.Sized16(&in.S2, tpm2.MaxSymData)
	c.Part(3)
	c.Sized16(&in.Y2, tpm2.MaxECCKeyBytes)
}

// CommitOut is what is returned by TPM2_Commit.
type CommitOut struct {
	K       tpm2.ECCPoint // TPM2B_ECC_POINT
	L       tpm2.ECCPoint // TPM2B_ECC_POINT
	E       tpm2.ECCPoint // TPM2B_ECC_POINT
	Counter uint16
}

// Wire lays the parameters out.
func (out *CommitOut) Wire(c *wire.Codec) {
	c.Inner16(&out.K, tpm2.MaxECCPoint)
	c.Inner16(&out.L, tpm2.MaxECCPoint)
	c.Inner16(&out.E, tpm2.MaxECCPoint)
	wire.U16(c, &out.Counter)
}

// ECEphemeralIn is the parameters of TPM2_EC_Ephemeral.
type ECEphemeralIn struct {
	CurveID tpm2.ECCCurve
}

// Wire lays the parameters out.
func (in *ECEphemeralIn) Wire(c *wire.Codec) {
	c.Part(1)
	tpm2.WireCurve(c, &in.CurveID)
}

// ECEphemeralOut is what is returned by TPM2_EC_Ephemeral.
type ECEphemeralOut struct {
	Q       tpm2.ECCPoint // TPM2B_ECC_POINT
	Counter uint16
}

// Wire lays the parameters out.
func (out *ECEphemeralOut) Wire(c *wire.Codec) {
	c.Inner16(&out.Q, tpm2.MaxECCPoint)
	wire.U16(c, &out.Counter)
}
