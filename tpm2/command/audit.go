package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// SetCommandCodeAuditStatusIn is the parameters of
// TPM2_SetCommandCodeAuditStatus.
type SetCommandCodeAuditStatusIn struct {
	AuditAlg  tpm2.Alg // may be AlgNull
	SetList   []tpm2.CC
	ClearList []tpm2.CC
}

// Wire lays the parameters out.
func (in *SetCommandCodeAuditStatusIn) Wire(c *wire.Codec) {
	c.Part(1)
	tpm2.WireHashOrNull(c, &in.AuditAlg)
	c.Part(2)
	wire.List32(c, &in.SetList, tpm2.MaxCCs)
	c.Part(3)
	wire.List32(c, &in.ClearList, tpm2.MaxCCs)
}
