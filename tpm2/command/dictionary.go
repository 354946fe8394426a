package command

import "github.com/assay-project/assay/wire"

// DictionaryAttackParametersIn is the parameters of
// TPM2_DictionaryAttackParameters.
type DictionaryAttackParametersIn struct {
	NewMaxTries     uint32
	NewRecoveryTime uint32
	LockoutRecovery uint32
}

// Wire lays the parameters out.
func (in *DictionaryAttackParametersIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U32(c, &in.NewMaxTries)
	c.Part(2)
	wire.U32(c, &in.NewRecoveryTime)
	c.Part(3)
	wire.U32(c, &in.LockoutRecovery)
}
