package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// StartupIn is the parameters of TPM2_Startup.
type StartupIn struct {
	StartupType tpm2.StartupType
}

// Wire lays the parameters out.
func (in *StartupIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.StartupType.Wire(c)
}

// ShutdownIn is the parameters of TPM2_Shutdown.
type ShutdownIn struct {
	ShutdownType tpm2.StartupType
}

// Wire lays the parameters out.
func (in *ShutdownIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.ShutdownType.Wire(c)
}
